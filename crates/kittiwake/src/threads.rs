//! The threads of `kittiwake up`: those that answer calls, and those of the control plane.
//!
//! The API server, the controllers and the compiler have threads of their own, which the kernel prefers less. A deploy
//! of many functions, a list of all objects or a change of scale take milliseconds of a processor at a time; on the
//! threads that answer calls each of them would hold up every call behind it.

use anyhow::Context;
use rustix::process::{getpriority_process, setpriority_process};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// How much less than those that answer calls: about a third of their share where both have more to do than there is
/// processor. It must not be next to nothing, or a flood of calls would keep the autoscaler from acting on it.
const NICENESS: i32 = 5;
/// The control plane writes one object at a time and gains little from more.
const CONTROL_THREADS_MAX: usize = 4;
/// How long what still blocks a thread is waited for at the end.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// Threads for calls and threads for the control plane.
#[derive(Debug)]
pub struct Threads {
    calls: Runtime,
    control: Runtime,
}

impl Threads {
    /// As many for calls as there are cores, and up to as many for the control plane.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn start() -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let ours = getpriority_process(None).unwrap_or(0);
        let calls = Builder::new_multi_thread().enable_all().build();
        let control = Builder::new_multi_thread()
            .worker_threads(cores.min(CONTROL_THREADS_MAX))
            .thread_name("control")
            .on_thread_start(move || {
                // On Linux this is about the thread that asks. Where it is refused, the kernel treats all alike.
                // Not `nice`: a thread begins with the niceness of the one that started it, which may be one of these.
                let _ = setpriority_process(None, ours + NICENESS);
            })
            .enable_all()
            .build();
        Ok(Self {
            calls: calls.context("cannot start threads")?,
            control: control.context("cannot start threads")?,
        })
    }

    /// Runs to its end, on the threads for calls, what starts with the handle of the control plane's.
    pub fn run<F: Future>(self, main: impl FnOnce(Handle) -> F) -> F::Output {
        let output = self.calls.block_on(main(self.control.handle().clone()));
        self.control.shutdown_timeout(END_TIMEOUT);
        self.calls.shutdown_timeout(END_TIMEOUT);
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_plane_has_threads_of_its_own_which_are_preferred_less() {
        let niceness = || getpriority_process(None).unwrap();
        let (calls, control, blocking) = Threads::start().unwrap().run(|control| async move {
            let calls = tokio::spawn(async move { niceness() }).await.unwrap();
            let of_control = control.spawn(async move { niceness() }).await.unwrap();
            let blocking = control.spawn(async move { tokio::task::spawn_blocking(niceness).await });
            (calls, of_control, blocking.await.unwrap().unwrap())
        });
        assert_eq!((control, blocking), (calls + NICENESS, calls + NICENESS));
    }
}
