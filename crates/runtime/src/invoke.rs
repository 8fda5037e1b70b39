//! One call: one fresh instance, its limits, its answer. Components of WASI 0.3 are called by [`service`] instead.
//!
//! The guest's future is first polled right here, in the task of whoever called: most calls end without any other task,
//! timer or wake-up. Only a guest that still runs when the head of its response is known gets a task of its own, so
//! that its time limit holds even while the client reads nothing.

use crate::component::{Loaded, Program};
use crate::function::{Function, Running};
use crate::gate::Refused;
use crate::host::Host;
use crate::instance::{Handler, Instance, Place};
use crate::prepare::{causes, is_guests_fault, is_out_of_room, root_cause};
use crate::runtime::{BroughtUp, Shared};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use kittiwake_core::artifact::{FunctionKind, PrepareError};
use kittiwake_core::body::{self, Body};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::inside::Hops;
use kittiwake_core::invoke::{CallReport, InvokeError};
use kittiwake_core::log::LogStream;
use kittiwake_core::report::{Health, Report};
use kittiwake_core::revision::{Limits, RevisionSpec};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wasmtime::error::Context as _;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode as WasiErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

mod request_body;
mod response_body;
mod service;
pub(crate) mod state;

use request_body::RequestBody;
use response_body::{Collapsed, Guest as BodyGuest, ResponseBody, Taken};
use state::{CallFailure, CallState};

/// When a caller that was refused for lack of room may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the guest handed to `response-outparam.set`.
type Head = Result<http::Response<HyperOutgoingBody>, WasiErrorCode>;
/// The guest, from instantiation to the end of its handler.
type Guest = BoxFuture<'static, Result<(), wasmtime::Error>>;

/// One call, as its parts see it.
#[derive(Clone)]
pub(crate) struct Call {
    pub shared: Arc<Shared>,
    pub function: Arc<Function>,
    pub revision: Arc<RevisionSpec>,
    pub state: Arc<CallState>,
    pub deadline: Instant,
}

/// What must be held while a call runs.
pub(crate) struct Held {
    _running: Running,
}

/// Where the call's instance comes from.
enum Source {
    /// It is made here.
    Fresh(Place),
    /// It was kept from an earlier call.
    Kept(Box<Instance>),
}

/// What comes first of a guest: its head, with the guest if it still runs, or its end.
enum First {
    Head(Head, Option<Guest>, Result<(), wasmtime::Error>),
    End(Result<(), wasmtime::Error>),
    BodyTooLarge,
}

impl Shared {
    /// See [`kittiwake_core::invoke::Invoke::invoke`].
    pub(crate) async fn call(
        self: Arc<Self>,
        revision: Arc<RevisionSpec>,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, InvokeError> {
        if http_body::Body::size_hint(request.body()).lower() > revision.limits.request_body.0 {
            self.metrics.failed("body_too_large");
            return Err(InvokeError::BodyTooLarge);
        }
        let start = Instant::now();
        let deadline = start + revision.limits.timeout;
        let (function, cold_start) = match self.functions.get(&revision.uid) {
            Some(function) => (function, None),
            None => {
                let head_deadline = start + revision.limits.head_limit();
                self.bring_up(&revision, head_deadline).await?
            }
        };
        let begun = self.clock.elapsed();
        let call = Call {
            function,
            revision,
            state: Arc::default(),
            deadline,
            shared: self,
        };
        let held = Held {
            _running: call.function.run(begun),
        };
        // The usual way is last and has the least room: all of this is moved for each call.
        let (mut response, queued, reused) = if call.function.loaded.is_service() {
            let queued = call.shared.clock.elapsed().saturating_sub(begun);
            let (response, reused) = call.answer_as_service(request, held).boxed().await?;
            (response, queued, reused)
        } else if call.function.loaded.kind_for(&call.revision) != FunctionKind::Component {
            let place = call.place().await?;
            let queued = call.shared.clock.elapsed().saturating_sub(begun);
            let answer = call.answer_as_program(request, held, place).boxed().await?;
            (answer, queued, false)
        } else {
            let source = call.source().await?;
            let reused = matches!(source, Source::Kept(_));
            let queued = call.shared.clock.elapsed().saturating_sub(begun);
            (call.answer(request, held, source).await?, queued, reused)
        };
        let queued = queued.saturating_add(call.state.waited());
        let instantiated = call.state.instantiated();
        let cold_start = cold_start.map(|loading| loading.saturating_add(instantiated));
        let report = CallReport {
            cold_start,
            queued,
            instantiated,
            reused,
        };
        response.extensions_mut().insert(report);
        Ok(response)
    }

    /// Loads a revision that is at zero, until `deadline`; calls that come together share the work and are told the
    /// time it took. `None` when someone else had just done it.
    pub(crate) async fn bring_up(
        self: &Arc<Self>,
        revision: &Arc<RevisionSpec>,
        deadline: Instant,
    ) -> Result<(Arc<Function>, Option<Duration>), InvokeError> {
        let load = || Arc::clone(self).load(Arc::clone(revision)).boxed();
        let start = || {
            // Whoever starts the load also leaves a task waiting for it: callers with short time limits come and go,
            // and none of them would ever see a load that is dropped with its last caller and begun anew.
            let (this, key, again) = (Arc::clone(self), Arc::clone(&revision.uid), load());
            tokio::spawn(async move { this.bringing_up.run(key, || again).await.map(drop) });
            load()
        };
        let loading = self.bringing_up.run(Arc::clone(&revision.uid), start);
        match timeout_at(deadline, loading).await {
            Ok(brought_up) => Ok(brought_up?),
            Err(_) => {
                self.metrics.failed("timeout");
                self.logs.revision(&revision.key).write(
                    LogStream::Platform,
                    "a call was given up because the function was not loaded within the call's time limit; loading goes on",
                );
                Err(InvokeError::TimedOut)
            }
        }
    }

    async fn load(self: Arc<Self>, revision: Arc<RevisionSpec>) -> BroughtUp {
        if let Some(function) = self.functions.get(&revision.uid) {
            return Ok((function, None));
        }
        let begun = self.clock.elapsed();
        let mut found = self.programs(&revision).await;
        // The engine may have been replaced meanwhile; then so must be what was loaded for the old one.
        if let Ok((loaded, sidecars)) = &found {
            let components = self.components.load();
            let mut all = std::iter::once(loaded).chain(sidecars);
            if !all.all(|loaded| components.is_engine_of(loaded)) {
                found = self.programs(&revision).await;
            }
        }
        let programs = found.inspect_err(|error| self.tell_if_lost(&revision, error))?;
        let log = self.logs.revision(&revision.key);
        let answered = self.answered.contains(&revision.uid);
        let function = Arc::new(Function::new(
            &revision,
            programs,
            log,
            &self.turns,
            &self.world,
            &*self.clock,
            answered,
        ));
        self.functions
            .insert(Arc::clone(&revision.uid), Arc::clone(&function));
        Ok((function, Some(self.clock.elapsed().saturating_sub(begun))))
    }
}

impl Shared {
    /// The program of a revision, and those of its sidecars.
    async fn programs(
        self: &Arc<Self>,
        revision: &RevisionSpec,
    ) -> Result<(Arc<Loaded>, Vec<Arc<Loaded>>), PrepareError> {
        let (_, loaded) = self.artifact(&revision.image, &[], &|_| ()).await?;
        let mut sidecars = Vec::new();
        for sidecar in &revision.sidecars {
            let found = self.artifact(&sidecar.image, &[], &|_| ()).await;
            sidecars.push(found.map_err(|error| error.of_sidecar(&sidecar.name))?.1);
        }
        Ok((loaded, sidecars))
    }

    /// An artifact that left the cache may need the revision's own credentials, which only the controllers know.
    fn tell_if_lost(&self, revision: &RevisionSpec, error: &PrepareError) {
        if matches!(
            error.code,
            ErrorCode::RegistryUnauthorized | ErrorCode::ArtifactNotFound
        ) {
            self.reporter.report(Report {
                revision: revision.key.clone(),
                uid: Arc::clone(&revision.uid),
                health: Health::ArtifactLost,
            });
        }
    }
}

impl Call {
    fn limits(&self) -> &Limits {
        &self.revision.limits
    }

    /// Finds an instance that was kept, or waits for the slot of a new one.
    async fn source(&self) -> Result<Source, InvokeError> {
        if self.keeps_instances()
            && let Some(kept) = self.function.waiting.take(&self.revision)
        {
            return Ok(Source::Kept(Box::new(kept)));
        }
        Ok(Source::Fresh(self.place().await?))
    }

    /// Waits for the slot of a new instance.
    async fn place(&self) -> Result<Place, InvokeError> {
        let engine = &self.function.loaded.engine;
        let slot = self.shared.slot(engine, self.head_deadline()).await;
        let slot = slot.map_err(|refused| self.refused(refused))?;
        Ok(Place::new(slot, &self.shared.metrics))
    }

    /// A program answers by itself; a server's instances are called, not its revision.
    async fn answer_as_program(
        &self,
        request: http::Request<Body>,
        held: Held,
        place: Place,
    ) -> Result<http::Response<Body>, InvokeError> {
        if self.function.loaded.kind_for(&self.revision) == FunctionKind::Server {
            let why = "a function that listens by itself is called through its instances";
            return Err(InvokeError::Internal(why.to_owned()));
        }
        self.answer_as_command(request, held, place).await
    }

    fn refused(&self, refused: Refused) -> InvokeError {
        self.overloaded(match refused {
            Refused::QueueFull => "queue_full",
            Refused::DeadlinePassed => "no_slot_in_time",
        })
    }

    fn overloaded(&self, why: &str) -> InvokeError {
        self.shared.metrics.failed(why);
        InvokeError::Overloaded {
            retry_after: RETRY_AFTER,
        }
    }

    fn keeps_instances(&self) -> bool {
        self.revision.isolation.keeps_instances()
    }

    pub(crate) fn head_deadline(&self) -> Instant {
        let limits = self.limits();
        self.deadline - limits.timeout + limits.head_limit()
    }

    async fn answer(
        &self,
        request: http::Request<Body>,
        held: Held,
        source: Source,
    ) -> Result<http::Response<Body>, InvokeError> {
        let (sender, mut receiver) = oneshot::channel();
        let state = Arc::clone(&self.state);
        let mut guest: Guest = Box::pin(self.function.meter.clone().run(
            self.clone().run_guest(request, sender, held, source),
            move |waited| state.set_waited(waited),
        ));
        let first = std::future::poll_fn(|cx| {
            let end = guest.as_mut().poll(cx);
            if self.state.is_body_too_large() {
                return Poll::Ready(First::BodyTooLarge);
            }
            // Only the guest sends, and it was polled just now: there is nothing to be woken for.
            match (receiver.try_recv(), end) {
                (Ok(head), Poll::Ready(end)) => Poll::Ready(First::Head(head, None, end)),
                (Ok(head), Poll::Pending) => {
                    let guest = std::mem::replace(&mut guest, Box::pin(std::future::ready(Ok(()))));
                    Poll::Ready(First::Head(head, Some(guest), Ok(())))
                }
                (Err(_), Poll::Ready(end)) => Poll::Ready(First::End(end)),
                (Err(_), Poll::Pending) => Poll::Pending,
            }
        });
        let first = timeout_at(self.head_deadline(), first).await;
        match first {
            Ok(First::Head(head, guest, end)) => self.respond(head, guest, end),
            Ok(First::End(end)) => Err(self.ended_without_answer(end)),
            Ok(First::BodyTooLarge) => {
                self.shared.metrics.failed("body_too_large");
                Err(InvokeError::BodyTooLarge)
            }
            Err(_) => Err(self.no_answer_in_time()),
        }
    }

    /// Lets an instance handle the request. Everything the call holds is given back after its store.
    async fn run_guest(
        self,
        request: http::Request<Body>,
        sender: oneshot::Sender<Head>,
        held: Held,
        source: Source,
    ) -> Result<(), wasmtime::Error> {
        self.state.set_begun();
        let _held = held;
        let mut instance = match source {
            Source::Kept(instance) => *instance,
            Source::Fresh(place) => self.instantiate(place).await?,
        };
        let result = self.handle(&mut instance, request, sender).await;
        if let Some(trap) = result.as_ref().err().and_then(trap_message) {
            // Said before the instance goes, which ends the response.
            self.state.fail(CallFailure::Trapped(trap));
        }
        if self.keeps_instances() && result.is_ok() {
            let (waiting, metrics) = (&self.function.waiting, &self.shared.metrics);
            waiting.put(instance, &self.revision, self.shared.clock.elapsed(), metrics);
        }
        result
    }

    async fn instantiate(&self, place: Place) -> Result<Instance, wasmtime::Error> {
        let begun = self.shared.clock.elapsed();
        let (spec, loaded) = (&self.revision, &self.function.loaded);
        let (files, function) = (&self.shared.file_root, &self.function);
        let mut host = Host::new(spec, files, &function.log, &function.outside);
        host.limiter.count_in(&self.function.meter.memory);
        let mut wasm_store = host.into_store(loaded.engine.engine());
        let handler = match &loaded.program {
            Program::Direct(direct) => Handler::Core(direct.instantiate(&mut wasm_store).await?),
            Program::Handler(ProxyPre::P2(pre)) => {
                Handler::Component(pre.instantiate_async(&mut wasm_store).boxed().await?)
            }
            Program::Handler(ProxyPre::P3(_)) | Program::Cli(_) | Program::Module(_) => {
                return Err(wasmtime::Error::msg("services are called in another way"));
            }
        };
        self.state
            .set_instantiated(self.shared.clock.elapsed().saturating_sub(begun));
        Ok(place.hold(wasm_store, handler))
    }

    async fn handle(
        &self,
        instance: &mut Instance,
        request: http::Request<Body>,
        sender: oneshot::Sender<Head>,
    ) -> Result<(), wasmtime::Error> {
        let Instance {
            wasm_store, handler, ..
        } = instance;
        let hops = Hops::of(&request);
        let (mut parts, body) = request.into_parts();
        name_host(&mut parts);
        let scheme = match parts.uri.scheme() {
            Some(scheme) if *scheme == http::uri::Scheme::HTTPS => Scheme::Https,
            _ => Scheme::Http,
        };
        let body = RequestBody::new(body, self.limits().request_body.0, Arc::clone(&self.state));
        let host = wasm_store.data_mut();
        host.set_hops(hops);
        let mut http = host.http();
        let request = http
            .new_incoming_request(scheme, http::Request::from_parts(parts, body))
            .context("the request cannot be handed to the function")?;
        let response = http.new_response_outparam(sender)?;
        match handler {
            Handler::Core(handler) => handler.call(wasm_store, &request, &response).await,
            Handler::Component(proxy) => {
                let handler = proxy.wasi_http_incoming_handler();
                let calling = handler.call_handle(&mut *wasm_store, request, response);
                calling.boxed().await
            }
        }
    }

    /// The guest has set its response.
    fn respond(
        &self,
        head: Head,
        guest: Option<Guest>,
        end: Result<(), wasmtime::Error>,
    ) -> Result<http::Response<Body>, InvokeError> {
        if let Err(error) = end
            && let Some(trap) = trap_message(&error)
        {
            // Nothing was sent yet, so the client can be told.
            self.trapped(&error, &trap);
            return Err(InvokeError::Trapped(trap));
        }
        let response = match head {
            Ok(response) => response,
            Err(code) => return Err(self.answered_with_error(&code)),
        };
        self.function
            .succeeded(&self.revision, &self.shared.reporter, &self.shared.answered);
        let (parts, body) = response.into_parts();
        if let Some(guest) = guest {
            let guest = tokio::spawn(self.clone().see_through(guest)).abort_handle();
            return Ok(self.stream(parts, Taken::new(), body, Some(BodyGuest::Task(guest))));
        }
        Ok(match response_body::collapse(body) {
            Collapsed::Whole(bytes) => http::Response::from_parts(parts, body::full(bytes)),
            Collapsed::Partly(taken, rest) => self.stream(parts, taken, rest, None),
        })
    }

    /// A response whose body is passed on as it comes.
    fn stream(
        &self,
        parts: http::response::Parts,
        taken: Taken,
        rest: HyperOutgoingBody,
        guest: Option<BodyGuest>,
    ) -> http::Response<Body> {
        let expected = parts
            .headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse().ok());
        let body = ResponseBody::new(
            taken,
            rest,
            Arc::clone(&self.state),
            guest,
            self.limits().idle_timeout,
            expected,
        );
        http::Response::from_parts(parts, body.boxed_unsync())
    }

    /// Runs a guest that has answered but not ended, within its time limit.
    async fn see_through(self, mut guest: Guest) {
        match timeout_at(self.deadline, guest.as_mut()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if let Some(trap) = trap_message(&error) {
                    self.trapped(&error, &trap);
                }
            }
            Err(_) => {
                // Said before the guest is dropped, which ends its response.
                self.state.fail(CallFailure::TimedOut);
                drop(guest);
                self.timed_out();
            }
        }
    }

    fn ended_without_answer(&self, end: Result<(), wasmtime::Error>) -> InvokeError {
        let Err(error) = end else {
            return self.no_response("it returned");
        };
        if is_out_of_room(&error) {
            return self.out_of_room(&error);
        }
        match trap_message(&error) {
            Some(trap) => {
                self.trapped(&error, &trap);
                InvokeError::Trapped(trap)
            }
            None => self.no_response("it exited with code 0"),
        }
    }

    /// A limit of the machine was reached.
    pub(crate) fn out_of_room(&self, error: &wasmtime::Error) -> InvokeError {
        static TOLD: std::sync::Once = std::sync::Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                error = causes(error),
                "the machine lets this process hold no more instances, calls are answered 503: run `kittiwake doctor`; metric kittiwake_calls_failed_total{{reason=\"out_of_room\"}}"
            );
        });
        self.shared.components.load().give_room();
        self.shared.metrics.failed("out_of_room");
        InvokeError::Overloaded {
            retry_after: RETRY_AFTER,
        }
    }

    fn no_response(&self, how: &str) -> InvokeError {
        self.shared.metrics.failed("no_response");
        self.function.log.write(
            LogStream::Platform,
            &format!("the function ended without an answer: {how} without calling response-outparam.set"),
        );
        InvokeError::NoResponse
    }

    fn answered_with_error(&self, code: &dyn std::fmt::Debug) -> InvokeError {
        self.shared.metrics.failed("error_code");
        let message = format!("it answered with the error {code:?}");
        self.function
            .log
            .write(LogStream::Platform, &format!("the function failed: {message}"));
        InvokeError::Trapped(message)
    }

    fn trapped(&self, error: &wasmtime::Error, message: &str) {
        self.shared.metrics.failed("trap");
        self.function.log.write(
            LogStream::Platform,
            &format!("the function failed: {}", causes(error)),
        );
        if is_guests_fault(error) {
            self.function
                .trapped(&self.revision, &self.shared.reporter, message);
        }
    }

    /// The time for an answer has passed: the guest took too long, or its turn never came.
    pub(crate) fn no_answer_in_time(&self) -> InvokeError {
        if !self.state.has_begun() {
            return self.overloaded("no_turn_in_time");
        }
        self.timed_out();
        InvokeError::TimedOut
    }

    pub(crate) fn timed_out(&self) {
        self.shared.metrics.failed("timeout");
        self.function.log.write(
            LogStream::Platform,
            "the function was stopped because the call took longer than its time limit (timeoutSeconds, responseStartTimeoutSeconds or idleTimeoutSeconds)",
        );
    }
}

/// HTTP/1.0 clients may leave out whom they ask; the interface has no way to.
fn name_host(parts: &mut http::request::Parts) {
    if parts.uri.authority().is_none() && !parts.headers.contains_key(http::header::HOST) {
        parts
            .headers
            .insert(http::header::HOST, http::HeaderValue::from_static("localhost"));
    }
}

/// What a guest that ended early died of; `None` when it exited with code 0, which is an ordinary end.
fn trap_message(error: &wasmtime::Error) -> Option<String> {
    match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => None,
        Some(I32Exit(code)) => Some(format!("it exited with code {code}")),
        None => Some(root_cause(error)),
    }
}
