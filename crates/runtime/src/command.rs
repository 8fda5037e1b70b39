//! Programs that answer one request as CGI programs do (RFC 3875, in the way of WAGI): a fresh instance for each call,
//! the request in its environment and on its standard input, the answer on its standard output. Modules of WASI preview 1
//! and components that export `wasi:cli/run` are the same here, but for how they are made and begun.

use crate::component::Program;
use crate::files::{Files, until_too_much};
use crate::host::Host;
use crate::instance::Place;
use crate::invoke::state::{CallFailure, CallState};
use crate::invoke::{Call, Held};
use crate::network::pipe::{self, End};
use crate::prepare::{causes, is_guests_fault, is_out_of_room, root_cause};
use crate::preview1::{Guest, Streams};
use crate::server::request;
use http_body_util::BodyExt;
use kittiwake_core::body::{self, Body};
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::log::LogStream;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::timeout_at;
use wasmtime::Store;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

mod body_stream;
mod environment;
pub(crate) mod head;
mod streams;

use body_stream::Output;
use head::{Head, HeadError};
use streams::{Stdin, Stdout};

/// Bytes that are read of an output at a time.
const READ_BYTES: usize = 16 * 1024;

/// What is known when the head of an answer was looked for.
enum Found {
    /// The head, and what came of the body.
    Head(Head, Vec<u8>),
    /// The output ended before; it was this.
    End(Vec<u8>),
    /// It is no answer.
    Bad(HeadError),
}

/// What a program is run in.
enum Made {
    /// A module, with what it finds in its file system.
    Module(Store<Guest>, Files),
    /// A component. What it keeps is looked at in its ticks.
    Component(Store<Host>),
}

impl Made {
    fn files(&self) -> Option<Files> {
        match self {
            Self::Module(_, files) => Some(files.clone()),
            Self::Component(_) => None,
        }
    }
}

impl Call {
    /// Lets a program answer a request.
    pub(crate) async fn answer_as_command(
        &self,
        request: http::Request<Body>,
        held: Held,
        place: Place,
    ) -> Result<http::Response<Body>, InvokeError> {
        let (parts, body) = request.into_parts();
        let (stdin, input) = pipe::pair();
        let (stdout, output) = pipe::pair();
        let guest = self.make_guest(&parts, &body, input, output)?;
        let task = tokio::spawn(self.clone().run_command(guest, body, stdin, (held, place)));
        let mut output = Output::new(stdout, task.abort_handle(), self);
        let found = tokio::select! {
            biased;
            () = self.state.body_too_large() => {
                self.shared.metrics.failed("body_too_large");
                return Err(InvokeError::BodyTooLarge);
            }
            found = timeout_at(self.head_deadline(), read_head(&mut output)) => found,
        };
        match found {
            Ok(Found::Head(head, begun)) => Ok(self.command_response(head, begun, output).await),
            Ok(Found::End(printed)) => Err(self.ended_without_head(&printed, task).await),
            Ok(Found::Bad(error)) => Err(self.bad_output(&error)),
            Err(_) => Err(self.no_answer_in_time()),
        }
    }

    fn make_guest(
        &self,
        parts: &http::request::Parts,
        body: &Body,
        input: End,
        output: End,
    ) -> Result<Made, InvokeError> {
        let (revision, log) = (&self.revision, &self.function.log);
        let engine = self.function.loaded.engine.engine();
        let length = http_body::Body::size_hint(body).exact();
        let program = environment::program(revision, parts, length);
        let (stdin, stdout) = (Stdin(Arc::new(input)), Stdout(Arc::new(output)));
        let streams = move |builder: &mut WasiCtxBuilder| {
            builder.stdin(stdin).stdout(stdout);
        };
        if let Program::Cli(_) = &self.function.loaded.program {
            let outside = &self.function.outside;
            let mut host = Host::new(revision, &self.shared.file_root, log, outside);
            host.run_as(&program, revision, log, streams);
            host.limiter.count_in(&self.function.meter.memory);
            return Ok(Made::Component(host.into_store(engine)));
        }
        let streams = Streams::Given(Box::new(streams));
        let internal = |error: &dyn std::fmt::Display| {
            self.shared.metrics.failed("internal");
            InvokeError::Internal(error.to_string())
        };
        let files = self.shared.file_root.instance(revision);
        let files = files.map_err(|error| internal(&error))?;
        let guest = Guest::new(revision, &program, streams, Arc::default(), files.clone(), log);
        let mut guest = guest.map_err(|error| internal(&error))?;
        guest.limiter.count_in(&self.function.meter.memory);
        Ok(Made::Module(guest.into_store(engine), files))
    }

    /// The program from its first instruction to its end, with the body on its way in.
    async fn run_command(
        self,
        guest: Made,
        body: Body,
        stdin: End,
        // Given back after the guest.
        _held: (Held, Place),
    ) -> wasmtime::Result<()> {
        let mut made = guest;
        let files = made.files();
        let meter = self.function.meter.clone();
        let program = meter.run(self.start(&mut made), |waited| self.state.set_waited(waited));
        let feeding = async {
            feed(body, stdin, self.revision.limits.request_body.0, &self.state).await;
            std::future::pending::<Infallible>().await
        };
        let ended = async {
            tokio::select! {
                biased;
                result = program => result,
                problem = until_too_much(files) => Err(problem.into()),
                never = feeding => match never {},
            }
        };
        let result = match timeout_at(self.deadline, ended).await {
            Ok(result) => result,
            // Whoever waits for its head says so.
            Err(_) if !self.state.has_begun() => Ok(()),
            Err(_) => {
                self.state.fail(CallFailure::TimedOut);
                self.timed_out();
                Ok(())
            }
        };
        if let Err(error) = &result
            && !error.is::<I32Exit>()
        {
            // Said before the instance goes, which ends its output.
            self.state.fail(CallFailure::Trapped(root_cause(error)));
        }
        drop(made);
        result
    }

    /// Makes the instance and runs its program.
    async fn start(&self, made: &mut Made) -> wasmtime::Result<()> {
        self.state.set_begun();
        let clock = &self.shared.clock;
        let begun = clock.elapsed();
        let instantiated = || {
            self.state.set_instantiated(clock.elapsed().saturating_sub(begun));
        };
        match (made, &self.function.loaded.program) {
            (Made::Module(wasm_store, _), Program::Module(module)) => {
                let instance = module.pre.instantiate_async(&mut *wasm_store).await?;
                instantiated();
                let start = instance.get_typed_func::<(), ()>(&mut *wasm_store, "_start")?;
                start.call_async(wasm_store, ()).await
            }
            (Made::Component(wasm_store), Program::Cli(pre)) => {
                let command = pre.instantiate_async(&mut *wasm_store).await?;
                instantiated();
                let ended = command.wasi_cli_run().call_run(wasm_store).await?;
                // What a shell would see of it.
                ended.map_err(|()| I32Exit(1).into())
            }
            _ => Err(wasmtime::Error::msg("it is no program")),
        }
    }

    async fn command_response(&self, head: Head, begun: Vec<u8>, mut output: Output) -> http::Response<Body> {
        self.function
            .succeeded(&self.revision, &self.shared.reporter, &self.shared.answered);
        let mut response = http::Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        request::strip(response.headers_mut());
        if let Some(whole) = output.take_whole(&begun) {
            return response.map(|()| body::full(whole));
        }
        output.begin_with(begun);
        response.map(|()| output.boxed_unsync())
    }

    /// The output ended before the head did. So does the program, at once or in a moment.
    async fn ended_without_head(
        &self,
        printed: &[u8],
        task: tokio::task::JoinHandle<wasmtime::Result<()>>,
    ) -> InvokeError {
        let ended = match timeout_at(self.head_deadline(), task).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return InvokeError::Internal(error.to_string()),
            Err(_) => return InvokeError::TimedOut,
        };
        if self.state.failure() == Some(&CallFailure::TimedOut) {
            return InvokeError::TimedOut;
        }
        if !self.state.has_begun() {
            return self.no_answer_in_time();
        }
        let Err(error) = ended else {
            return self.no_head(printed);
        };
        if is_out_of_room(&error) {
            return self.out_of_room(&error);
        }
        match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => self.no_head(printed),
            Some(I32Exit(code)) => {
                let message = format!("it exited with code {code}");
                self.failed_before_head(&message, &message, true);
                InvokeError::Trapped(message)
            }
            None => {
                let message = root_cause(&error);
                self.failed_before_head(&causes(&error), &message, is_guests_fault(&error));
                InvokeError::Trapped(message)
            }
        }
    }

    fn failed_before_head(&self, told: &str, message: &str, is_guests_fault: bool) {
        self.shared.metrics.failed("trap");
        self.function
            .log
            .write(LogStream::Platform, &format!("the function failed: {told}"));
        if is_guests_fault {
            self.function
                .trapped(&self.revision, &self.shared.reporter, message);
        }
    }

    fn no_head(&self, printed: &[u8]) -> InvokeError {
        if printed.is_empty() {
            self.shared.metrics.failed("no_response");
            self.function.log.write(
                LogStream::Platform,
                "the function ended without an answer: it printed nothing",
            );
            return InvokeError::NoResponse;
        }
        let text: String = String::from_utf8_lossy(printed).chars().take(80).collect();
        let line = printed.split(|byte| *byte == b'\n').count();
        self.bad_output(&HeadError::NoHeader { line, text })
    }

    fn bad_output(&self, error: &HeadError) -> InvokeError {
        self.shared.metrics.failed("bad_answer");
        let message = error.to_string();
        self.function.log.write(
            LogStream::Platform,
            &format!("the function gave no answer: {message}"),
        );
        InvokeError::BadGateway(message)
    }
}

/// Lets the program read the body, then its end. A program that ends before leaves the rest.
async fn feed(mut body: Body, stdin: End, limit: u64, state: &CallState) {
    let mut left = limit;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(mut data) = frame.into_data() else { continue };
        match left.checked_sub(data.len() as u64) {
            Some(rest) => left = rest,
            None => return state.set_body_too_large(),
        }
        while !data.is_empty() {
            match std::future::poll_fn(|cx| stdin.poll_write(cx, &data)).await {
                Ok(count) => drop(data.split_to(count)),
                Err(_) => return,
            }
        }
    }
}

/// Reads until the head is whole.
async fn read_head(output: &mut Output) -> Found {
    let mut read = Vec::new();
    loop {
        let mut buffer = vec![0; READ_BYTES];
        let count = output.read(&mut buffer).await;
        if count == 0 {
            return Found::End(read);
        }
        read.extend(buffer.iter().take(count));
        match head::parse(&read) {
            Ok(Some(head)) => {
                let rest = read.split_off(head.body_at.min(read.len()));
                return Found::Head(head, rest);
            }
            Ok(None) => {}
            Err(error) => return Found::Bad(error),
        }
    }
}
