//! The work that servers are compared at: what is asked, and what must come back.

use crate::peers::SHARED_COMPONENT;
use bytes::Bytes;
use http::Method;
use kittiwake_testkit::guest;
use std::path::{Path, PathBuf};

/// A basket for the JSON work, and its quote as every server must answer it.
const BASKET: &[u8] =
    br#"{"items":[{"id":"tea","quantity":2},{"id":"cup","quantity":1},{"id":"kettle","quantity":3}]}"#;
const QUOTE: &[u8] = b"{\"items\":[{\"id\":\"tea\",\"line_cents\":1780,\"quantity\":2},\
    {\"id\":\"cup\",\"line_cents\":1450,\"quantity\":1},{\"id\":\"kettle\",\"line_cents\":17700,\"quantity\":3}],\
    \"total_cents\":20930}\n";

/// What a server is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// A short text
    Hello,
    /// Send 1 KiB back
    #[value(name = "echo-1k")]
    Echo1K,
    /// Send 64 KiB back
    #[value(name = "echo-64k")]
    Echo64K,
    /// Send 1 MiB back
    #[value(name = "echo-1m")]
    Echo1M,
    /// Read a small JSON body, add it up, answer with JSON
    Json,
    /// Compute fib(27) by recursion
    Fib,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Hello,
        Self::Echo1K,
        Self::Echo64K,
        Self::Echo1M,
        Self::Json,
        Self::Fib,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Echo1K => "echo-1k",
            Self::Echo64K => "echo-64k",
            Self::Echo1M => "echo-1m",
            Self::Json => "json",
            Self::Fib => "fib",
        }
    }

    /// The request, the same for each server.
    pub fn call(self) -> Call {
        match self {
            Self::Hello => Call::get("/", b"Hello World!\n"),
            Self::Echo1K => Call::echo(1 << 10),
            Self::Echo64K => Call::echo(1 << 16),
            Self::Echo1M => Call::echo(1 << 20),
            Self::Json => Call {
                method: Method::POST,
                path: "/quotes",
                body: Bytes::from_static(BASKET),
                answer: Bytes::from_static(QUOTE),
            },
            Self::Fib => Call::get("/fib", b"196418\n"),
        }
    }

    /// The component of WASI 0.3 that does it, if there is one.
    pub fn shared_component(self) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::Hello | Self::Echo1K | Self::Echo64K | Self::Echo1M => {
                absolute(SHARED_COMPONENT.into()).map(Some)
            }
            Self::Json | Self::Fib => Ok(None),
        }
    }

    /// The component that does it; `hello` may be another one than the example. Made in `folder` if there is none.
    pub fn component(self, hello: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = match self {
            Self::Hello => hello.to_owned(),
            Self::Echo1K | Self::Echo64K | Self::Echo1M => "examples/echo/echo.wasm".into(),
            Self::Json => "examples/json-rest/json-rest.wasm".into(),
            Self::Fib => {
                let path = folder.join("fib.wasm");
                std::fs::write(&path, guest::fib())?;
                path
            }
        };
        absolute(path)
    }
}

fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .map_err(|error| anyhow::anyhow!("{}: {error}; run this in the checkout", path.display()))
}

/// A request and the only right answer to it, with status 200.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub path: &'static str,
    pub body: Bytes,
    pub answer: Bytes,
}

impl Call {
    /// A GET of a text.
    pub fn get(path: &'static str, answer: &'static [u8]) -> Self {
        Self {
            method: Method::GET,
            path,
            body: Bytes::new(),
            answer: Bytes::from_static(answer),
        }
    }

    fn echo(length: usize) -> Self {
        let body: Bytes = (0..length).map(|index| (index % 251) as u8).collect();
        Self {
            method: Method::POST,
            path: "/echo",
            answer: body.clone(),
            body,
        }
    }
}
