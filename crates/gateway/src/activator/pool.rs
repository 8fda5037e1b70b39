//! The instances of one resident revision: those that take calls, each with the calls it has.

use super::balance::{self, Member, Policy};
use super::capacity::{Capacity, Slot};
use arc_swap::{ArcSwap, ArcSwapOption};
use kittiwake_core::resident::{Instances, Resident};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Pool {
    members: ArcSwap<Vec<Arc<Member>>>,
    /// Members that were found to have ended, by number, until the word of it comes.
    ended: Mutex<Vec<u64>>,
    policy: Policy,
    limit: Option<NonZeroU32>,
    /// Slots of all members together; has none to give where `limit` is `None`, as then only a missing member is waited
    /// for.
    capacity: Arc<Capacity>,
    turn: AtomicUsize,
    /// Rings for those who found no member with room, although there should be one: one came, or a call ended.
    changed: Notify,
    /// Those who wait for `changed`.
    listening: AtomicUsize,
    /// Rings when other instances run than before, or none can be started.
    updated: Notify,
    starting: AtomicU32,
    stopping: AtomicU32,
    failure: ArcSwapOption<Arc<str>>,
}

/// A call's place in an instance, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pool: Arc<Pool>,
    member: Arc<Member>,
    _slot: Option<Slot>,
}

impl Seat {
    /// The instance.
    pub(crate) fn resident(&self) -> &Arc<dyn Resident> {
        &self.member.resident
    }

    /// Gives the seat back: its instance has ended and shall get no more calls, although the word of it is still to come.
    pub(crate) fn ended(self) {
        self.pool.forget(self.member.resident.id());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.member.give_back();
        if self.pool.listening.load(Ordering::SeqCst) > 0 {
            self.pool.changed.notify_waiters();
        }
    }
}

/// How many instances there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) ready: u32,
    pub(crate) starting: u32,
    pub(crate) stopping: u32,
}

impl Pool {
    /// No instances; each will take so many calls at a time.
    pub(crate) fn new(limit: Option<NonZeroU32>) -> Self {
        Self {
            members: ArcSwap::default(),
            ended: Mutex::default(),
            policy: Policy::of(limit),
            limit,
            capacity: Arc::new(Capacity::new(0)),
            turn: AtomicUsize::new(0),
            changed: Notify::new(),
            updated: Notify::new(),
            listening: AtomicUsize::new(0),
            starting: AtomicU32::new(0),
            stopping: AtomicU32::new(0),
            failure: ArcSwapOption::empty(),
        }
    }

    /// Takes over what runs. Instances that stay keep the count of their calls.
    pub(crate) fn update(&self, instances: &Instances) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|id| instances.ready.iter().any(|resident| resident.id() == *id));
        let old = self.members.load();
        let member = |resident: &Arc<dyn Resident>| {
            let known = old.iter().find(|member| member.resident.id() == resident.id());
            known
                .cloned()
                .unwrap_or_else(|| Arc::new(Member::new(Arc::clone(resident))))
        };
        let lives = |resident: &&Arc<dyn Resident>| !ended.contains(&resident.id());
        let members = instances.ready.iter().filter(lives).map(member).collect();
        self.starting.store(instances.starting, Ordering::Relaxed);
        self.stopping.store(instances.stopping, Ordering::Relaxed);
        self.failure.store(instances.failure.clone().map(Arc::new));
        self.set_members(members);
        drop(ended);
        self.changed.notify_waiters();
        self.updated.notify_waiters();
    }

    /// Takes out a member, until it is known to everybody that it has ended.
    fn forget(&self, id: u64) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.members.load();
        let left: Vec<_> = old
            .iter()
            .filter(|member| member.resident.id() != id)
            .cloned()
            .collect();
        if left.len() < old.len() {
            ended.push(id);
            self.set_members(left);
        }
    }

    /// Called under the lock of `ended`.
    fn set_members(&self, members: Vec<Arc<Member>>) {
        if let Some(limit) = self.limit {
            let each = usize::try_from(limit.get()).unwrap_or(usize::MAX);
            self.capacity.resize(members.len().saturating_mul(each));
        }
        self.members.store(Arc::new(members));
    }

    /// A seat, if there is one and nobody waits.
    pub(crate) fn try_seat(self: &Arc<Self>) -> Option<Seat> {
        let mut slot = match self.limit {
            Some(_) => Some(self.capacity.try_take()?),
            None => None,
        };
        self.pick(&mut slot)
    }

    /// A seat, once there is one.
    ///
    /// # Errors
    /// Why no instance can be started, when none is there, none is on its way, and starts have failed.
    pub(crate) async fn seat(self: &Arc<Self>) -> Result<Seat, Arc<str>> {
        let mut slot = match self.limit {
            Some(_) => Some(self.slot().await?),
            None => None,
        };
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let _listening = Listening::new(&self.listening);
            if let Some(seat) = self.pick(&mut slot) {
                return Ok(seat);
            }
            // With a slot in hand too: the member that the slot came with may just have gone.
            if let Some(why) = self.hopeless() {
                return Err(why);
            }
            changed.await;
        }
    }

    /// A slot in the order of coming.
    async fn slot(&self) -> Result<Slot, Arc<str>> {
        let mut taking = pin!(self.capacity.take());
        loop {
            let mut updated = pin!(self.updated.notified());
            updated.as_mut().enable();
            if let Some(why) = self.hopeless() {
                return Err(why);
            }
            tokio::select! {
                biased;
                slot = &mut taking => return Ok(slot),
                () = updated => {}
            }
        }
    }

    fn pick(self: &Arc<Self>, slot: &mut Option<Slot>) -> Option<Seat> {
        let members = self.members.load();
        let draw = |below| rand::random_range(0..below);
        let member = balance::pick(self.policy, &members, self.limit, &self.turn, draw)?;
        Some(Seat {
            pool: Arc::clone(self),
            member: Arc::clone(member),
            _slot: slot.take(),
        })
    }

    fn hopeless(&self) -> Option<Arc<str>> {
        let none = self.members.load().is_empty() && self.starting.load(Ordering::Relaxed) == 0;
        let failure = self.failure.load_full().filter(|_| none)?;
        Some(Arc::clone(&failure))
    }

    /// How many there are.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            ready: u32::try_from(self.members.load().len()).unwrap_or(u32::MAX),
            starting: self.starting.load(Ordering::Relaxed),
            stopping: self.stopping.load(Ordering::Relaxed),
        }
    }
}

/// Counts one who listens.
struct Listening<'a>(&'a AtomicUsize);

impl<'a> Listening<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::super::balance::tests::Numbered;
    use super::*;
    use futures::FutureExt;

    fn instances(ids: &[u64]) -> Instances {
        let ready = ids.iter().map(|id| Arc::new(Numbered(*id)) as Arc<dyn Resident>);
        Instances {
            ready: ready.collect(),
            ..Instances::default()
        }
    }

    fn pool(limit: u32) -> Arc<Pool> {
        Arc::new(Pool::new(NonZeroU32::new(limit)))
    }

    #[test]
    fn calls_wait_for_an_instance_and_for_room_in_it() {
        for limit in [0, 1] {
            let pool = pool(limit);
            assert!(pool.try_seat().is_none());
            let mut first = Box::pin(pool.seat());
            assert!(first.as_mut().now_or_never().is_none());
            pool.update(&instances(&[7]));
            let seat = first.as_mut().now_or_never().unwrap().unwrap();
            assert_eq!(seat.resident().id(), 7);
            let second = pool.try_seat();
            assert_eq!(second.is_none(), limit == 1);
            let mut third = Box::pin(pool.seat());
            if limit == 1 {
                assert!(third.as_mut().now_or_never().is_none());
                drop(seat);
            }
            assert!(third.as_mut().now_or_never().unwrap().is_ok());
        }
    }

    #[test]
    fn an_instance_that_stays_keeps_its_calls() {
        let pool = pool(1);
        pool.update(&instances(&[1]));
        let seat = pool.try_seat().unwrap();
        pool.update(&instances(&[1, 2]));
        let other = pool.try_seat().unwrap();
        assert_eq!(other.resident().id(), 2);
        assert!(pool.try_seat().is_none());
        // The busy one is on its way out; its end makes no room.
        pool.update(&instances(&[2]));
        drop(seat);
        assert!(pool.try_seat().is_none());
        drop(other);
        assert_eq!(pool.try_seat().unwrap().resident().id(), 2);
        assert_eq!(pool.counts().ready, 1);
    }

    #[test]
    fn an_instance_that_was_found_to_have_ended_gets_no_more_calls() {
        for limit in [0, 1] {
            let pool = pool(limit);
            pool.update(&instances(&[1, 2]));
            let all = |count: usize| (0..count).filter_map(|_| pool.try_seat()).collect::<Vec<_>>();
            let mut seats = all(20);
            let of_one = seats.iter().position(|seat| seat.resident().id() == 1).unwrap();
            seats.swap_remove(of_one).ended();
            seats.clear();
            for told in [&[1, 2][..], &[2], &[2, 3]] {
                let seats = all(20);
                assert!(!seats.is_empty() && seats.iter().all(|seat| seat.resident().id() != 1));
                drop(seats);
                pool.update(&instances(told));
            }
            assert_eq!(pool.counts().ready, 2);
            assert!(pool.ended.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn who_waits_is_told_when_starts_fail() {
        let pool = pool(0);
        let mut waiting = Box::pin(pool.seat());
        let starting = Instances {
            starting: 1,
            failure: Some("exit code 1".into()),
            ..Instances::default()
        };
        pool.update(&starting);
        assert!(waiting.as_mut().now_or_never().is_none(), "one is on its way");
        pool.update(&Instances {
            starting: 0,
            ..starting
        });
        let why = waiting.as_mut().now_or_never().unwrap().unwrap_err();
        assert_eq!(&*why, "exit code 1");
    }
}
