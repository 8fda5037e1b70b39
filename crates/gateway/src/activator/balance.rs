//! Which of a revision's instances takes a call (serving `pkg/activator/net/lb_policy.go`).

use kittiwake_core::resident::Resident;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The most `containerConcurrency` with which calls fill one instance after the other.
const FIRST_AVAILABLE_MAX: u32 = 3;

/// How one is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Of two by lot the one with fewer calls: where instances take any number.
    RandomChoice2,
    /// The first with room, the oldest first: where instances take very few, so that the youngest can go.
    FirstAvailable,
    /// One after the other, those without room left out.
    RoundRobin,
}

impl Policy {
    /// The policy that belongs to a `containerConcurrency`.
    pub(crate) fn of(concurrency: Option<NonZeroU32>) -> Self {
        match concurrency.map(NonZeroU32::get) {
            None => Self::RandomChoice2,
            Some(..=FIRST_AVAILABLE_MAX) => Self::FirstAvailable,
            Some(_) => Self::RoundRobin,
        }
    }
}

/// An instance with the calls that were handed to it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) resident: Arc<dyn Resident>,
    in_flight: AtomicU32,
}

impl Member {
    pub(crate) fn new(resident: Arc<dyn Resident>) -> Self {
        Self {
            resident,
            in_flight: AtomicU32::new(0),
        }
    }

    /// Counts a call, unless there is no room for it.
    fn take(&self, limit: Option<NonZeroU32>) -> bool {
        let Some(limit) = limit else {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let more = |calls| (calls < limit.get()).then_some(calls + 1);
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// A call ended.
    pub(crate) fn give_back(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn calls(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// The member that takes the next call, with the call counted; `None` when none has room. `turn` counts the calls, and
/// `draw` gives a random number below the one it is given.
pub(crate) fn pick<'a>(
    policy: Policy,
    members: &'a [Arc<Member>],
    limit: Option<NonZeroU32>,
    turn: &AtomicUsize,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<&'a Arc<Member>> {
    let count = members.len();
    match policy {
        Policy::RandomChoice2 => {
            let member = match members {
                [] => return None,
                [only] => only,
                _ => {
                    let first = draw(count);
                    // One of the others, each as likely.
                    let second = (first + 1 + draw(count - 1)) % count;
                    let (first, second) = (members.get(first)?, members.get(second)?);
                    match first.calls().cmp(&second.calls()) {
                        std::cmp::Ordering::Less => first,
                        std::cmp::Ordering::Greater => second,
                        std::cmp::Ordering::Equal if draw(2) == 0 => first,
                        std::cmp::Ordering::Equal => second,
                    }
                }
            };
            member.take(limit).then_some(member)
        }
        Policy::FirstAvailable => members.iter().find(|member| member.take(limit)),
        Policy::RoundRobin => {
            let start = turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
            let (before, from) = members.split_at_checked(start)?;
            from.iter().chain(before).find(|member| member.take(limit))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use futures::future::BoxFuture;
    use kittiwake_core::body::{self, Body};
    use kittiwake_core::resident::ResidentError;
    use tokio::time::Instant;

    /// Answers with its number.
    pub(crate) struct Numbered(pub(crate) u64);

    impl Resident for Numbered {
        fn id(&self) -> u64 {
            self.0
        }

        fn invoke(
            &self,
            _: http::Request<Body>,
            _: Instant,
        ) -> BoxFuture<'static, Result<http::Response<Body>, ResidentError>> {
            let answer = http::Response::new(body::full(self.0.to_string()));
            Box::pin(async move { Ok(answer) })
        }
    }

    fn members(count: u64) -> Vec<Arc<Member>> {
        (0..count)
            .map(|id| Arc::new(Member::new(Arc::new(Numbered(id)))))
            .collect()
    }

    fn taken(policy: Policy, members: &[Arc<Member>], limit: u32, calls: usize) -> Vec<Option<u64>> {
        let turn = AtomicUsize::new(0);
        let mut next = 0;
        let draw = |below: usize| {
            next += 1;
            next % below
        };
        let mut draw = draw;
        (0..calls)
            .map(|_| {
                pick(policy, members, NonZeroU32::new(limit), &turn, &mut draw)
                    .map(|member| member.resident.id())
            })
            .collect()
    }

    #[test]
    fn the_policy_follows_the_concurrency() {
        for (concurrency, wanted) in [
            (0, Policy::RandomChoice2),
            (1, Policy::FirstAvailable),
            (3, Policy::FirstAvailable),
            (4, Policy::RoundRobin),
            (1000, Policy::RoundRobin),
        ] {
            assert_eq!(Policy::of(NonZeroU32::new(concurrency)), wanted, "{concurrency}");
        }
    }

    #[test]
    fn the_first_are_filled_first() {
        let taken = taken(Policy::FirstAvailable, &members(2), 2, 5);
        assert_eq!(taken, [Some(0), Some(0), Some(1), Some(1), None]);
    }

    #[test]
    fn turns_go_round_and_leave_out_the_full() {
        let three = members(3);
        assert_eq!(
            taken(Policy::RoundRobin, &three, 2, 4),
            [Some(0), Some(1), Some(2), Some(0)]
        );
        // 0 is full now.
        assert_eq!(taken(Policy::RoundRobin, &three, 2, 3), [Some(1), Some(2), None],);
        assert_eq!(taken(Policy::RoundRobin, &[], 2, 1), [None]);
    }

    #[test]
    fn of_two_the_less_busy_is_taken() {
        let two = members(2);
        for _ in 0..5 {
            assert!(two[0].take(None));
        }
        assert_eq!(taken(Policy::RandomChoice2, &two, 0, 4), [Some(1); 4]);
        assert_eq!(taken(Policy::RandomChoice2, &members(1), 0, 2), [Some(0); 2]);
        assert_eq!(taken(Policy::RandomChoice2, &[], 0, 1), [None]);
    }

    #[test]
    fn random_choice_spreads_evenly() {
        let ten = members(10);
        let turn = AtomicUsize::new(0);
        for _ in 0..1000 {
            pick(Policy::RandomChoice2, &ten, None, &turn, |below| {
                rand::random_range(0..below)
            })
            .unwrap();
        }
        let calls: Vec<u32> = ten.iter().map(|member| member.calls()).collect();
        assert!(calls.iter().all(|calls| (90..=110).contains(calls)), "{calls:?}");
    }
}
