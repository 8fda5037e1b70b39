//! Functions that stay: calls that wait for an instance, are handed to one, and are told about.

use crate::support::{HELLO, Server, start_over, table};
use futures::future::BoxFuture;
use http::{Request, Response};
use kittiwake_core::artifact::FunctionKind;
use kittiwake_core::body::{self, Body};
use kittiwake_core::resident::{Instances, Resident, ResidentError, Residents};
use kittiwake_core::revision::{Limits, RevisionKey, RevisionSpec, Scaling};
use kittiwake_core::routing_table::{RouteEntry, RouteTarget};
use kittiwake_core::scale::{self, ScaleTable, Stats};
use kittiwake_gateway::{ActivatorInputs, Config};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

/// Instances with this number and above have ended, but nobody has said so.
const ENDED: u64 = 100;
const OTHER: &str = "other.default.localhost";

/// Instances as a test wants them; what is asked for is written down.
struct Staged {
    asked: mpsc::Sender<u32>,
    instances: watch::Sender<Instances>,
}

impl Residents for Staged {
    fn scale(&self, _: &Arc<RevisionSpec>, count: u32) {
        let _ = self.asked.try_send(count);
    }

    fn instances(&self, _: &Arc<RevisionSpec>) -> watch::Receiver<Instances> {
        self.instances.subscribe()
    }
}

/// Answers with its number, once the test lets it.
struct Instance {
    id: u64,
    turns: Arc<Semaphore>,
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    now: u32,
    most: u32,
}

impl Resident for Instance {
    fn id(&self) -> u64 {
        self.id
    }

    fn invoke(
        &self,
        request: Request<Body>,
        _: Instant,
    ) -> BoxFuture<'static, Result<Response<Body>, ResidentError>> {
        let (id, turns, running) = (self.id, Arc::clone(&self.turns), Arc::clone(&self.running));
        Box::pin(async move {
            if id >= ENDED {
                return Err(ResidentError::Ended(Box::new(request)));
            }
            {
                let mut running = running.lock().unwrap();
                running.now += 1;
                running.most = running.most.max(running.now);
            }
            if request.uri().path() == "/wait" {
                turns.acquire().await.unwrap().forget();
            }
            running.lock().unwrap().now -= 1;
            Ok(Response::new(body::full(id.to_string())))
        })
    }
}

struct Stage {
    server: Server,
    asked: mpsc::Receiver<u32>,
    instances: watch::Sender<Instances>,
    scale: watch::Sender<Arc<ScaleTable>>,
    stats: mpsc::Receiver<Stats>,
    turns: Arc<Semaphore>,
    running: Arc<Mutex<Running>>,
}

fn server_revision(name: &str, concurrency: u32, scaling: Scaling) -> Arc<RevisionSpec> {
    Arc::new(RevisionSpec {
        kind: FunctionKind::Server,
        limits: Limits {
            concurrency: NonZeroU32::new(concurrency),
            ..Limits::default()
        },
        scaling,
        ..RevisionSpec::new(RevisionKey::new("default", name), format!("uid-{name}"), "i")
    })
}

fn entry(revision: Arc<RevisionSpec>) -> Arc<RouteEntry> {
    Arc::new(RouteEntry {
        namespace: "default".into(),
        name: "hello".into(),
        targets: vec![RouteTarget {
            revision,
            percent: 100,
        }],
        ..RouteEntry::default()
    })
}

/// A gateway in front of one resident revision with no instance, and of another that lives for each call.
fn stage(concurrency: u32, config: Config) -> Stage {
    let (asked_sender, asked) = mpsc::channel(64);
    let (instances, _) = watch::channel(Instances::default());
    let (scale, table_receiver) = watch::channel(Arc::default());
    let (stats_sender, stats) = scale::channel();
    let residents = Staged {
        asked: asked_sender,
        instances: instances.clone(),
    };
    let activator = ActivatorInputs {
        residents: Arc::new(residents),
        scale: table_receiver,
        stats: stats_sender,
        instances: Arc::default(),
        process: 3,
    };
    let routes = table(vec![
        (
            HELLO,
            entry(server_revision("hello-00001", concurrency, Scaling::default())),
        ),
        (OTHER, crate::support::entry(&[("other-00001", 100)], None)),
    ]);
    Stage {
        server: start_over(config, routes, activator),
        asked,
        instances,
        scale,
        stats,
        turns: Arc::new(Semaphore::new(0)),
        running: Arc::default(),
    }
}

impl Stage {
    fn runs(&self, ids: &[u64]) {
        let ready = ids.iter().map(|id| {
            Arc::new(Instance {
                id: *id,
                turns: Arc::clone(&self.turns),
                running: Arc::clone(&self.running),
            }) as Arc<dyn Resident>
        });
        self.instances.send_replace(Instances {
            ready: ready.collect(),
            ..Instances::default()
        });
    }

    fn call(&self, path: &'static str) -> tokio::task::JoinHandle<String> {
        let address = self.server.handle.local_addr();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let head = format!("GET {path} HTTP/1.1\r\nHost: {HELLO}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        })
    }

    /// Resolves when so many calls are under way, waiting ones included.
    async fn until_in_flight(&self, calls: usize) {
        while self.server.handle.in_flight() != calls {
            tokio::task::yield_now().await;
        }
    }

    /// The next batch with a stat of the resident revision.
    async fn next_stat(&mut self) -> (bool, scale::Stat) {
        loop {
            let batch = self.stats.recv().await.unwrap();
            assert_eq!(batch.process, 3);
            if let Some(stat) = batch.of.into_iter().find(|stat| &*stat.uid == "uid-hello-00001") {
                return (batch.from_zero, stat);
            }
        }
    }
}

#[tokio::test]
async fn a_call_at_zero_is_held_starts_an_instance_and_is_told_at_once() {
    let mut stage = stage(0, Config::default());
    let (first, second) = (stage.call("/"), stage.call("/"));
    stage.until_in_flight(2).await;
    assert_eq!(stage.asked.recv().await, Some(1));
    let (from_zero, stat) = stage.next_stat().await;
    assert!(from_zero);
    assert_eq!((stat.concurrency, stat.ready), (1.0, 0));
    // Of the two, the one that was told of is not told of again.
    let (from_zero, stat) = stage.next_stat().await;
    assert!(!from_zero && stat.concurrency <= 1.0, "{stat:?}");
    stage.runs(&[1]);
    for call in [first, second] {
        let answer = call.await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n1"),
            "{answer}"
        );
    }
    assert!(stage.asked.try_recv().is_err(), "two calls, one start");

    // What the autoscaler wants from then on is passed on.
    let wants = |count| {
        Arc::new(ScaleTable(
            [(
                "uid-hello-00001".into(),
                scale::Wanted {
                    here: count,
                    all: count,
                },
            )]
            .into(),
        ))
    };
    for count in [3, 0] {
        stage.scale.send_replace(wants(count));
        assert_eq!(stage.asked.recv().await, Some(count));
    }
    stage.runs(&[]);
    let third = stage.call("/");
    assert_eq!(stage.asked.recv().await, Some(1), "it was at zero again");
    stage.runs(&[2]);
    assert!(third.await.unwrap().ends_with("\r\n\r\n2"));
    // A revision that leaves the routes keeps no instance.
    stage.server.routes.send_replace(table(vec![]));
    assert_eq!(stage.asked.recv().await, Some(0));
}

#[tokio::test]
async fn an_instance_gets_no_more_calls_than_it_takes() {
    let mut stage = stage(2, Config::default());
    stage.runs(&[1, 2]);
    let calls: Vec<_> = (0..10).map(|_| stage.call("/wait")).collect();
    stage.until_in_flight(10).await;
    // Time-weighted: all of them count, also those that wait.
    let stat = loop {
        let (from_zero, stat) = stage.next_stat().await;
        if !from_zero && stat.concurrency > 9.9 {
            break stat;
        }
    };
    assert_eq!(stat.ready, 2);
    assert_eq!(stage.running.lock().unwrap().now, 4);
    stage.turns.add_permits(10);
    for call in calls {
        assert!(call.await.unwrap().starts_with("HTTP/1.1 200"));
    }
    assert_eq!(stage.running.lock().unwrap().most, 4);
}

#[tokio::test]
async fn a_call_that_is_handed_to_an_ended_instance_waits_for_another() {
    for concurrency in [0, 1] {
        let mut stage = stage(concurrency, Config::default());
        stage.runs(&[ENDED]);
        let call = stage.call("/");
        assert_eq!(stage.asked.recv().await, Some(1));
        stage.until_in_flight(1).await;
        stage.runs(&[ENDED, ENDED + 1, 7]);
        let answer = call.await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n7"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_caller_that_leaves_makes_room() {
    let config = Config {
        waiting_max: 3,
        ..Config::default()
    };
    let stage = stage(1, config);
    stage.runs(&[1]);
    let running = stage.call("/wait");
    stage.until_in_flight(1).await;
    let mut waiting: Vec<_> = (0..3).map(|_| stage.call("/wait")).collect();
    stage.until_in_flight(4).await;
    let refused = stage.call("/wait").await.unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 503")
            && refused.contains("retry-after: 1\r\n")
            && refused.contains("KW0205"),
        "{refused}"
    );
    // Others are served all the while.
    let other = stage.server.get(OTHER, "/").await;
    assert!(other.ends_with("other-00001"), "{other}");
    waiting.pop().unwrap().abort();
    stage.until_in_flight(3).await;
    waiting.push(stage.call("/wait"));
    stage.until_in_flight(4).await;
    stage.turns.add_permits(4);
    for call in waiting.into_iter().chain([running]) {
        assert!(call.await.unwrap().starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn who_waits_for_what_cannot_start_is_told_why() {
    let stage = stage(0, Config::default());
    let call = stage.call("/");
    stage.until_in_flight(1).await;
    stage.instances.send_replace(Instances {
        failure: Some("exit code 3".into()),
        ..Instances::default()
    });
    let answer = call.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503")
            && answer.contains("exit code 3")
            && answer.contains("retry-after"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_wait_ends_when_its_time_has_passed() {
    let stage = stage(0, Config::default());
    let mut revision = RevisionSpec::clone(&server_revision("hello-00001", 0, Scaling::default()));
    revision.limits.timeout = Duration::from_millis(50);
    revision.uid = "short".into();
    let routes = table(vec![(HELLO, entry(Arc::new(revision)))]);
    stage.server.routes.send_replace(Arc::clone(&routes));
    let mut in_use = stage.server.handle.table_in_use();
    in_use
        .wait_for(|table| Arc::ptr_eq(table, &routes))
        .await
        .unwrap();
    let answer = stage.call("/").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn calls_of_a_function_are_bounded_by_concurrency_times_max_scale() {
    let stage = stage(0, Config::default());
    let revision = RevisionSpec {
        kind: FunctionKind::Component,
        uid: "bounded".into(),
        ..RevisionSpec::clone(&server_revision(
            "hello-00001",
            1,
            Scaling {
                max: NonZeroU32::new(2),
                ..Scaling::default()
            },
        ))
    };
    let routes = table(vec![(HELLO, entry(Arc::new(revision)))]);
    stage.server.routes.send_replace(Arc::clone(&routes));
    let mut in_use = stage.server.handle.table_in_use();
    in_use
        .wait_for(|table| Arc::ptr_eq(table, &routes))
        .await
        .unwrap();
    let calls: Vec<_> = (0..5).map(|_| stage.call("/hang")).collect();
    stage.until_in_flight(5).await;
    let mut seen = stage.server.seen;
    for _ in 0..2 {
        assert_eq!(seen.recv().await, Some(crate::support::Seen::Started));
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(seen.try_recv().is_err(), "three wait");
    calls[0].abort();
    calls[1].abort();
    // Whichever ran or waited: as many as left are let in, if they ran.
    for call in calls {
        call.abort();
    }
    let mut started = 2;
    let mut dropped = 0;
    while dropped < started {
        match seen.recv().await.unwrap() {
            crate::support::Seen::Started => started += 1,
            crate::support::Seen::Dropped | crate::support::Seen::Broken => dropped += 1,
        }
    }
}
