//! Runs futures on the one thread that a program of WASI has: those that are ready are polled; when none is, `poll_oneoff`
//! (of components `wasi:io/poll`) waits for all sockets and for the next point in time.

use crate::sockets::poll::{Subscription, poll};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

/// What the event of the next point in time carries; those of sockets carry their place in the list.
const TIMER: u64 = u64::MAX;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks to be polled, in their order.
type Ready = Arc<Mutex<VecDeque<u64>>>;

/// What a task waits for at a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Bytes or a connection to take.
    Read,
    /// Room for bytes.
    Write,
}

struct Interest {
    fd: RawFd,
    direction: Direction,
    waker: Waker,
}

#[derive(Default)]
struct Executor {
    last: Cell<u64>,
    tasks: RefCell<HashMap<u64, Task>>,
    ready: Ready,
    interests: RefCell<Vec<Interest>>,
    timers: RefCell<Vec<(SystemTime, Waker)>>,
}

thread_local! {
    static EXECUTOR: Executor = Executor::default();
}

struct TaskWaker {
    id: u64,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.id) {
            ready.push_back(self.id);
        }
    }
}

/// Lets hyper start tasks.
#[derive(Clone, Copy)]
pub struct Spawner;

impl<F: Future + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        spawn(async {
            future.await;
        });
    }
}

/// Starts a task.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    EXECUTOR.with(|executor| {
        let id = executor.last.get() + 1;
        executor.last.set(id);
        executor.tasks.borrow_mut().insert(id, Box::pin(future));
        executor.waker(id).wake();
    });
}

/// Runs a task and all that it starts. Ends when nothing is left to wait for.
pub fn run(main: impl Future<Output = ()> + 'static) -> io::Result<()> {
    spawn(main);
    EXECUTOR.with(|executor| {
        loop {
            while let Some(id) = executor.next() {
                executor.poll(id);
            }
            if !executor.wait()? {
                return Ok(());
            }
        }
    })
}

/// Waits for a time.
pub async fn sleep(time: Duration) {
    let due = SystemTime::now() + time;
    poll_fn(|cx| {
        if SystemTime::now() >= due {
            return Poll::Ready(());
        }
        EXECUTOR.with(|executor| executor.timers.borrow_mut().push((due, cx.waker().clone())));
        Poll::Pending
    })
    .await;
}

/// Wakes a task once when a socket has what it waits for.
pub fn wake_when(fd: RawFd, direction: Direction, cx: &Context<'_>) {
    let interest = Interest { fd, direction, waker: cx.waker().clone() };
    EXECUTOR.with(|executor| {
        let mut interests = executor.interests.borrow_mut();
        interests.retain(|known| known.fd != fd || known.direction != direction);
        interests.push(interest);
    });
}

/// Nobody waits for a socket any more.
pub fn forget(fd: RawFd) {
    EXECUTOR.with(|executor| executor.interests.borrow_mut().retain(|known| known.fd != fd));
}

impl Executor {
    fn waker(&self, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.ready) }))
    }

    fn next(&self) -> Option<u64> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn poll(&self, id: u64) {
        // Out of the table, since it may start others.
        let Some(mut task) = self.tasks.borrow_mut().remove(&id) else {
            return;
        };
        if task.as_mut().poll(&mut Context::from_waker(&self.waker(id))).is_pending() {
            self.tasks.borrow_mut().insert(id, task);
        }
    }

    /// Waits for the next event; `false` when there can be none.
    fn wait(&self) -> io::Result<bool> {
        let mut waits = Vec::new();
        for (place, interest) in self.interests.borrow().iter().enumerate() {
            let reads = interest.direction == Direction::Read;
            waits.push(Subscription::IO { userdata: place as u64, fd: interest.fd, read_event: reads, write_event: !reads });
        }
        if let Some(due) = self.timers.borrow().iter().map(|(due, _)| *due).min() {
            waits.push(Subscription::timeout(TIMER, due));
        }
        if waits.is_empty() {
            return Ok(false);
        }
        let mut places: Vec<u64> = poll(&waits)?.iter().map(|event| event.userdata).filter(|place| *place != TIMER).collect();
        // From the last on, so that the places of the others stay.
        places.sort_unstable();
        places.dedup();
        for place in places.into_iter().rev() {
            let interest = self.interests.borrow_mut().swap_remove(place as usize);
            interest.waker.wake();
        }
        let now = SystemTime::now();
        self.timers.borrow_mut().retain(|(due, waker)| {
            let waits = now < *due;
            if !waits {
                waker.wake_by_ref();
            }
            waits
        });
        Ok(true)
    }
}
