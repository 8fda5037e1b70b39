//! How the instances of a revision are divided among the processes that answer calls.
//!
//! The processes stand in a circle, and each revision begins at one of them, which its uid says: the instances are dealt
//! out from there, one to each, round and round. So the shares of all processes sum to the whole, one instance more or
//! less changes one share by one, and what few instances revisions have is not all in the first process.

use std::num::NonZeroU32;

/// Which of how many processes that answer calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub index: u32,
    /// At least 1.
    pub count: u32,
    /// Whether this process can pass calls on to the others. Where it cannot, it has to answer every call that the
    /// kernel gives it.
    pub joined: bool,
}

impl Share {
    /// The only process.
    pub const WHOLE: Self = Self {
        index: 0,
        count: 1,
        joined: false,
    };

    /// How many of `total` instances of the revision with that uid this process has.
    #[must_use]
    pub fn of(self, uid: &str, total: u32) -> u32 {
        let count = self.count.max(1);
        total / count + u32::from(self.place(uid) < total % count)
    }

    /// This process's part of a bound on all instances of a revision, and who else has one where there are more processes
    /// than instances.
    ///
    /// A process that cannot pass calls on has at least one: there can then be as many as there are processes.
    #[must_use]
    pub fn of_bound(self, uid: &str, most: NonZeroU32) -> (NonZeroU32, Option<Owners>) {
        let own = NonZeroU32::new(self.of(uid, most.get())).unwrap_or(NonZeroU32::MIN);
        let owners = (self.joined && most.get() < self.count).then(|| Owners {
            place: self.place(uid),
            first: first(uid, self.count.max(1)),
            processes: NonZeroU32::new(self.count).unwrap_or(NonZeroU32::MIN),
            max: most,
        });
        (own, owners)
    }

    /// How many steps it is from the process at which that revision begins.
    fn place(self, uid: &str) -> u32 {
        let count = self.count.max(1);
        (self.index % count + count - first(uid, count)) % count
    }
}

/// Who may have instances of a revision that has fewer than there are processes: one in each of the first `max` in the
/// revision's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    /// The place of this process in that order, from 0.
    pub place: u32,
    /// The process at which the order begins.
    pub first: u32,
    /// How many processes there are.
    pub processes: NonZeroU32,
    /// The most instances, fewer than processes.
    pub max: NonZeroU32,
}

impl Owners {
    /// Whether this process may have one.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.place < self.max.get()
    }

    /// The index of the process at a place.
    #[must_use]
    pub fn process(&self, place: u32) -> u32 {
        let place = u64::from(self.first) + u64::from(place);
        u32::try_from(place % u64::from(self.processes.get())).unwrap_or(0)
    }
}

/// Where a revision's order begins.
fn first(uid: &str, count: u32) -> u32 {
    u32::try_from(hash(uid) % u64::from(count)).unwrap_or(0)
}

/// FNV-1a. Processes of two versions of this program, which answer calls side by side while one replaces the other, have
/// to agree on it: the standard hasher may change with the compiler.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn all(count: u32) -> impl Iterator<Item = Share> {
        (0..count).map(move |index| Share {
            index,
            count,
            joined: true,
        })
    }

    fn shares(count: u32, uid: &str, total: u32) -> Vec<u32> {
        all(count).map(|share| share.of(uid, total)).collect()
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_whole_and_change_by_one(count in 1_u32..64, total in 0_u32..1000, uid in ".{0,40}") {
            let now = shares(count, &uid, total);
            prop_assert_eq!(now.iter().sum::<u32>(), total);
            let more = shares(count, &uid, total + 1);
            let grown = now.iter().zip(&more).filter(|(now, more)| now != more);
            let grown: Vec<_> = grown.map(|(now, more)| i64::from(*more) - i64::from(*now)).collect();
            prop_assert_eq!(grown, vec![1]);
            prop_assert!(now.iter().max().unwrap() - now.iter().min().unwrap() <= 1);
        }

        #[test]
        fn all_agree_on_the_owners(count in 2_u32..64, most in 1_u32..64, uid in ".{0,40}") {
            let most = NonZeroU32::new(most).unwrap();
            let own: Vec<_> = all(count).map(|share| share.of_bound(&uid, most)).collect();
            if most.get() >= count {
                prop_assert!(own.iter().all(|(_, owners)| owners.is_none()));
                prop_assert_eq!(own.iter().map(|(part, _)| part.get()).sum::<u32>(), most.get());
                return Ok(());
            }
            let owners: Vec<Owners> = own.iter().map(|(_, owners)| owners.unwrap()).collect();
            prop_assert_eq!(owners.iter().filter(|owners| owners.is_here()).count(), most.get() as usize);
            let places: HashSet<u32> = owners.iter().map(|owners| owners.place).collect();
            prop_assert_eq!(places.len(), count as usize);
            for (index, of) in owners.iter().enumerate() {
                // Each knows itself and, by their places, the others.
                prop_assert_eq!(of.process(of.place) as usize, index);
                prop_assert!(owners[of.process(0) as usize].place == 0);
            }
            // Whoever shall have an instance is one who may.
            for wanted in 0..=most.get() {
                for (of, share) in owners.iter().zip(shares(count, &uid, wanted)) {
                    prop_assert_eq!(share, u32::from(of.place < wanted));
                }
            }
        }
    }

    #[test]
    fn who_is_alone_or_cannot_pass_calls_on_answers_all() {
        let one = NonZeroU32::MIN;
        assert_eq!(Share::WHOLE.of("u", 7), 7);
        assert_eq!(Share::WHOLE.of_bound("u", one), (one, None));
        for share in all(3) {
            let share = Share {
                joined: false,
                ..share
            };
            assert_eq!(share.of_bound("u", one), (one, None));
        }
    }

    #[test]
    fn revisions_begin_at_different_processes() {
        let firsts: HashSet<u32> = (0..50).map(|uid| first(&format!("uid-{uid}"), 4)).collect();
        assert_eq!(firsts.len(), 4);
        // What a version of this program said once, each says.
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
