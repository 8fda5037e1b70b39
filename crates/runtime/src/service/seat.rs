//! A call on its way through an instance, seen from both sides.

use super::Version;
use super::dispatch::Waits;
use super::vitals::Vitals;
use crate::gate::Refused;
use crate::invoke::state::CallState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

/// What comes of a call.
pub(crate) type Answer = Result<http::Response<WasiBody>, Failure>;

/// Why a call has no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No slot became free for an instance.
    NoSlot(Refused),
    /// No instance can be made.
    NotInstantiated(Arc<wasmtime::Error>),
    /// The guest said so.
    Code(ErrorCode),
    /// The guest failed, in this call or in another one of its instance.
    Trapped(Arc<wasmtime::Error>),
    /// Its instance was stopped for a time limit.
    TimedOut,
    /// Its instance ended without a failure.
    Ended,
}

/// The side of the instance.
pub(super) struct Seat {
    /// What the parts of the call tell each other.
    pub(super) state: Arc<CallState>,
    /// When the call must have ended, its response included.
    pub(super) deadline: Instant,
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    taken: OnceLock<Taken>,
    /// Nobody waits for the call any more.
    left: AtomicBool,
}

/// By whom a call was taken.
struct Taken {
    by: Arc<Vitals>,
    is_first: bool,
}

/// A call that waits for an instance.
pub(super) struct Job {
    pub(super) seat: Arc<Seat>,
    pub(super) request: http::Request<WasiBody>,
}

impl Waits for Job {
    fn is_given_up(&self) -> bool {
        self.seat.left.load(Ordering::SeqCst)
    }
}

impl Seat {
    /// A place for a call that has to end before `deadline`; its answer comes out of the receiver.
    pub(super) fn new(state: Arc<CallState>, deadline: Instant) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let seat = Self {
            state,
            deadline,
            answer: Mutex::new(Some(sender)),
            taken: OnceLock::new(),
            left: AtomicBool::new(false),
        };
        (Arc::new(seat), receiver)
    }

    /// Gives the answer; the first one counts.
    pub(super) fn answer(&self, answer: Answer) {
        let mut sender = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.take() {
            // Nobody there: they left, and say so in another way.
            let _ = sender.send(answer);
        }
    }

    /// An instance takes the call; `is_first` tells whether it is the instance's first.
    pub(super) fn take(self: &Arc<Self>, by: &Arc<Vitals>, is_first: bool) {
        let _ = self.taken.set(Taken {
            by: Arc::clone(by),
            is_first,
        });
        // The caller may leave at this moment. Each side first writes, then looks: one of them sees the other.
        if self.left.load(Ordering::SeqCst) {
            by.leave(self, false, false);
        }
    }
}

/// The side of the caller: the call leaves its instance when this is dropped.
pub(crate) struct Seated {
    seat: Arc<Seat>,
    version: Arc<Version>,
    has_head: bool,
    is_whole: bool,
}

impl Seated {
    pub(super) fn new(seat: Arc<Seat>, version: Arc<Version>) -> Self {
        Self {
            seat,
            version,
            has_head: false,
            is_whole: false,
        }
    }

    /// Whether the instance had served another call before.
    pub(crate) fn is_reused(&self) -> bool {
        self.seat.taken.get().is_some_and(|taken| !taken.is_first)
    }

    /// The head of the response is known.
    pub(crate) fn set_head(&mut self) {
        self.has_head = true;
    }

    /// There is no more to come.
    pub(crate) fn set_whole(&mut self) {
        self.is_whole = true;
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.seat.left.store(true, Ordering::SeqCst);
        match self.seat.taken.get() {
            Some(taken) => {
                taken.by.leave(&self.seat, self.is_whole, self.has_head);
                self.version.left(&taken.by);
            }
            None => self.version.give_up(),
        }
    }
}
