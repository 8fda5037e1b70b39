//! One instance at work: a task that lets its guest go on, brings calls into it, and sees its end.
//!
//! Wasmtime runs the guest in an event loop. While guest code computes, nothing inside the loop is asked for anything,
//! so what must happen then (time limits, callers that leave) is looked at from outside, whenever the guest yields.

use super::Version;
use super::dispatch::Places;
use super::seat::{Failure, Job};
use super::vitals::Vitals;
use crate::engine::WasmEngine;
use crate::host::Host;
use crate::instance::WAIT_MAX;
use crate::metrics::Counted;
use crate::runtime::Shared;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kittiwake_core::inside::Hops;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime::component::Accessor;
use wasmtime::{AsContextMut, Store};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p3;

/// Resources on the host's side (see [`Host::resources`]) that an instance may hold when a call begins. One that holds
/// more has let some go astray; it takes no more calls.
const RESOURCES_MAX: usize = 512;
/// Time after which no further call is let in within one turn.
const TURN_MAX: Duration = Duration::from_micros(500);

/// An instance and what it needs to work.
pub(super) struct Driver {
    pub(super) version: Arc<Version>,
    pub(super) shared: Weak<Shared>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) wasm_store: Store<Host>,
    pub(super) service: p3::bindings::Service,
}

/// What the inside of the event loop tells the outside, and the other way round.
struct Progress {
    /// The guest waits for something. Until it does, a call that has begun may be one that computes, and the next call
    /// is better off in another instance.
    waits: AtomicBool,
    /// It takes calls, if it has room.
    open: AtomicBool,
    /// No call is in it and nothing of one is left.
    idle: AtomicBool,
}

impl Driver {
    /// Serves calls until the instance has to end.
    pub(super) async fn run(self) {
        let Self {
            version,
            shared,
            vitals,
            mut wasm_store,
            service,
        } = self;
        let progress = Progress {
            waits: AtomicBool::new(true),
            open: AtomicBool::new(false),
            idle: AtomicBool::new(false),
        };
        let inside = async |accessor: &Accessor<Host>| {
            serve_calls(accessor, &service, &version, &vitals, &progress).await
        };
        let result = {
            let mut guest = pin!(wasm_store.run_concurrent(inside));
            let mut line = version.meter.line();
            let mut lifetime = Lifetime {
                timer: Box::pin(sleep_until(Instant::now())),
                idle_since: None,
                shared,
            };
            poll_fn(|cx| {
                vitals.stand_in_line(false);
                vitals.task.register(cx.waker());
                let turn = version.meter.poll(&mut line, cx, |cx, _| {
                    take_a_turn(&progress, cx, |cx| guest.as_mut().poll(cx))
                });
                match turn {
                    Some(Poll::Ready(end)) => return Poll::Ready(end.and_then(|end| end)),
                    Some(Poll::Pending) => {
                        version
                            .dispatch
                            .rests(&vitals, progress.open.load(Ordering::Acquire));
                    }
                    None => vitals.stand_in_line(true),
                }
                version.serve(version.dispatch.needs());
                lifetime.poll(cx, &vitals, &progress).map(Ok)
            })
            .await
        };
        version.ended(&vitals, wasm_store, result);
    }
}

/// Lets the guest go on until it waits: for calls that came into it, which others can only join once that is known.
fn take_a_turn<T>(
    progress: &Progress,
    cx: &mut Context<'_>,
    mut guest: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let begun = Instant::now();
    let mut last = begun;
    loop {
        let polled = guest(cx);
        // It stopped to compute, so it waits, or it computes still and will not see this.
        if polled.is_ready() || progress.waits.swap(true, Ordering::AcqRel) {
            return polled;
        }
        let now = Instant::now();
        if now - begun >= TURN_MAX {
            // Several calls took that long together. Whether the last one computes is seen in the next turn; until then
            // the instance is not taken for a full one.
            if now - last < TURN_MAX {
                progress.open.store(true, Ordering::Release);
            }
            cx.waker().wake_by_ref();
            return polled;
        }
        last = now;
    }
}

/// Brings calls into the guest; ends when it will serve no more, or has failed.
async fn serve_calls(
    accessor: &Accessor<Host>,
    service: &p3::bindings::Service,
    version: &Version,
    vitals: &Arc<Vitals>,
    progress: &Progress,
) -> wasmtime::Result<()> {
    let handler = *service.wasi_http_handler().func_handle().func();
    let mut calls = FuturesUnordered::new();
    poll_fn(|cx| {
        loop {
            match calls.poll_next_unpin(cx) {
                Poll::Ready(Some(Err(trap))) => return Poll::Ready(Err(trap)),
                Poll::Ready(Some(Ok(()))) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            let is_open = accessor.poll_ready_for_concurrent_call(handler, cx).is_ready()
                && (calls.is_empty() || progress.waits.load(Ordering::Acquire));
            progress.open.store(is_open, Ordering::Release);
            if is_open {
                if vitals.room() > 0 {
                    // Looked at before a call comes in: one that is in keeps the guest from going on by itself.
                    accessor.with(|mut access| access.get().folders.check())?;
                }
                if let Some(job) = version.dispatch.take(vitals, |job| vitals.enter(&job.seat)) {
                    progress.waits.store(false, Ordering::Release);
                    progress.idle.store(false, Ordering::Release);
                    calls.push(serve_call(accessor, service, vitals, job));
                    continue;
                }
            }
            if !calls.is_empty() || accessor.poll_no_interesting_tasks(cx).is_pending() {
                return Poll::Pending;
            }
            if vitals.is_done() {
                return Poll::Ready(Ok(()));
            }
            progress.idle.store(true, Ordering::Release);
            return Poll::Pending;
        }
    })
    .await
}

/// One call, until the head of its response is known.
async fn serve_call(
    accessor: &Accessor<Host>,
    service: &p3::bindings::Service,
    vitals: &Vitals,
    job: Job,
) -> wasmtime::Result<()> {
    let Job { seat, request } = job;
    let (request, sent) = accessor.with(|mut access| {
        let mut store = access.as_context_mut();
        WasmEngine::begin_turn(&mut store);
        if store.data_mut().resources() > RESOURCES_MAX {
            vitals.retire();
        }
        // Guests do not say in which call they ask others: the one that came through fewest functions counts.
        let (host, mut hops) = (store.data_mut(), Hops::of(&request));
        if !vitals.is_in_one_call() {
            hops = hops.min(host.hops());
        }
        host.set_hops(hops);
        let http = store.data_mut().http();
        let (request, sent) = p3::Request::from_http(http.hooks, request);
        let sent: BoxFuture<'static, _> = Box::pin(sent);
        wasmtime::error::Ok((http.table.push(request)?, sent))
    })?;
    let answer = match service.wasi_http_handler().call_handle(accessor, request).await? {
        Ok(response) => Ok(accessor.with(|mut access| {
            let mut store = access.as_context_mut();
            let response = store.data_mut().http().table.delete(response)?;
            response.into_http(store, sent)
        })?),
        Err(code) => Err(Failure::Code(code)),
    };
    seat.answer(answer);
    Ok(())
}

/// When an instance must end.
struct Lifetime {
    timer: Pin<Box<Sleep>>,
    /// Since when it has nothing to do, and that it is counted as waiting.
    idle_since: Option<(Instant, Option<Counted>)>,
    shared: Weak<Shared>,
}

impl Lifetime {
    fn poll(&mut self, cx: &mut Context<'_>, vitals: &Vitals, progress: &Progress) -> Poll<()> {
        if vitals.is_abandoned() {
            return Poll::Ready(());
        }
        let deadline = if progress.idle.load(Ordering::Acquire) {
            if vitals.gives_way() {
                return Poll::Ready(());
            }
            let (since, _) = self.idle_since.get_or_insert_with(|| {
                let shared = self.shared.upgrade();
                let waits = shared.map(|shared| Counted::new(&shared.metrics.instances_waiting));
                (Instant::now(), waits)
            });
            *since + WAIT_MAX
        } else {
            self.idle_since = None;
            vitals.busy_until()
        };
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        let passed = self.timer.as_mut().poll(cx);
        if passed.is_ready() && self.idle_since.is_none() {
            vitals.time_out();
        }
        passed
    }
}
