//! Whose turn it is on the processor: it is shared by function, not by call.
//!
//! Tokio polls tasks in the order in which they woke up, so a function with a thousand calls would get a thousand times
//! as much of the processor as one with a single call. Guests of all kinds are therefore polled in turns, of which there
//! are as many as threads. A guest that finds one free takes it for this one poll; where none is, it waits, and the next
//! is the guest of the function for which the least time was spent lately ([`kittiwake_core::fair`]). A guest that
//! waits for anything else has no turn, and one that computes gives its own back at each tick (`engine.rs`).
//!
//! Polls end as they began, without waiting, so threads alone would never find all turns taken: who waits would wait
//! unseen, as a task or in a socket. So a turn rests once guests have run for a while ([`RUN_MAX`]), until its thread
//! has nothing else to do and has looked at its sockets. In that time calls that came are read, and stand in line.
//!
//! A guest holds its slot while it waits, so no more can wait than there are slots; its call's time limit goes on.

use futures::task::AtomicWaker;
use kittiwake_core::fair::{FairQueue, Ticket};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Time that guests run for each turn before it rests. A call of an idle function waits about as long beside a flood;
/// a rest costs a few microseconds.
const RUN_MAX: Duration = Duration::from_micros(500);
/// What one poll is taken to have cost at most. Guests yield after a few milliseconds; when it took longer than this,
/// the machine had stopped the thread.
const COST_MAX: Duration = Duration::from_millis(20);

/// Bits of the state's word that count free turns; those above count who waits.
const FREE_BITS: u32 = 32;
const ONE_WAITING: u64 = 1 << FREE_BITS;
const FREE_MASK: u64 = ONE_WAITING - 1;

thread_local! {
    /// Whether this thread polls a guest. One that is polled within another's poll goes on in that one's turn: it could
    /// otherwise be given a turn that it only takes in a poll for which the other one has to wait.
    static POLLS: Cell<bool> = const { Cell::new(false) };
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Free turns and guests that wait. Nobody is let past those who wait, so that a free turn is theirs.
    word: AtomicU64,
    /// Nanoseconds for which guests may run until a turn rests.
    left: AtomicI64,
    run_max: i64,
    /// Who waits, by the number of the function. The count in `word` changes under its lock only.
    queue: Mutex<FairQueue<u64, Arc<Waiter>>>,
}

/// A guest that waits for a turn.
#[derive(Debug, Default)]
struct Waiter {
    waker: AtomicWaker,
    /// Set when it has the turn: what its function was charged in advance.
    advance: OnceLock<u64>,
}

/// A turn of one poll. Given back when it ends, or when the poll panics.
struct Turn<'a> {
    turns: &'a Arc<Turns>,
    line: u64,
    /// `None` for one that was free.
    advance: Option<u64>,
    cost: Duration,
}

/// Polls one guest in turns.
pub(crate) struct Line {
    turns: Arc<Turns>,
    /// The function's number.
    line: u64,
    waits: Option<Waits>,
}

struct Waits {
    waiter: Arc<Waiter>,
    ticket: Ticket,
    since: Instant,
}

/// A poll that has taken place in a turn.
pub(crate) struct Polled<R> {
    /// What came of it.
    pub result: R,
    /// Time that it took.
    pub cost: Duration,
}

impl Turns {
    /// Turns for so many threads.
    pub(crate) fn new(threads: NonZeroU32) -> Self {
        let run_max = RUN_MAX.saturating_mul(threads.get());
        let run_max = i64::try_from(run_max.as_nanos()).unwrap_or(i64::MAX);
        Self {
            word: AtomicU64::new(u64::from(threads.get())),
            left: AtomicI64::new(run_max),
            run_max,
            queue: Mutex::default(),
        }
    }

    /// A number for a function that has none yet.
    pub(crate) fn number() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// How many guests wait.
    pub(crate) fn waiting(&self) -> usize {
        usize::try_from(self.word.load(Ordering::Relaxed) >> FREE_BITS).unwrap_or(usize::MAX)
    }

    fn queue(&self) -> MutexGuard<'_, FairQueue<u64, Arc<Waiter>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn if one is free and nobody waits.
    fn try_take(&self) -> bool {
        let take = |word: u64| (word < ONE_WAITING && word > 0).then(|| word - 1);
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .is_ok()
    }

    fn stand_in_line(self: &Arc<Self>, line: u64) -> Waits {
        let waiter = Arc::<Waiter>::default();
        let ticket = {
            let mut queue = self.queue();
            self.word.fetch_add(ONE_WAITING, Ordering::AcqRel);
            queue.push(&line, Arc::clone(&waiter))
        };
        // One may have become free since it was looked for. Who gave it back did not see that someone waits.
        self.hand_out();
        Waits {
            waiter,
            ticket,
            since: Instant::now(),
        }
    }

    fn leave(self: &Arc<Self>, line: u64, waits: &Waits) {
        let left = {
            let mut queue = self.queue();
            let left = queue.remove(&line, waits.ticket).is_some();
            if left {
                self.word.fetch_sub(ONE_WAITING, Ordering::AcqRel);
            }
            left
        };
        if !left {
            // It had been given a turn, and never took it.
            let advance = waits.waiter.advance.get().copied();
            drop(self.turn(line, advance));
        }
    }

    fn turn(self: &Arc<Self>, line: u64, advance: Option<u64>) -> Turn<'_> {
        Turn {
            turns: self,
            line,
            advance,
            cost: Duration::ZERO,
        }
    }

    /// Gives free turns to those who wait.
    fn hand_out(&self) {
        let both = |word: u64| word >= ONE_WAITING && word & FREE_MASK > 0;
        while both(self.word.load(Ordering::Acquire)) {
            let queue = self.queue();
            let take = |word| both(word).then(|| word - ONE_WAITING - 1);
            let taken = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
            if taken.is_ok() {
                give_next(queue);
            }
        }
    }

    fn give_back(&self) {
        if self.word.fetch_add(1, Ordering::AcqRel) >= ONE_WAITING {
            self.hand_out();
        }
    }

    /// A turn has ended, whose poll cost so much.
    fn end(self: &Arc<Self>, line: u64, advance: Option<u64>, cost: Duration) {
        let cost = u64::try_from(cost.min(COST_MAX).as_nanos()).unwrap_or(u64::MAX);
        let left = i64::try_from(cost).unwrap_or(i64::MAX);
        let rests = self.left.fetch_sub(left, Ordering::Relaxed) <= left && self.rest();
        if advance.is_none() && self.word.load(Ordering::Acquire) < ONE_WAITING {
            // Nobody waited: what it cost took nothing away from anybody.
            if !rests {
                self.give_back();
            }
            return;
        }
        let mut queue = self.queue();
        queue.settle(&line, advance.unwrap_or(0), cost);
        if rests {
            return;
        }
        if queue.is_empty() {
            drop(queue);
            self.give_back();
        } else {
            self.word.fetch_sub(ONE_WAITING, Ordering::AcqRel);
            give_next(queue);
        }
    }

    /// Keeps a turn until its thread has looked at everything else; `false` where there is no thread to do so.
    fn rest(self: &Arc<Self>) -> bool {
        let Ok(threads) = tokio::runtime::Handle::try_current() else {
            self.left.store(self.run_max, Ordering::Relaxed);
            return false;
        };
        let resting = Resting(Arc::clone(self));
        threads.spawn(async move {
            let _resting = resting;
            // Tokio comes back to who yields when its thread has run all other tasks and looked at its sockets.
            tokio::task::yield_now().await;
        });
        true
    }
}

/// Gives the turn of whoever calls this to the next who waits, which was taken off the count.
fn give_next(mut queue: MutexGuard<'_, FairQueue<u64, Arc<Waiter>>>) {
    let next = queue.pop();
    if let Some(next) = &next {
        // It is popped once, so this is the first.
        let _ = next.item.advance.set(next.advance);
    }
    drop(queue);
    if let Some(next) = next {
        next.item.waker.wake();
    }
}

/// A turn that rests.
struct Resting(Arc<Turns>);

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.left.store(self.0.run_max, Ordering::Relaxed);
        self.0.give_back();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.end(self.line, self.advance, self.cost);
    }
}

impl Line {
    /// For one guest of the function with this number.
    pub(crate) fn new(turns: &Arc<Turns>, line: u64) -> Self {
        Self {
            turns: Arc::clone(turns),
            line,
            waits: None,
        }
    }

    /// Polls the guest when it is its turn, and tells `poll` how long that took to come; [`Poll::Pending`] where it has
    /// to wait for it, and is woken then.
    pub(crate) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>, Duration) -> R,
    ) -> Poll<Polled<R>> {
        if POLLS.get() {
            return Poll::Ready(Polled {
                result: poll(cx, Duration::ZERO),
                // It is in the time of the one around it.
                cost: Duration::ZERO,
            });
        }
        let mut since = None;
        let advance = if self.waits.is_none() && self.turns.try_take() {
            None
        } else {
            let waits = self
                .waits
                .get_or_insert_with(|| self.turns.stand_in_line(self.line));
            waits.waiter.waker.register(cx.waker());
            let Some(advance) = waits.waiter.advance.get() else {
                return Poll::Pending;
            };
            since = Some(waits.since);
            Some(*advance)
        };
        self.waits = None;
        let mut turn = self.turns.turn(self.line, advance);
        let polls = Polls::begin();
        let begun = Instant::now();
        let waited = since.map_or(Duration::ZERO, |since| begun.saturating_duration_since(since));
        let result = poll(cx, waited);
        turn.cost = begun.elapsed();
        drop(polls);
        let cost = turn.cost;
        Poll::Ready(Polled { result, cost })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(waits) = self.waits.take() {
            self.turns.leave(self.line, &waits);
        }
    }
}

/// Says that this thread polls a guest, until it is dropped.
struct Polls;

impl Polls {
    fn begin() -> Self {
        POLLS.set(true);
        Self
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        POLLS.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const FLOODED: u64 = 1;
    const OTHER: u64 = 2;

    fn turns(threads: u32) -> Arc<Turns> {
        Arc::new(Turns::new(NonZeroU32::new(threads).unwrap()))
    }

    /// A guest of so many polls, each of which tells `poll`.
    async fn guest(turns: Arc<Turns>, line: u64, polls: usize, poll: impl Fn()) {
        let (mut line, mut left) = (Line::new(&turns, line), polls);
        std::future::poll_fn(|cx| {
            let Poll::Ready(_) = line.poll(cx, |_, _| poll()) else {
                return Poll::Pending;
            };
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    async fn until_waiting(turns: &Turns, count: usize) {
        while turns.waiting() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_call_is_among_the_next_beside_a_thousand_of_another_function() {
        for threads in [1, 2, 8] {
            let turns = turns(threads);
            let held: Vec<_> = (0..threads).map(|_| turns.try_take()).collect();
            assert!(held.iter().all(|taken| *taken) && !turns.try_take());
            let order = Arc::<Mutex<Vec<u64>>>::default();
            let spawn = |line| {
                let order = Arc::clone(&order);
                let tell = move || order.lock().unwrap().push(line);
                tokio::spawn(guest(Arc::clone(&turns), line, 1, tell))
            };
            let mut guests: Vec<_> = (0..1000).map(|_| spawn(FLOODED)).collect();
            until_waiting(&turns, 1000).await;
            guests.push(spawn(OTHER));
            until_waiting(&turns, 1001).await;
            for _ in held {
                turns.give_back();
            }
            for guest in guests {
                guest.await.unwrap();
            }
            let order = order.lock().unwrap();
            assert_eq!(order.len(), 1001);
            let at = order.iter().position(|line| *line == OTHER).unwrap();
            assert!(
                at <= 2 * threads as usize,
                "{at} went before it with {threads} turns"
            );
        }
    }

    #[tokio::test]
    async fn turns_of_those_who_leave_go_to_the_next() {
        let turns = turns(1);
        assert!(turns.try_take());
        let spawn = |line| tokio::spawn(guest(Arc::clone(&turns), line, 1, || ()));
        let (first, second, third) = (spawn(1), spawn(2), spawn(3));
        until_waiting(&turns, 3).await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        assert_eq!(turns.waiting(), 2);
        // It has been given the turn, and leaves before it is polled.
        turns.give_back();
        assert_eq!(turns.waiting(), 1);
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        third.await.unwrap();
        assert!(turns.try_take(), "the turn is free again");
    }

    #[tokio::test]
    async fn a_guest_that_waits_for_something_else_has_no_turn() {
        let turns = turns(1);
        let (sender, mut receiver) = tokio::sync::oneshot::channel::<()>();
        let (mut line, polls) = (Line::new(&turns, 1), Arc::new(AtomicUsize::new(0)));
        let polled = Arc::clone(&polls);
        let waits = tokio::spawn(std::future::poll_fn(move |cx| {
            let receiver = std::pin::Pin::new(&mut receiver);
            let polled = line.poll(cx, |cx, _| {
                polled.fetch_add(1, Ordering::Relaxed);
                receiver.poll(cx)
            });
            match polled {
                Poll::Ready(polled) => polled.result,
                Poll::Pending => Poll::Pending,
            }
        }));
        while polls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        guest(Arc::clone(&turns), 2, 3, || ()).await;
        assert!(turns.try_take());
        sender.send(()).unwrap();
        until_waiting(&turns, 1).await;
        turns.give_back();
        waits.await.unwrap().unwrap();
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_turn_is_given_back_by_a_poll_that_panics() {
        let turns = turns(1);
        let guest = tokio::spawn(guest(Arc::clone(&turns), 1, 1, || panic!("as it should")));
        assert!(guest.await.unwrap_err().is_panic());
        assert!(turns.try_take());
        assert!(!POLLS.get());
    }

    #[tokio::test]
    async fn a_guest_within_another_goes_on_in_its_turn() {
        let turns = turns(1);
        let inner = Mutex::new(Line::new(&turns, 2));
        let ran = AtomicUsize::new(0);
        guest(Arc::clone(&turns), 1, 1, || {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let polled = inner
                .lock()
                .unwrap()
                .poll(&mut cx, |_, _| ran.fetch_add(1, Ordering::Relaxed));
            assert!(polled.is_ready());
        })
        .await;
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        assert!(turns.try_take());
    }

    #[tokio::test]
    async fn a_turn_rests_once_guests_ran_for_a_while() {
        let turns = turns(1);
        assert!(turns.try_take());
        let mut turn = turns.turn(1, None);
        turn.cost = RUN_MAX;
        drop(turn);
        assert!(!turns.try_take(), "it rests, until this task waits for something");
        until_free(&turns).await;
        assert_eq!(turns.left.load(Ordering::Relaxed), turns.run_max);
    }

    async fn until_free(turns: &Arc<Turns>) {
        while !turns.try_take() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_turn_is_lost_or_doubled_under_load() {
        let turns = turns(3);
        let running = Arc::new(AtomicUsize::new(0));
        let guests: Vec<_> = (0..600)
            .map(|n| {
                let running = Arc::clone(&running);
                let poll = move || {
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                    // Long enough for turns to rest now and then.
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_micros(20) {
                        std::hint::spin_loop();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                (n, tokio::spawn(guest(Arc::clone(&turns), n % 7, 5, poll)))
            })
            .collect();
        for (n, guest) in guests {
            if n % 10 == 0 {
                guest.abort();
            }
            let ended = guest.await;
            assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()));
        }
        // Those that rest come back, and no more than there were.
        for _ in 0..3 {
            until_free(&turns).await;
        }
        assert!(!turns.try_take());
        assert!(turns.queue().is_empty() && turns.waiting() == 0);
    }
}
