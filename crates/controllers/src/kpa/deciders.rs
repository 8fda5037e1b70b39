//! The deciders of all Revisions, and what each process of the request path counted last.
//!
//! A decider lives as long as its PodAutoscaler, through all changes of it. It is ticked only while the Revision has
//! instances, or calls within its window.

use super::metrics::Metrics;
use super::seconds::{Load, Second, Seconds};
use crate::object::ObjectKey;
use kittiwake_autoscaler::decider::{Decider, DeciderSpec, Recommendation};
use kittiwake_autoscaler::hpa::{self, Hpa, HpaSpec, Usage};
use kittiwake_autoscaler::serving_mode::ServingMode;
use kittiwake_core::scale::{STATS_PERIOD, Stats};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After so long without a word a process counts as gone, with its instances.
pub(super) const PROCESS_SILENT_MAX: Duration = STATS_PERIOD.saturating_mul(5);
/// While no process tells anything, a Revision that has instances counts as one without calls after so long.
const REVISION_SILENT_MAX: Duration = STATS_PERIOD.saturating_mul(2);

/// Instances of one Revision, in one process or in all.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Take calls.
    pub ready: u32,
    /// Are not ready yet.
    pub starting: u32,
    /// Finish their last calls.
    pub stopping: u32,
    /// Processor time of all of them, in cores.
    pub cpu_cores: f64,
    /// Memory of all of them, in bytes.
    pub memory_bytes: f64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.ready = self.ready.saturating_add(other.ready);
        self.starting = self.starting.saturating_add(other.starting);
        self.stopping = self.stopping.saturating_add(other.stopping);
        self.cpu_cores += other.cpu_cores;
        self.memory_bytes += other.memory_bytes;
    }

    fn instances(&self) -> (u32, u32, u32) {
        (self.ready, self.starting, self.stopping)
    }
}

/// Whose instances are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instances {
    /// Those that the request path tells of.
    Resident,
    /// Made for each call: as many as are wanted are there, at once.
    PerCall,
}

/// To whom a Revision belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// Its Service; empty where it has none.
    pub service: Arc<str>,
    /// Its Configuration.
    pub configuration: Arc<str>,
}

/// What a reconciler knows of a Revision when it asks.
#[derive(Debug, Clone)]
pub struct Known {
    /// The uid of the Revision.
    pub uid: Arc<str>,
    /// Its labels in metrics.
    pub labels: Labels,
    /// The rules in force.
    pub spec: DeciderSpec,
    /// Whose instances are counted.
    pub instances: Instances,
    /// Instances that there shall be, as applied.
    pub replicas: u32,
    /// Instances that were ready when the status was written last: what there was before a restart.
    pub ready_before: u32,
}

/// What is known of a Revision's load and instances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// What was decided last.
    pub latest: Recommendation,
    /// Its instances.
    pub counts: Counts,
    /// For how long calls have passed the activator.
    pub proxied_for: Duration,
}

/// All deciders.
#[derive(Debug)]
pub struct Deciders {
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<ObjectKey, Entry>,
    /// Keys of the entries that are ticked.
    live: HashSet<ObjectKey>,
    /// Those of class hpa.
    hpas: HashMap<ObjectKey, HpaEntry>,
    /// When those were decided on last.
    hpas_decided: Duration,
    processes: HashMap<u64, Process>,
    /// What they tell, on its way to the deciders.
    seconds: Seconds,
    /// When the first decider was made.
    began: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    uid: Arc<str>,
    labels: Labels,
    decider: Decider,
    instances: Instances,
    replicas: u32,
    /// Of when the newest stats are.
    heard: Option<Duration>,
    /// As of when it was decided last; that never goes back.
    decided: Duration,
    /// Instances that were ready before a restart, and count until the request path had time to tell.
    assumed: Option<u32>,
    /// Since when calls pass the activator; `None` while they do not.
    proxied_since: Option<Duration>,
    /// What the reconciler was told of instances last.
    told: (u32, u32, u32),
}

#[derive(Debug)]
struct HpaEntry {
    uid: Arc<str>,
    hpa: Hpa,
    /// See [`Entry::told`].
    told: (u32, u32, u32),
}

/// What one process said.
#[derive(Debug, Default)]
struct Process {
    /// When it spoke last.
    heard: Duration,
    /// What it counted, by Revision and its uid. Bounded by the Revisions that it has routes to.
    counts: HashMap<ObjectKey, (Arc<str>, Counts)>,
}

impl Deciders {
    /// None yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            state: Mutex::default(),
            metrics,
        }
    }

    /// Makes the decider of a Revision, or brings it up to date, and tells what it knows.
    pub fn upsert(&self, key: &ObjectKey, known: Known, now: Duration) -> Seen {
        let mut guard = self.lock();
        // So that its fields can be borrowed one by one.
        let state = &mut *guard;
        let stale = state.entries.get(key).is_some_and(|entry| entry.uid != known.uid);
        if stale || state.hpas.contains_key(key) {
            state.forget(key, &self.metrics);
        }
        let counted = state.counted(key, &known.uid);
        let began = *state.began.get_or_insert(now);
        let just_began = now.saturating_sub(began) <= PROCESS_SILENT_MAX;
        let entry = state.entries.entry(key.clone()).or_insert_with(|| Entry {
            assumed: (just_began && known.ready_before > 0).then_some(known.ready_before),
            decider: Decider::new(known.spec.clone(), known.ready_before.max(counted.ready), now),
            uid: known.uid,
            labels: known.labels,
            instances: known.instances,
            replicas: known.replicas,
            heard: None,
            decided: Duration::ZERO,
            proxied_since: Some(now),
            told: counted.instances(),
        });
        if *entry.decider.spec() != known.spec {
            entry.decider.update(known.spec, now);
        }
        entry.instances = known.instances;
        entry.replicas = known.replicas;
        entry.told = counted.instances();
        let counts = match entry.instances {
            Instances::Resident => Counts {
                ready: entry.assumed.unwrap_or(counted.ready),
                ..counted
            },
            Instances::PerCall => Counts {
                ready: known.replicas,
                ..counted
            },
        };
        let seen = Seen {
            latest: entry.decider.latest(),
            counts,
            proxied_for: entry
                .proxied_since
                .map_or(Duration::ZERO, |since| now.saturating_sub(since)),
        };
        let live = entry.is_live(&counted) || entry.assumed.is_some();
        if live || state.live.contains(key) {
            self.metrics.counted(key, &entry.labels, &counts, entry.replicas);
        }
        if live {
            state.live.insert(key.clone());
        }
        seen
    }

    /// The same for a Revision of class hpa that begins with `replicas` instances. Gives how many there shall be, and
    /// what there is.
    pub fn upsert_hpa(&self, key: &ObjectKey, uid: &Arc<str>, spec: HpaSpec, replicas: u32) -> (u32, Counts) {
        let mut state = self.lock();
        if state.entries.contains_key(key) || state.hpas.get(key).is_some_and(|entry| entry.uid != *uid) {
            state.forget(key, &self.metrics);
        }
        let counted = state.counted(key, uid);
        let entry = state.hpas.entry(key.clone()).or_insert_with(|| HpaEntry {
            uid: Arc::clone(uid),
            hpa: Hpa::new(spec, replicas),
            told: counted.instances(),
        });
        entry.hpa.update(spec);
        entry.told = counted.instances();
        (entry.hpa.desired(), counted)
    }

    /// Takes note of the mode that a reconciler chose.
    pub fn set_mode(&self, key: &ObjectKey, mode: ServingMode, now: Duration) {
        if let Some(entry) = self.lock().entries.get_mut(key) {
            entry.proxied_since = match mode {
                ServingMode::Serve => None,
                ServingMode::Proxy => entry.proxied_since.or(Some(now)),
            };
        }
    }

    /// Forgets a Revision.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().forget(key, &self.metrics);
    }

    /// Takes in what a process saw until `at`. Gives the keys that have to be looked at.
    pub fn take(&self, batch: Stats, at: Duration) -> Vec<ObjectKey> {
        let mut state = self.lock();
        let mut concerned = BTreeSet::new();
        let mut seen = Vec::with_capacity(batch.of.len());
        let process = state.processes.entry(batch.process).or_default();
        process.heard = process.heard.max(at);
        let before = if batch.from_zero {
            HashMap::new()
        } else {
            std::mem::take(&mut process.counts)
        };
        concerned.extend(before.into_keys());
        for stat in batch.of {
            let key = ObjectKey::new(
                Arc::clone(&stat.revision.namespace),
                Arc::clone(&stat.revision.name),
            );
            let counts = Counts {
                ready: stat.ready,
                starting: stat.starting,
                stopping: stat.stopping,
                cpu_cores: stat.cpu_cores,
                memory_bytes: stat.memory_bytes,
            };
            process
                .counts
                .insert(key.clone(), (Arc::clone(&stat.uid), counts));
            concerned.insert(key.clone());
            seen.push(Load {
                key,
                uid: stat.uid,
                concurrency: stat.concurrency,
                rps: stat.requests_per_second,
            });
        }
        let mut told = Vec::new();
        if batch.from_zero {
            let records = seen.iter();
            told.extend(records.filter_map(|load| state.record(load, true, at, &self.metrics)));
        } else {
            for second in state.seconds.tell(batch.process, at, seen) {
                told.extend(state.record_second(&second, &self.metrics));
            }
        }
        told.extend(state.with_other_instances(concerned));
        told
    }

    /// Decides for every Revision that has instances or had calls. Gives the keys that have to be looked at.
    pub fn tick(&self, now: Duration) -> Vec<ObjectKey> {
        let mut state = self.lock();
        let mut told = state.drop_silent_processes(now);
        told.extend(state.assume_no_more(now));
        let as_of = state.seconds.newest();
        if as_of.is_none() {
            state.nobody_tells(now);
        }
        let live: Vec<ObjectKey> = state.live.iter().cloned().collect();
        for key in live {
            if state.decide(&key, as_of.unwrap_or(now), &self.metrics) {
                told.push(key);
            }
        }
        told.extend(state.decide_hpas(now));
        told
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_live(&self, counted: &Counts) -> bool {
        self.replicas > 0 || counted.ready > 0 || counted.starting > 0
    }
}

impl State {
    fn forget(&mut self, key: &ObjectKey, metrics: &Metrics) {
        if let Some(entry) = self.entries.remove(key) {
            metrics.forget(key, &entry.labels);
        }
        self.live.remove(key);
        self.hpas.remove(key);
        for process in self.processes.values_mut() {
            process.counts.remove(key);
        }
    }

    /// The instances of one Revision in all processes.
    fn counted(&self, key: &ObjectKey, uid: &Arc<str>) -> Counts {
        let mut sum = Counts::default();
        for process in self.processes.values() {
            if let Some((_, counts)) = process.counts.get(key).filter(|(of, _)| of == uid) {
                sum.add(counts);
            }
        }
        sum
    }

    /// Records calls, and decides at once where there were none before. The key, if it has to be looked at.
    fn record(&mut self, load: &Load, from_zero: bool, at: Duration, metrics: &Metrics) -> Option<ObjectKey> {
        let entries = &mut self.entries;
        let entry = entries.get_mut(&load.key).filter(|entry| entry.uid == load.uid)?;
        entry.decider.record(at, load.concurrency, load.rps);
        entry.heard = entry.heard.max(Some(at));
        let corrected = entry.assumed.take().is_some();
        let nothing_wanted = match entry.decider.latest().desired {
            Some(desired) => desired == 0,
            None => from_zero,
        };
        self.live.insert(load.key.clone());
        let decided = nothing_wanted && load.concurrency > 0.0 && self.decide(&load.key, at, metrics);
        (decided || corrected).then(|| load.key.clone())
    }

    /// Records what is known of a second. A Revision that nobody told of had no calls in it.
    fn record_second(&mut self, second: &Second, metrics: &Metrics) -> Vec<ObjectKey> {
        let loads = second.of.iter().flat_map(|of| of.iter());
        let records = loads.filter_map(|load| self.record(load, false, second.at, metrics));
        let told = records.collect();
        if second.closed {
            self.record_silence(second.at, |entry| entry.heard < Some(second.at));
        }
        told
    }

    /// As [`State::record_second`], for when there is nobody who could tell.
    fn nobody_tells(&mut self, now: Duration) {
        self.record_silence(now, |entry| {
            entry
                .heard
                .is_none_or(|heard| now.saturating_sub(heard) > REVISION_SILENT_MAX)
        });
    }

    /// Records that there were no calls, for those Revisions with instances to which that applies.
    fn record_silence(&mut self, at: Duration, applies: impl Fn(&Entry) -> bool) {
        for key in &self.live {
            let Some(uid) = self.entries.get(key).map(|entry| &entry.uid) else {
                continue;
            };
            let counted = self.counted(key, uid);
            if let Some(entry) = self.entries.get_mut(key)
                && (entry.is_live(&counted) || entry.assumed.is_some())
                && applies(entry)
            {
                entry.decider.record(at, 0.0, 0.0);
            }
        }
    }

    /// Decides on one Revision as of a time, or as of the last decision if that was later. Whether to look at it.
    fn decide(&mut self, key: &ObjectKey, as_of: Duration, metrics: &Metrics) -> bool {
        let Some(uid) = self.entries.get(key).map(|entry| Arc::clone(&entry.uid)) else {
            self.live.remove(key);
            return false;
        };
        let counted = self.counted(key, &uid);
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let live = entry.is_live(&counted) || entry.assumed.is_some();
        entry.decided = entry.decided.max(as_of);
        let as_of = entry.decided;
        if !live && !entry.decider.has_data(as_of) {
            metrics.forget(key, &entry.labels);
            self.live.remove(key);
            return false;
        }
        let ready = match entry.instances {
            Instances::Resident => entry.assumed.unwrap_or(counted.ready),
            Instances::PerCall => entry.replicas,
        };
        let Some(decision) = entry.decider.decide(as_of, ready) else {
            return false;
        };
        metrics.decided(key, &entry.labels, entry.decider.spec(), &decision);
        metrics.counted(key, &entry.labels, &Counts { ready, ..counted }, entry.replicas);
        decision.changed
    }

    fn decide_hpas(&mut self, now: Duration) -> Vec<ObjectKey> {
        if now.saturating_sub(self.hpas_decided) < hpa::SYNC {
            return Vec::new();
        }
        self.hpas_decided = now;
        let used: Vec<(ObjectKey, Counts)> = self
            .hpas
            .iter()
            .map(|(key, entry)| (key.clone(), self.counted(key, &entry.uid)))
            .collect();
        let mut told = Vec::new();
        for (key, counts) in used {
            let usage = Usage {
                ready: counts.ready,
                starting: counts.starting,
                cpu_cores: counts.cpu_cores,
                memory_bytes: counts.memory_bytes,
            };
            if self
                .hpas
                .get_mut(&key)
                .is_some_and(|entry| entry.hpa.decide(now, &usage))
            {
                told.push(key);
            }
        }
        told
    }

    /// Those of `keys` of which the reconciler was told of other instances.
    fn with_other_instances(&mut self, keys: impl IntoIterator<Item = ObjectKey>) -> Vec<ObjectKey> {
        let mut told = Vec::new();
        for key in keys {
            let known = match (self.entries.get(&key), self.hpas.get(&key)) {
                (Some(entry), _) if entry.instances == Instances::Resident => (&entry.uid, entry.told),
                (None, Some(entry)) => (&entry.uid, entry.told),
                _ => continue,
            };
            let counted = self.counted(&key, known.0).instances();
            if known.1 == counted {
                continue;
            }
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.told = counted;
            }
            if let Some(entry) = self.hpas.get_mut(&key) {
                entry.told = counted;
            }
            told.push(key);
        }
        told
    }

    /// Once every process had time to tell, what it did not tell of is not there.
    fn assume_no_more(&mut self, now: Duration) -> Vec<ObjectKey> {
        let Some(began) = self.began else {
            return Vec::new();
        };
        if now.saturating_sub(began) <= PROCESS_SILENT_MAX {
            return Vec::new();
        }
        // Those that something is assumed of had instances: they are live.
        let entries = &mut self.entries;
        let mut wrong = |key: &&ObjectKey| {
            entries
                .get_mut(*key)
                .is_some_and(|entry| entry.assumed.take().is_some())
        };
        self.live.iter().filter(|key| wrong(key)).cloned().collect()
    }

    fn drop_silent_processes(&mut self, now: Duration) -> Vec<ObjectKey> {
        let mut lost = BTreeSet::new();
        let seconds = &mut self.seconds;
        self.processes.retain(|number, process| {
            let silent = now.saturating_sub(process.heard) > PROCESS_SILENT_MAX;
            if silent {
                lost.extend(process.counts.drain().map(|(key, _)| key));
                seconds.forget(*number);
            }
            !silent
        });
        self.with_other_instances(lost)
    }
}

#[cfg(test)]
#[path = "deciders_tests.rs"]
mod tests;
