//! Programs that stay in memory though no function uses them now.
//!
//! A function that is not called for a while leaves memory, and with it what it was loaded from. Most of the time that
//! its next call then takes is spent reading the tables of its compiled form again. So a program stays here after it was
//! made ready and after it was used, within a limit: those that were used longest ago go first, and any that was not
//! used for long. A program that leaves while functions use it stays as long as they do.

use super::{Components, Loaded};
use crate::digest::Digest;
use crate::prepare::is_out_of_room;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time that a program stays unused: that of a deleted revision leaves then at the latest, and within this time
/// the files of one that is used are looked at once, so that the cache on disk does not take them for unused.
const UNUSED_MAX: Duration = Duration::from_secs(3600);
/// Names that one program is found by: images that have the same `.wasm`. Others are found by their file.
const IMAGES_MAX: usize = 16;

impl Components {
    /// The program of a pinned image, if it is here and known by that name.
    pub(super) fn find_kept(&self, pinned: &str) -> Option<Arc<Loaded>> {
        let found = self.kept.find(pinned);
        if found.is_some() {
            self.metrics.programs_found.inc();
        }
        found
    }

    /// Keeps a program that was just made ready or loaded, or whose function has just left memory. `pinned` is the
    /// image that it was found by, where files were looked at for that.
    pub(crate) fn keep(&self, pinned: Option<&str>, loaded: &Arc<Loaded>) {
        // One of an engine that was replaced is of no more use.
        if !self.is_engine_of(loaded) {
            return;
        }
        let wasm = loaded.hold.wasm();
        self.kept.keep(wasm, loaded, resident_bytes(loaded.hold.bytes()));
        if let Some(pinned) = pinned {
            self.kept.name(pinned, wasm);
        }
    }

    /// Does something for which the machine must have room: where it has none, once more without what is only kept.
    pub(super) fn with_room<R>(&self, act: impl Fn() -> wasmtime::Result<R>) -> wasmtime::Result<R> {
        self.kept.with_room(act)
    }

    /// Lets go what is only kept, since the machine has no room; `false` where nothing is.
    pub(crate) fn give_room(&self) -> bool {
        self.kept.clear()
    }

    /// Tells the time and measures: called now and then.
    pub(crate) fn tend_kept(&self, now: Duration) {
        self.kept.expire(now);
        let (count, bytes) = self.kept.size();
        let set = |gauge: &prometheus::IntGauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.metrics.programs_kept, count as u64);
        set(&self.metrics.programs_kept_bytes, bytes);
    }
}

/// What a program takes in memory, about, told from the size of its compiled form: the pages of the file, which are clean
/// and leave by themselves when memory is short, and its tables, decoded. The Rust hello has a file of 206 KiB and adds
/// 300 KiB to what is resident.
fn resident_bytes(file: u64) -> u64 {
    file.saturating_add(file / 2)
}

/// See the module's documentation. `T` is a program.
pub(crate) struct Kept<T> {
    bytes_max: u64,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// By the digest of their `.wasm`.
    programs: HashMap<Digest, Entry<T>>,
    /// Which `.wasm` the pinned images of programs that are here have.
    images: HashMap<Arc<str>, Digest>,
    /// Last uses, which are numbered; oldest first.
    by_use: BTreeMap<u64, Digest>,
    next_use: u64,
    bytes: u64,
    /// As told last.
    now: Duration,
}

struct Entry<T> {
    program: Arc<T>,
    images: Vec<Arc<str>>,
    bytes: u64,
    /// Number of its last use.
    last_use: u64,
    used: Duration,
    /// When its files were looked at last.
    seen_on_disk: Duration,
}

impl<T> Kept<T> {
    /// None yet; at most so many bytes of them.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            state: Mutex::new(State {
                programs: HashMap::new(),
                images: HashMap::new(),
                by_use: BTreeMap::new(),
                next_use: 0,
                bytes: 0,
                now: Duration::ZERO,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program of a pinned image, which is used now; `None` where its files have to be looked at.
    pub(super) fn find(&self, image: &str) -> Option<Arc<T>> {
        let mut state = self.state();
        let wasm = state.images.get(image)?.clone();
        let entry = state.programs.get(&wasm)?;
        if state.now.saturating_sub(entry.seen_on_disk) >= UNUSED_MAX / 2 {
            return None;
        }
        let program = Arc::clone(&entry.program);
        state.uses(&wasm);
        Some(program)
    }

    /// Keeps a program that is used now, or was until now.
    pub(super) fn keep(&self, wasm: &Digest, program: &Arc<T>, bytes: u64) {
        let left = {
            let mut state = self.state();
            if bytes > self.bytes_max {
                return;
            }
            let now = state.now;
            let before = state.programs.insert(
                wasm.clone(),
                Entry {
                    program: Arc::clone(program),
                    images: Vec::new(),
                    bytes,
                    last_use: u64::MAX,
                    used: now,
                    seen_on_disk: now,
                },
            );
            state.bytes += bytes;
            if let Some(before) = &before {
                state.bytes -= before.bytes;
                state.by_use.remove(&before.last_use);
            }
            if let (Some(before), Some(entry)) = (&before, state.programs.get_mut(wasm)) {
                entry.images.clone_from(&before.images);
                entry.seen_on_disk = before.seen_on_disk;
            }
            state.uses(wasm);
            (before, state.shrink(self.bytes_max))
        };
        // What goes is unmapped, which takes a while, outside of the lock.
        drop(left);
    }

    /// The files of an image were just looked at: it has the `.wasm` of a program that is here.
    pub(super) fn name(&self, image: &str, wasm: &Digest) {
        let mut state = self.state();
        let State {
            programs,
            images,
            now,
            ..
        } = &mut *state;
        let Some(entry) = programs.get_mut(wasm) else {
            return;
        };
        entry.seen_on_disk = *now;
        if entry.images.len() < IMAGES_MAX && !images.contains_key(image) {
            let image = Arc::<str>::from(image);
            entry.images.push(Arc::clone(&image));
            images.insert(image, wasm.clone());
        }
    }

    /// Tells the time; what was not used for long goes.
    pub(super) fn expire(&self, now: Duration) {
        let left = {
            let mut state = self.state();
            state.now = now;
            state.pop_while(|entry| now.saturating_sub(entry.used) >= UNUSED_MAX)
        };
        drop(left);
    }

    /// Lets all go; `false` when there was none.
    pub(super) fn clear(&self) -> bool {
        let left = self.state().shrink(0);
        !left.is_empty()
    }

    /// See [`Components::with_room`].
    fn with_room<R>(&self, act: impl Fn() -> wasmtime::Result<R>) -> wasmtime::Result<R> {
        match act() {
            Err(error) if is_out_of_room(&error) && self.clear() => act(),
            done => done,
        }
    }

    /// How many are here, and their size in bytes.
    pub(super) fn size(&self) -> (usize, u64) {
        let state = self.state();
        (state.programs.len(), state.bytes)
    }
}

impl<T> State<T> {
    fn uses(&mut self, wasm: &Digest) {
        let Some(entry) = self.programs.get_mut(wasm) else {
            return;
        };
        entry.used = self.now;
        let digest = self.by_use.remove(&entry.last_use);
        entry.last_use = self.next_use;
        let digest = digest.unwrap_or_else(|| wasm.clone());
        self.by_use.insert(self.next_use, digest);
        self.next_use += 1;
    }

    #[must_use]
    fn shrink(&mut self, bytes_max: u64) -> Vec<Arc<T>> {
        let mut left = Vec::new();
        while self.bytes > bytes_max
            && let Some(program) = self.pop()
        {
            left.push(program);
        }
        left
    }

    #[must_use]
    fn pop_while(&mut self, goes: impl Fn(&Entry<T>) -> bool) -> Vec<Arc<T>> {
        let mut left = Vec::new();
        while let Some((_, wasm)) = self.by_use.first_key_value()
            && self.programs.get(wasm).is_none_or(&goes)
            && let Some(program) = self.pop()
        {
            left.push(program);
        }
        left
    }

    /// Takes out what was used longest ago.
    fn pop(&mut self) -> Option<Arc<T>> {
        let (_, wasm) = self.by_use.pop_first()?;
        let entry = self.programs.remove(&wasm)?;
        for image in &entry.images {
            self.images.remove(image);
        }
        self.bytes -= entry.bytes;
        Some(entry.program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wasm(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn kept(programs: &[u8], bytes_max: u64) -> Kept<u8> {
        let kept = Kept::new(bytes_max);
        for n in programs {
            kept.keep(&wasm(*n), &Arc::new(*n), 10);
            kept.name(&format!("r/{n}"), &wasm(*n));
        }
        kept
    }

    #[test]
    fn those_used_longest_ago_go_first() {
        let kept = kept(&[1, 2, 3], 30);
        assert_eq!(kept.find("r/1").as_deref(), Some(&1));
        kept.keep(&wasm(4), &Arc::new(4), 10);
        assert!(kept.find("r/2").is_none());
        assert!(kept.find("r/1").is_some() && kept.find("r/3").is_some());
        assert_eq!(kept.size(), (3, 30));
        kept.keep(&wasm(5), &Arc::new(5), 25);
        assert_eq!(kept.size(), (1, 25));
        kept.keep(&wasm(6), &Arc::new(6), 31);
        assert_eq!(
            kept.size(),
            (1, 25),
            "one that is too large takes no room of others"
        );
        assert!(kept.clear() && !kept.clear());
        assert_eq!(kept.size(), (0, 0));
    }

    #[test]
    fn what_finds_no_room_is_done_once_more_without_what_is_only_kept() {
        let no_room = || wasmtime::Error::from(rustix::io::Errno::NOMEM);
        let tried = std::cell::Cell::new(0);
        let fails = |times: u32, why: &dyn Fn() -> wasmtime::Error| {
            tried.set(0);
            let kept = kept(&[1, 2], 30);
            let done = kept.with_room(|| {
                tried.set(tried.get() + 1);
                if tried.get() <= times { Err(why()) } else { Ok(()) }
            });
            (done.is_ok(), tried.get(), kept.size().0)
        };
        assert_eq!(fails(0, &no_room), (true, 1, 2), "there is room");
        assert_eq!(fails(1, &no_room), (true, 2, 0), "there is room then");
        assert_eq!(fails(9, &no_room), (false, 2, 0), "there is none either");
        let other = || wasmtime::Error::msg("broken");
        assert_eq!(fails(9, &other), (false, 1, 2), "more room would not help");
        let empty = kept(&[], 30);
        tried.set(0);
        let done = empty.with_room(|| -> wasmtime::Result<()> {
            tried.set(tried.get() + 1);
            Err(no_room())
        });
        assert!(done.is_err() && tried.get() == 1, "there is nothing to let go");
    }

    #[test]
    fn one_that_is_kept_again_is_counted_once_and_keeps_its_names() {
        let kept = kept(&[1, 2], 30);
        let program = Arc::new(1);
        kept.keep(&wasm(1), &program, 12);
        assert_eq!(kept.size(), (2, 22));
        assert!(Arc::ptr_eq(&kept.find("r/1").unwrap(), &program));
        kept.keep(&wasm(3), &Arc::new(3), 10);
        assert!(kept.find("r/2").is_none(), "the other one was used before it");
    }

    #[test]
    fn what_is_not_used_for_long_goes_and_files_are_looked_at_now_and_then() {
        let kept = kept(&[1, 2], 30);
        kept.expire(UNUSED_MAX / 2);
        assert!(kept.find("r/1").is_none(), "its files may be taken for unused");
        kept.keep(&wasm(1), &Arc::new(1), 10);
        kept.name("r/1", &wasm(1));
        assert!(kept.find("r/1").is_some());
        kept.expire(UNUSED_MAX);
        assert_eq!(kept.size(), (1, 10));
        assert!(kept.find("r/2").is_none());
    }

    #[test]
    fn a_program_has_some_names_and_they_go_with_it() {
        let kept = kept(&[1], 30);
        for n in 0..2 * IMAGES_MAX {
            kept.name(&format!("other/{n}"), &wasm(1));
        }
        assert_eq!(kept.state().images.len(), IMAGES_MAX);
        kept.name("r/none", &wasm(2));
        kept.clear();
        assert!(kept.state().images.is_empty() && kept.state().by_use.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_there(steps in proptest::collection::vec((0u8..8, 0u8..12, 1u64..40), 0..200)) {
            let kept = Kept::new(100);
            let mut now = Duration::ZERO;
            for (what, n, bytes) in steps {
                match what {
                    0..=3 => kept.keep(&wasm(n), &Arc::new(n), bytes),
                    4 => kept.name(&format!("r/{n}"), &wasm(n)),
                    5 | 6 => {
                        let found = kept.find(&format!("r/{n}"));
                        prop_assert!(found.is_none_or(|found| *found == n));
                    }
                    _ => {
                        now += UNUSED_MAX / 5;
                        kept.expire(now);
                    }
                }
                let state = kept.state();
                prop_assert_eq!(state.bytes, state.programs.values().map(|entry| entry.bytes).sum::<u64>());
                prop_assert!(state.bytes <= 100);
                prop_assert_eq!(state.by_use.len(), state.programs.len());
                for (last_use, wasm) in &state.by_use {
                    prop_assert_eq!(state.programs[wasm].last_use, *last_use);
                }
                let named = state.programs.values().map(|entry| entry.images.len()).sum::<usize>();
                prop_assert_eq!(state.images.len(), named);
            }
        }
    }
}
