//! Who is next: many wait for the same thing, and each gets as much of it as any other, however often it asks.
//!
//! Each key has an account of what was spent for it, and the one that waits with the least is next (start-time fair
//! queueing; Linux shares processors among processes alike). What something costs is known only afterwards, so what the
//! key's last ones cost is charged in advance and made good then. Who comes anew, or comes back, begins at the level of
//! the one that was served last: it is soon next, but has saved up nothing for the time when it did not ask.
//!
//! Nothing here waits or knows the time; whoever uses it does, under a lock of its own.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Accounts up to which none is looked for that could be forgotten.
const ACCOUNTS_KEPT: usize = 64;
/// A part of so many of what is known of a key's usual cost comes from the last one.
const USUAL_OF: u64 = 4;

/// See the module's documentation. It holds what was pushed and neither popped nor removed, so its length is for its
/// users to limit.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    accounts: HashMap<K, Account<T>>,
    /// The keys that wait, in the order in which they are served.
    order: BTreeMap<Place, K>,
    /// What was spent for the key that was served last, when it was: never less than before.
    level: u64,
    serial: u64,
    waiting: usize,
    /// Accounts at which those are forgotten that say nothing any more.
    sweep_at: usize,
}

/// First what was spent, then who has been at that place for longer.
type Place = (u64, u64);

#[derive(Debug)]
struct Account<T> {
    spent: u64,
    /// What one costs, by the last ones; 0 while that is not known.
    usual: u64,
    /// Where it is in the order, while it waits.
    place: Option<Place>,
    /// In the order in which they came.
    waiting: BTreeMap<u64, T>,
}

/// Names what was pushed, to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// What was next.
#[derive(Debug, PartialEq, Eq)]
pub struct Next<K, T> {
    /// Whose it is.
    pub key: K,
    /// What was pushed.
    pub item: T,
    /// What its key was charged in advance: to be given to [`FairQueue::settle`].
    pub advance: u64,
}

impl<K, T> Default for FairQueue<K, T> {
    fn default() -> Self {
        Self {
            accounts: HashMap::new(),
            order: BTreeMap::new(),
            level: 0,
            serial: 0,
            waiting: 0,
            sweep_at: ACCOUNTS_KEPT,
        }
    }
}

impl<T> Account<T> {
    fn new(level: u64) -> Self {
        Self {
            spent: level,
            usual: 0,
            place: None,
            waiting: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lets one wait, behind those of its key.
    pub fn push(&mut self, key: &K, item: T) -> Ticket {
        let serial = self.serial();
        let level = self.level;
        let account = self
            .accounts
            .entry(key.clone())
            .or_insert_with(|| Account::new(level));
        account.waiting.insert(serial, item);
        self.waiting += 1;
        if account.place.is_none() {
            account.spent = account.spent.max(level);
            let place = (account.spent, serial);
            account.place = Some(place);
            self.order.insert(place, key.clone());
        }
        Ticket(serial)
    }

    /// Takes one back that was not served yet.
    pub fn remove(&mut self, key: &K, ticket: Ticket) -> Option<T> {
        let account = self.accounts.get_mut(key)?;
        let item = account.waiting.remove(&ticket.0)?;
        self.waiting -= 1;
        if account.waiting.is_empty()
            && let Some(place) = account.place.take()
        {
            self.order.remove(&place);
        }
        Some(item)
    }

    /// The one that is next, whose key is charged in advance. What it cost is told to [`FairQueue::settle`].
    pub fn pop(&mut self) -> Option<Next<K, T>> {
        let (place, key) = self.order.pop_first()?;
        let serial = self.serial();
        self.level = self.level.max(place.0);
        let account = self.accounts.get_mut(&key)?;
        account.place = None;
        let (_, item) = account.waiting.pop_first()?;
        self.waiting -= 1;
        let advance = account.usual;
        account.spent = account.spent.saturating_add(advance);
        if !account.waiting.is_empty() {
            let place = (account.spent, serial);
            account.place = Some(place);
            self.order.insert(place, key.clone());
        }
        Some(Next { key, item, advance })
    }

    /// Something of `key` that was charged `advance` cost `cost`; also what was not popped, with no advance.
    pub fn settle(&mut self, key: &K, advance: u64, cost: u64) {
        let level = self.level;
        let account = self
            .accounts
            .entry(key.clone())
            .or_insert_with(|| Account::new(level));
        account.spent = account.spent.saturating_sub(advance).saturating_add(cost);
        account.usual = match account.usual {
            0 => cost,
            usual => usual - usual / USUAL_OF + cost / USUAL_OF,
        };
        if let Some(place) = account.place {
            self.order.remove(&place);
            let place = (account.spent, place.1);
            account.place = Some(place);
            self.order.insert(place, key.clone());
        }
        if self.accounts.len() >= self.sweep_at {
            // An account at the level or below says no more than a new one.
            self.accounts
                .retain(|_, account| !account.waiting.is_empty() || account.spent > level);
            self.sweep_at = self.accounts.len().saturating_mul(2).max(ACCOUNTS_KEPT);
        }
    }

    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Queue = FairQueue<u32, u32>;

    fn serve(queue: &mut Queue, cost: impl Fn(u32) -> u64) -> Option<u32> {
        let next = queue.pop()?;
        queue.settle(&next.key, next.advance, cost(next.key));
        Some(next.key)
    }

    #[test]
    fn what_is_spent_is_shared_not_the_number_of_turns() {
        let mut queue = Queue::default();
        for item in 0..1000 {
            queue.push(&0, item);
            queue.push(&1, item);
        }
        let cost = |key| if key == 0 { 50 } else { 1 };
        let served: Vec<u32> = (0..510).filter_map(|_| serve(&mut queue, cost)).collect();
        let of = |key| served.iter().filter(|served| **served == key).count();
        assert_eq!((of(0), of(1)), (10, 500));
    }

    #[test]
    fn one_call_is_among_the_next_however_many_wait() {
        let mut queue = Queue::default();
        for item in 0..1000 {
            queue.push(&0, item);
        }
        for _ in 0..300 {
            serve(&mut queue, |_| 75);
        }
        queue.push(&1, 0);
        let next: Vec<_> = (0..2).filter_map(|_| serve(&mut queue, |_| 75)).collect();
        assert!(next.contains(&1), "{next:?}");
    }

    #[test]
    fn who_was_away_has_saved_up_nothing() {
        let mut queue = Queue::default();
        queue.push(&1, 0);
        serve(&mut queue, |_| 10);
        for item in 0..1000 {
            queue.push(&0, item);
        }
        for _ in 0..500 {
            serve(&mut queue, |_| 10);
        }
        for item in 0..100 {
            queue.push(&1, item);
        }
        let served: Vec<_> = (0..100).filter_map(|_| serve(&mut queue, |_| 10)).collect();
        let of_one = served.iter().filter(|key| **key == 1).count();
        assert!((45..=55).contains(&of_one), "{of_one}");
    }

    #[test]
    fn accounts_of_those_who_left_are_forgotten() {
        let mut queue = Queue::default();
        for key in 0..100_000 {
            queue.push(&key, 0);
            serve(&mut queue, |_| 10);
            // Others go on, and leave its account behind.
            queue.push(&0, 0);
            serve(&mut queue, |_| 10);
        }
        assert!(
            queue.accounts.len() <= 2 * ACCOUNTS_KEPT,
            "{}",
            queue.accounts.len()
        );
        assert!(queue.is_empty() && queue.order.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u32),
        Remove(usize),
        Pop,
        Settle(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u32..5).prop_map(Step::Push),
            1 => any::<prop::sample::Index>().prop_map(|index| Step::Remove(index.index(1000))),
            2 => Just(Step::Pop),
            2 => (0_usize..1000, 0_u64..1000).prop_map(|(index, cost)| Step::Settle(index, cost)),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order, what was pushed comes out once, each key's in its order, or was removed.
        #[test]
        fn nothing_is_lost_or_doubled(steps in prop::collection::vec(step(), 0..300)) {
            let mut queue = Queue::default();
            let (mut waiting, mut out) = (Vec::new(), Vec::new());
            let mut pushed = 0;
            for step in steps {
                match step {
                    Step::Push(key) => {
                        waiting.push((key, pushed, queue.push(&key, pushed)));
                        pushed += 1;
                    }
                    Step::Remove(index) if !waiting.is_empty() => {
                        let (key, item, ticket) = waiting.remove(index % waiting.len());
                        prop_assert_eq!(queue.remove(&key, ticket), Some(item));
                        prop_assert_eq!(queue.remove(&key, ticket), None);
                    }
                    Step::Pop => match queue.pop() {
                        Some(Next { key, item, advance }) => {
                            let first = waiting.iter().position(|(waiter, ..)| *waiter == key);
                            prop_assert_eq!(waiting.remove(first.unwrap()).1, item);
                            out.push((key, advance));
                        }
                        None => prop_assert!(waiting.is_empty()),
                    },
                    Step::Settle(index, cost) if !out.is_empty() => {
                        let (key, advance) = out.remove(index % out.len());
                        queue.settle(&key, advance, cost);
                    }
                    Step::Remove(_) | Step::Settle(..) => {}
                }
                prop_assert_eq!(queue.len(), waiting.len());
                let keys: std::collections::BTreeSet<_> = waiting.iter().map(|(key, ..)| *key).collect();
                prop_assert_eq!(queue.order.len(), keys.len());
            }
            while let Some(next) = queue.pop() {
                let first = waiting.iter().position(|(waiter, ..)| *waiter == next.key);
                prop_assert_eq!(waiting.remove(first.unwrap()).1, next.item);
            }
            prop_assert!(waiting.is_empty());
        }

        /// Keys that always wait are served alike, whatever each one's turns cost, but for what is out at a time.
        #[test]
        fn all_who_always_wait_get_the_same(
            costs in prop::collection::vec(1_u64..200, 2..6),
            servers in 1_usize..5,
        ) {
            let mut queue = Queue::default();
            let mut spent = vec![0; costs.len()];
            let keys = 0..u32::try_from(costs.len()).unwrap();
            for key in keys.clone() {
                for item in 0..512 {
                    queue.push(&key, item);
                }
            }
            let mut out = std::collections::VecDeque::new();
            for _ in 0..500 {
                out.push_back(queue.pop().unwrap());
                if out.len() == servers {
                    let Next { key, advance, .. } = out.pop_front().unwrap();
                    let cost = costs[key as usize];
                    queue.settle(&key, advance, cost);
                    spent[key as usize] += cost;
                }
            }
            let (least, most) = (spent.iter().min().unwrap(), spent.iter().max().unwrap());
            let allowed = 2 * servers as u64 * costs.iter().max().unwrap();
            prop_assert!(most - least <= allowed, "{spent:?} {costs:?}");
        }

        /// A newcomer lets each other key go before it once at most.
        #[test]
        fn a_newcomer_is_soon_next(costs in prop::collection::vec(1_u64..5000, 1..6), served in 0_usize..300) {
            let mut queue = Queue::default();
            let others = u32::try_from(costs.len()).unwrap();
            for key in 0..others {
                for item in 0..400 {
                    queue.push(&key, item);
                }
            }
            let cost = |key: u32| costs.get(key as usize).copied().unwrap_or(1);
            for _ in 0..served {
                serve(&mut queue, cost);
            }
            queue.push(&others, 0);
            let mut before = Vec::new();
            while let Some(key) = serve(&mut queue, cost) {
                if key == others {
                    break;
                }
                prop_assert!(!before.contains(&key), "{key} twice");
                before.push(key);
            }
        }
    }
}
