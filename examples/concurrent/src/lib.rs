//! A function of WASI 0.3, whose instances may serve many calls at a time. What it keeps in memory (here: two counters)
//! is then shared by those calls, and so is its fate: when one of them traps, all calls of its instance fail.
//!
//! - `/` greets.
//! - `/calls` tells which call of its instance this is, and how many are in it now.
//! - `/wait?ms=N` does so after N milliseconds.
//! - `/echo` sends the body back as it comes.
//! - `/forward?to=HOST` has another server answer, which `kittiwake.dev/allowed-outbound` must name.
//! - `/crash` traps; `/crash-later` does so after it has sent a part of its response.
//! - `/spin` computes for ever.
//! - `/refuse` answers with an error of wasi:http instead of a response.
//! - `/folders` tells which folders it finds, and `/file?NAME` what a file in the first of them holds.

use std::cell::Cell;
use wasip3::clocks::monotonic_clock;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::{wit_future, wit_stream};

struct Function;

wasip3::http::service::export!(Function);

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// A call that is in this instance until it is dropped.
struct Inside {
    number: u32,
}

impl Inside {
    fn enter() -> Self {
        CALLS.set(CALLS.get() + 1);
        INSIDE.set(INSIDE.get() + 1);
        Self { number: CALLS.get() }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() - 1);
    }
}

impl wasip3::exports::http::handler::Guest for Function {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let inside = Inside::enter();
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/wait" => {
                let millis = query.strip_prefix("ms=").and_then(|n| n.parse().ok()).unwrap_or(100_u64);
                monotonic_clock::wait_for(millis * 1_000_000).await;
            }
            "/" => return Ok(answer(b"Hello World!\n".to_vec(), inside)),
            "/echo" => return Ok(echo(request, inside)),
            "/forward" => return forward(request, query.trim_start_matches("to="), inside).await,
            "/crash" => panic!("asked to"),
            "/crash-later" => return Ok(crash_later(inside)),
            "/spin" => loop {
                std::hint::black_box(&inside);
            },
            "/folders" => {
                let folders = get_directories().into_iter();
                let names: String = folders.map(|(_, name)| name + "\n").collect();
                return Ok(answer(names.into_bytes(), inside));
            }
            "/file" => {
                let read = read(query).await;
                return Ok(answer(read.unwrap_or_else(|error| format!("{error}\n").into_bytes()), inside));
            }
            "/refuse" => return Err(ErrorCode::InternalError(Some("asked to".to_owned()))),
            _ => {}
        }
        let text = format!("call {} of this instance, {} now in it\n", inside.number, INSIDE.get());
        Ok(answer(text.into_bytes(), inside))
    }
}

/// What a file in the first folder holds.
async fn read(name: &str) -> Result<Vec<u8>, String> {
    let (folder, _) = get_directories().into_iter().next().ok_or("there is no folder")?;
    let flags = (PathFlags::SYMLINK_FOLLOW, OpenFlags::empty(), DescriptorFlags::READ);
    let file = folder.open_at(flags.0, name.to_owned(), flags.1, flags.2).await;
    let file = file.map_err(|error| format!("{name:?} cannot be opened: {error:?}"))?;
    let (bytes, ended) = file.read_via_stream(0);
    let bytes = bytes.collect().await;
    ended.await.map_err(|error| format!("{name:?} cannot be read: {error:?}"))?;
    Ok(bytes)
}

/// A response of known length.
fn answer(text: Vec<u8>, inside: Inside) -> Response {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let _ = headers.set("content-length", &[text.len().to_string().into_bytes()]);
    let (mut body, contents) = wit_stream::new();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(contents), no_trailers);
    wit_bindgen::spawn(async move {
        // The caller may have gone; there is nobody left to tell.
        let _ = body.write_all(text).await;
        drop(inside);
    });
    response
}

/// The request's body and trailers; no byte of it passes through this function's memory.
fn echo(request: Request, inside: Inside) -> Response {
    let (done, read_to_the_end) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Request::consume_body(request, read_to_the_end);
    let (response, sent) = Response::new(Fields::new(), Some(contents), trailers);
    wit_bindgen::spawn(async move {
        let _ = done.write(sent.await).await;
        drop(inside);
    });
    response
}

/// What another server answers to the same method and body.
async fn forward(request: Request, to: &str, inside: Inside) -> Result<Response, ErrorCode> {
    let method = request.get_method();
    let (done, read_to_the_end) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Request::consume_body(request, read_to_the_end);
    let (onward, sent) = Request::new(Fields::new(), Some(contents), trailers, None);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    onward.set_method(&method).map_err(invalid)?;
    onward.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    onward.set_authority(Some(to)).map_err(invalid)?;
    onward.set_path_with_query(Some("/")).map_err(invalid)?;
    let response = client::send(onward).await?;
    wit_bindgen::spawn(async move {
        let _ = done.write(sent.await).await;
        drop(inside);
    });
    Ok(response)
}

fn crash_later(inside: Inside) -> Response {
    let (mut body, contents) = wit_stream::new();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(contents), no_trailers);
    wit_bindgen::spawn(async move {
        let _ = body.write_all(b"partial".to_vec()).await;
        monotonic_clock::wait_for(50_000_000).await;
        drop(inside);
        panic!("asked to");
    });
    response
}
