//! The words that a worker and its supervisor exchange, as JSON in frames with a length before each.

use crate::config::Config;
use crate::doors::Names;
use futures::{SinkExt, StreamExt};
use jiff::Timestamp;
use kittiwake_core::instances::{Instance, InstanceId, Live, Usage};
use kittiwake_core::log::{LogLine, LogStream};
use kittiwake_core::report::{Health, Report};
use kittiwake_core::revision::RevisionKey;
use kittiwake_core::scale::{Stat, Stats};
use kittiwake_core::unit::ByteCount;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// Largest frame: the metrics of a worker that serves some ten thousand functions.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// What a worker process is started with. It makes all ready with it, and then waits for its [`Assignment`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Process of the supervisor: a worker whose parent is another one is an orphan.
    pub supervisor: u32,
    /// How to reach the API, as the text of a kubeconfig.
    pub kubeconfig: Secret,
    /// The ports in functions' URLs.
    pub ports: Ports,
    /// Threads that answer calls.
    pub threads: usize,
    /// The settings of `up`, with limits already shared out.
    pub config: Config,
}

/// Where functions are called.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ports {
    /// The port in their URLs; `None` for 80.
    pub http: Option<u16>,
    /// The port in their URLs with TLS; `None` where there is no TLS.
    pub https: Option<u16>,
}

/// A text that is not for logs.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What makes a worker of a process that has waited; its listening socket comes beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Which worker it is, from 0; the label `worker` of its metrics.
    pub index: usize,
    /// Which sockets come after its own.
    pub doors: Names,
    /// Whether one comes before them all by which other workers pass calls on to it ([`super::inner_doors`]); a supervisor of
    /// an older program has none.
    #[serde(default)]
    pub inner_door: bool,
}

/// From the supervisor to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Down {
    /// Asks for [`Up::Metrics`].
    Metrics,
    /// What there is of a revision shall end and begin anew.
    End {
        /// The revision's uid.
        revision: String,
        /// The place of one of its instances in that worker, where that one alone shall end.
        place: Option<u64>,
    },
}

/// From a worker to its supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Up {
    /// It takes calls now.
    Ready,
    /// What is routed, as far as it differs from what was said before.
    Routes {
        /// Hosts that are new or lead elsewhere.
        changed: Vec<Placed>,
        /// Hosts that are gone.
        removed: Vec<String>,
    },
    /// A line that a function wrote.
    Log(Line),
    /// So many lines were lost since the last time, because they came faster than they were taken.
    LogLost(u64),
    /// What a function's calls say of it.
    Report(Said),
    /// The revisions in memory.
    Live(Vec<InMemory>),
    /// What calls saw, for the autoscaler.
    Stats(Seen),
    /// All metrics, in Prometheus' text format.
    Metrics(String),
    /// It ends, and cut off so many calls.
    Cut(usize),
}

/// A host that a worker routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The host.
    pub host: String,
    /// Namespace of its Route.
    pub namespace: String,
    /// Name of its Route.
    pub route: String,
    /// See [`kittiwake_core::routing_table::RouteEntry::fingerprint`].
    pub fingerprint: u64,
}

/// A [`LogLine`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    at_micros: i64,
    namespace: String,
    revision: String,
    #[serde(default)]
    sidecar: String,
    stream: Stream,
    text: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Stream {
    Stdout,
    Stderr,
    Platform,
}

impl From<LogLine> for Line {
    fn from(line: LogLine) -> Self {
        Self {
            at_micros: line.at.as_microsecond(),
            namespace: line.revision.namespace.to_string(),
            revision: line.revision.name.to_string(),
            sidecar: line.sidecar.to_string(),
            stream: match line.stream {
                LogStream::Stdout => Stream::Stdout,
                LogStream::Stderr => Stream::Stderr,
                LogStream::Platform => Stream::Platform,
            },
            text: line.text.to_string(),
        }
    }
}

impl From<Line> for LogLine {
    fn from(line: Line) -> Self {
        Self {
            at: Timestamp::from_microsecond(line.at_micros).unwrap_or(Timestamp::UNIX_EPOCH),
            revision: RevisionKey::new(line.namespace, line.revision),
            sidecar: line.sidecar.into(),
            stream: match line.stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
                Stream::Platform => LogStream::Platform,
            },
            text: line.text.into(),
        }
    }
}

/// A [`Report`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    namespace: String,
    revision: String,
    uid: String,
    health: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Failing(String, i32),
    Recovered,
    ArtifactLost,
}

impl From<Report> for Said {
    fn from(report: Report) -> Self {
        Self {
            namespace: report.revision.namespace.to_string(),
            revision: report.revision.name.to_string(),
            uid: report.uid.to_string(),
            health: match report.health {
                Health::Failing { message, exit_code } => Outcome::Failing(message, exit_code),
                Health::Recovered => Outcome::Recovered,
                Health::ArtifactLost => Outcome::ArtifactLost,
            },
        }
    }
}

impl From<Said> for Report {
    fn from(said: Said) -> Self {
        Self {
            revision: RevisionKey::new(said.namespace, said.revision),
            uid: said.uid.into(),
            health: match said.health {
                Outcome::Failing(message, exit_code) => Health::Failing { message, exit_code },
                Outcome::Recovered => Health::Recovered,
                Outcome::ArtifactLost => Health::ArtifactLost,
            },
        }
    }
}

/// A revision in memory, on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InMemory {
    namespace: String,
    revision: String,
    uid: String,
    since_micros: i64,
    cpu: Duration,
    window: Duration,
    memory_bytes: u64,
    instances: Vec<Staying>,
}

/// An instance that stays, on its way. Which process it is of is known from who tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Staying {
    place: u64,
    since_micros: i64,
    ending: bool,
}

impl From<Instance> for Staying {
    fn from(instance: Instance) -> Self {
        Self {
            place: instance.id.place,
            since_micros: instance.since.as_microsecond(),
            ending: instance.ending,
        }
    }
}

impl From<Staying> for Instance {
    fn from(said: Staying) -> Self {
        Self {
            id: InstanceId {
                process: 0,
                place: said.place,
            },
            since: Timestamp::from_microsecond(said.since_micros).unwrap_or(Timestamp::UNIX_EPOCH),
            ending: said.ending,
        }
    }
}

impl From<Live> for InMemory {
    fn from(live: Live) -> Self {
        Self {
            namespace: live.revision.namespace.to_string(),
            revision: live.revision.name.to_string(),
            uid: live.uid.to_string(),
            since_micros: live.since.as_microsecond(),
            cpu: live.usage.cpu,
            window: live.usage.window,
            memory_bytes: live.usage.memory.0,
            instances: live.instances.into_iter().map(Staying::from).collect(),
        }
    }
}

impl From<InMemory> for Live {
    fn from(said: InMemory) -> Self {
        Self {
            revision: RevisionKey::new(said.namespace, said.revision),
            uid: said.uid.into(),
            since: Timestamp::from_microsecond(said.since_micros).unwrap_or(Timestamp::UNIX_EPOCH),
            usage: Usage {
                cpu: said.cpu,
                window: said.window,
                memory: ByteCount(said.memory_bytes),
            },
            instances: said.instances.into_iter().map(Instance::from).collect(),
        }
    }
}

/// [`Stats`] on their way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Missing in what a worker of an older program says.
    #[serde(default)]
    at_micros: Option<i64>,
    from_zero: bool,
    of: Vec<SeenOf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SeenOf {
    namespace: String,
    revision: String,
    uid: String,
    concurrency: f64,
    requests_per_second: f64,
    ready: u32,
    starting: u32,
    stopping: u32,
    cpu_cores: f64,
    memory_bytes: f64,
}

impl From<Stats> for Seen {
    fn from(stats: Stats) -> Self {
        let of = stats.of.into_iter().map(|stat| SeenOf {
            namespace: stat.revision.namespace.to_string(),
            revision: stat.revision.name.to_string(),
            uid: stat.uid.to_string(),
            concurrency: stat.concurrency,
            requests_per_second: stat.requests_per_second,
            ready: stat.ready,
            starting: stat.starting,
            stopping: stat.stopping,
            cpu_cores: stat.cpu_cores,
            memory_bytes: stat.memory_bytes,
        });
        Self {
            at_micros: stats.at.map(Timestamp::as_microsecond),
            from_zero: stats.from_zero,
            of: of.collect(),
        }
    }
}

impl Seen {
    /// As the process with that number saw it.
    #[must_use]
    pub fn by(self, process: u64) -> Stats {
        let of = self.of.into_iter().map(|seen| Stat {
            revision: RevisionKey::new(seen.namespace, seen.revision),
            uid: seen.uid.into(),
            concurrency: seen.concurrency,
            requests_per_second: seen.requests_per_second,
            ready: seen.ready,
            starting: seen.starting,
            stopping: seen.stopping,
            cpu_cores: seen.cpu_cores,
            memory_bytes: seen.memory_bytes,
        });
        Stats {
            process,
            at: self.at_micros.and_then(|at| Timestamp::from_microsecond(at).ok()),
            from_zero: self.from_zero,
            of: of.collect(),
        }
    }
}

/// One end of the link.
pub struct Link(Framed<UnixStream, LengthDelimitedCodec>);

impl Link {
    /// Over a socket that [`super::handoff`] is done with.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let codec = LengthDelimitedCodec::builder()
            .max_frame_length(FRAME_BYTES_MAX)
            .new_codec();
        Ok(Self(Framed::new(UnixStream::from_std(stream)?, codec)))
    }

    /// Says something; waits while the other side does not listen.
    ///
    /// # Errors
    /// When the other side has gone.
    pub async fn say(&mut self, words: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(words)?;
        self.0.send(bytes::Bytes::from(text)).await
    }

    /// The next words; `None` once the other side has gone. May be dropped while it waits without losing any.
    ///
    /// # Errors
    /// When the other side says something that is not `T`.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.0.next().await {
            None => Ok(None),
            Some(frame) => Ok(Some(serde_json::from_slice(&frame?)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_and_reports_arrive_as_they_were() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut worker, mut supervisor) = (Link::new(one).unwrap(), Link::new(other).unwrap());
        let line = LogLine {
            at: Timestamp::from_second(1_750_000_000).unwrap(),
            revision: RevisionKey::new("default", "a-00001"),
            sidecar: "side".into(),
            stream: LogStream::Platform,
            text: "trap: \"unreachable\" é".into(),
        };
        let report = Report {
            revision: line.revision.clone(),
            uid: "u".into(),
            health: Health::Failing {
                message: "m".into(),
                exit_code: 3,
            },
        };
        worker.say(&Up::Log(line.clone().into())).await.unwrap();
        worker.say(&Up::Report(report.clone().into())).await.unwrap();
        let live = Live {
            revision: line.revision.clone(),
            uid: "u".into(),
            since: line.at,
            usage: Usage {
                cpu: Duration::from_millis(3),
                window: Duration::from_secs(1),
                memory: ByteCount::mib(1),
            },
            instances: vec![Instance {
                id: InstanceId { process: 0, place: 7 },
                since: line.at,
                ending: true,
            }],
        };
        worker.say(&Up::Live(vec![live.clone().into()])).await.unwrap();
        let stats = Stats {
            process: 7,
            at: Some(line.at),
            from_zero: true,
            of: vec![Stat {
                revision: line.revision.clone(),
                uid: "u".into(),
                concurrency: 1.25,
                requests_per_second: 2.0,
                ready: 3,
                starting: 1,
                stopping: 0,
                cpu_cores: 0.5,
                memory_bytes: 4096.0,
            }],
        };
        worker.say(&Up::Stats(stats.clone().into())).await.unwrap();
        drop(worker);
        let Some(Up::Log(received)) = supervisor.next().await.unwrap() else {
            panic!()
        };
        assert_eq!(LogLine::from(received), line);
        let Some(Up::Report(received)) = supervisor.next().await.unwrap() else {
            panic!()
        };
        assert_eq!(Report::from(received), report);
        let Some(Up::Live(received)) = supervisor.next().await.unwrap() else {
            panic!()
        };
        assert_eq!(Live::from(received[0].clone()), live);
        let Some(Up::Stats(received)) = supervisor.next().await.unwrap() else {
            panic!()
        };
        assert_eq!(received.by(7), stats);
        assert!(supervisor.next::<Up>().await.unwrap().is_none());
    }
}
