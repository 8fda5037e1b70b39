//! Asking an instance whether it has started, is ready and is alive (Kubernetes' container probes).
//!
//! An instance is asked over its own network. Whether it accepts connections is known without making one, which would
//! disturb a guest that handles one connection after the other. A command cannot be run inside of an instance: such a
//! probe is passed over, and the log says so.

use super::connection;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::probe::{Handler, Probe};
use kittiwake_core::revision::{Protocol, RevisionSpec};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::network::Network;

/// Time between two tries of Knative's own probing (serving `pkg/queue/readiness/probe.go`, `aggressivePollInterval`
/// of 25 ms and `retryInterval` of 50 ms).
const AGGRESSIVE_PERIOD: Duration = Duration::from_millis(50);
/// Time between two tries where nothing is said (Kubernetes' default).
const PERIOD: Duration = Duration::from_secs(10);
/// Time for an answer where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long an instance may be silent before its log says what it is waited for.
const HINT_AFTER: Duration = Duration::from_secs(5);
/// Answers that are read at most, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Asks one instance.
pub(crate) struct Prober {
    revision: Arc<RevisionSpec>,
    network: Arc<Network>,
}

/// Why an instance has to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prober {
    /// Asks the instance that has this network.
    pub(crate) fn new(revision: &Arc<RevisionSpec>, network: &Arc<Network>) -> Self {
        Self {
            revision: Arc::clone(revision),
            network: Arc::clone(network),
        }
    }

    /// Resolves once the instance has started and is ready.
    pub(crate) async fn until_ready(&self) -> Result<(), Problem> {
        let probes = &self.revision.probes;
        if let Some(startup) = asked(probes.startup.as_ref()) {
            self.until(startup, "startup", true).await?;
        }
        match asked(probes.readiness.as_ref()) {
            Some(readiness) => self.until(readiness, "readiness", false).await,
            None => {
                self.network.until_listening(self.revision.port).await;
                Ok(())
            }
        }
    }

    /// The same, with a hint in the log for one who waits long.
    pub(crate) async fn until_ready_told(&self, log: &RevisionLog) -> Result<(), Problem> {
        let mut ready = std::pin::pin!(self.until_ready());
        if let Ok(ready) = timeout(HINT_AFTER, ready.as_mut()).await {
            return ready;
        }
        log.write(LogStream::Platform, &self.waits_for());
        ready.await
    }

    /// What an instance that is not ready is waited for.
    pub(crate) fn waits_for(&self) -> String {
        let (port, listening) = (self.revision.port, self.network.listening());
        if listening.contains(&port) {
            return "the function listens, but its readiness probe has not succeeded yet".to_owned();
        }
        let others: Vec<String> = listening.iter().map(ToString::to_string).collect();
        if others.is_empty() {
            return format!("the function does not listen on port {port} yet (PORT tells it which)");
        }
        format!(
            "the function listens on port {}, but calls come to port {port}: listen on PORT, or set containerPort",
            others.join(", ")
        )
    }

    /// Tells when the instance becomes ready or not, once it was ready for the first time. From then on Knative's own way of
    /// asking is as slow as Kubernetes' (the pod that serving's `pkg/reconciler/revision/resources/queue.go` makes has no
    /// period in its readiness probe then).
    pub(crate) async fn watch_readiness(&self, mut changed: impl FnMut(bool)) -> Infallible {
        let Some(probe) = asked(self.revision.probes.readiness.as_ref()) else {
            return std::future::pending().await;
        };
        let mut ready = true;
        let mut streak = 0;
        loop {
            sleep(period(probe)).await;
            if self.try_once(probe).await.is_ok() == ready {
                streak = 0;
                continue;
            }
            streak += 1;
            let threshold = if ready {
                probe.failure_threshold
            } else {
                probe.success_threshold
            };
            if streak >= threshold.max(1) {
                (ready, streak) = (!ready, 0);
                changed(ready);
            }
        }
    }

    /// Resolves once the liveness probe has failed.
    pub(crate) async fn until_dead(&self) -> Problem {
        let Some(probe) = asked(self.revision.probes.liveness.as_ref()) else {
            return std::future::pending().await;
        };
        sleep(probe.initial_delay).await;
        let mut failures = 0;
        loop {
            match self.try_once(probe).await {
                Ok(()) => failures = 0,
                Err(problem) => {
                    failures += 1;
                    if failures >= probe.failure_threshold.max(1) {
                        return Problem(format!("the liveness probe failed: {problem}"));
                    }
                }
            }
            sleep(period(probe)).await;
        }
    }

    /// Asks until it succeeds; where that `ends` the instance, until it has failed too often.
    async fn until(&self, probe: &Probe, name: &str, ends: bool) -> Result<(), Problem> {
        sleep(probe.initial_delay).await;
        let (mut successes, mut failures) = (0, 0);
        loop {
            match self.try_once(probe).await {
                Ok(()) => {
                    successes += 1;
                    if successes >= probe.success_threshold.max(1) {
                        return Ok(());
                    }
                }
                Err(problem) => {
                    (successes, failures) = (0, failures + 1);
                    if ends && failures >= probe.failure_threshold.max(1) {
                        return Err(Problem(format!("the {name} probe failed: {problem}")));
                    }
                }
            }
            if probe.period.is_zero() {
                // Nothing can succeed before it listens, and then there is no reason to wait.
                let listens = self.network.until_listening(self.port(&probe.handler));
                let waited = timeout(AGGRESSIVE_PERIOD, listens).await;
                if successes == 0 && (waited.is_err() || failures > 1) {
                    sleep(if waited.is_err() {
                        Duration::ZERO
                    } else {
                        AGGRESSIVE_PERIOD
                    })
                    .await;
                }
            } else {
                sleep(probe.period).await;
            }
        }
    }

    fn port(&self, handler: &Handler) -> u16 {
        let named = match handler {
            Handler::Http { port, .. } | Handler::Tcp { port } | Handler::Grpc { port, .. } => *port,
            Handler::Exec { .. } => None,
        };
        named.unwrap_or(self.revision.port)
    }

    /// Asks once.
    async fn try_once(&self, probe: &Probe) -> Result<(), String> {
        let limit = if probe.timeout.is_zero() {
            TIMEOUT
        } else {
            probe.timeout
        };
        match timeout(limit, self.ask(&probe.handler)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }

    async fn ask(&self, handler: &Handler) -> Result<(), String> {
        let port = self.port(handler);
        match handler {
            Handler::Exec { .. } => Ok(()),
            Handler::Tcp { .. } if self.network.listening().contains(&port) => Ok(()),
            Handler::Tcp { .. } => Err(format!("nothing listens on port {port}")),
            Handler::Http { path, headers, .. } => self.ask_http(port, path, headers).await,
            Handler::Grpc { service, .. } => self.ask_grpc(port, service).await,
        }
    }

    async fn ask_http(&self, port: u16, path: &str, headers: &[(String, String)]) -> Result<(), String> {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        let mut request = http::Request::get(path)
            .header(http::header::USER_AGENT, "kube-probe/1.33")
            .header(http::header::ACCEPT, "*/*");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header(http::header::HOST, format!("localhost:{port}"));
        }
        let request = request
            .body(Full::new(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let answer = connection::once(&self.network, port, self.revision.protocol, request).await?;
        let status = answer.status();
        // Read to its end, so that the guest is not cut off.
        let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        if (200..400).contains(&status.as_u16()) {
            return Ok(());
        }
        Err(format!("it answered with status {}", status.as_u16()))
    }

    /// The health protocol of gRPC (`grpc/grpc/doc/health-checking.md`).
    async fn ask_grpc(&self, port: u16, service: &str) -> Result<(), String> {
        let request = http::Request::post("/grpc.health.v1.Health/Check")
            .header(http::header::HOST, format!("localhost:{port}"))
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(Full::new(health_question(service)))
            .map_err(|error| error.to_string())?;
        let answer = connection::once(&self.network, port, Protocol::H2c, request).await?;
        let in_head = answer.headers().get("grpc-status").cloned();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        let in_trailers = body
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"))
            .cloned();
        let status = in_trailers.or(in_head);
        if status.as_ref().is_none_or(|status| status != "0") {
            return Err(format!("it answered with gRPC status {status:?}"));
        }
        match health_answer(&body.to_bytes()) {
            Some(SERVING) => Ok(()),
            other => Err(format!("it answered with health {other:?}, not SERVING")),
        }
    }
}

/// Tells in the log which probes are passed over.
pub(crate) fn tell_unasked(revision: &RevisionSpec, log: &RevisionLog) {
    let probes = &revision.probes;
    for (name, probe) in [
        ("startup", &probes.startup),
        ("readiness", &probes.readiness),
        ("liveness", &probes.liveness),
    ] {
        if probe
            .as_ref()
            .is_some_and(|probe| matches!(probe.handler, Handler::Exec { .. }))
        {
            log.write(
                LogStream::Platform,
                &format!(
                    "the {name} probe runs a command, which is not possible inside of a WebAssembly instance: it is passed over; use httpGet, tcpSocket or grpc"
                ),
            );
        }
    }
}

fn asked(probe: Option<&Probe>) -> Option<&Probe> {
    probe.filter(|probe| !matches!(probe.handler, Handler::Exec { .. }))
}

fn period(probe: &Probe) -> Duration {
    if probe.period.is_zero() {
        PERIOD
    } else {
        probe.period
    }
}

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;
/// Length of what stands before a message of gRPC: a flag and the message's length.
const PREFIX_BYTES: usize = 5;

/// A `HealthCheckRequest` with its prefix.
fn health_question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The status of a `HealthCheckResponse`, which is all that it has.
fn health_answer(framed: &[u8]) -> Option<u8> {
    match framed.get(PREFIX_BYTES..)? {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_protocol_is_written_and_read() {
        assert_eq!(health_question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(health_question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_question(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
        assert_eq!(health_answer(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(health_answer(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(health_answer(&[0, 0]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_is_ready_once_it_listens_or_its_probe_succeeds() {
        let network = Arc::<Network>::default();
        let mut spec = RevisionSpec::new(
            kittiwake_core::revision::RevisionKey::new("default", "a"),
            "uid",
            "image",
        );
        let prober = |spec: &RevisionSpec| Prober::new(&Arc::new(spec.clone()), &network);
        let none = prober(&spec);
        assert!(
            timeout(Duration::from_secs(60), none.until_ready())
                .await
                .is_err()
        );
        assert!(none.waits_for().contains("does not listen on port 8080"));
        let other = network.listen(1234, 1).unwrap();
        assert!(none.waits_for().contains("listens on port 1234"));
        network.unlisten(&other);
        let tcp = Probe {
            handler: Handler::Tcp { port: None },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        };
        spec.probes.startup = Some(tcp.clone());
        let problem = prober(&spec).until_ready().await.unwrap_err();
        assert_eq!(
            problem.to_string(),
            "the startup probe failed: nothing listens on port 8080"
        );
        spec.probes.startup = None;
        spec.probes.readiness = Some(Probe {
            period: Duration::ZERO,
            ..tcp.clone()
        });
        spec.probes.liveness = Some(tcp);
        let asked = prober(&spec);
        let (ready, listener) = tokio::join!(asked.until_ready(), async {
            sleep(Duration::from_secs(7)).await;
            network.listen(8080, 1).unwrap()
        });
        assert_eq!(ready, Ok(()));
        assert!(
            timeout(Duration::from_secs(60), asked.until_dead())
                .await
                .is_err()
        );
        network.unlisten(&listener);
        assert!(asked.until_dead().await.to_string().contains("liveness"));
    }
    #[tokio::test(start_paused = true)]
    async fn readiness_is_watched_after_the_start_also_without_a_period() {
        for (period, told) in [(Duration::ZERO, 30), (Duration::from_secs(1), 3)] {
            let network = Arc::<Network>::default();
            let mut spec = RevisionSpec::new(
                kittiwake_core::revision::RevisionKey::new("default", "a"),
                "uid",
                "image",
            );
            spec.probes.readiness = Some(Probe {
                handler: Handler::Tcp { port: None },
                initial_delay: Duration::ZERO,
                period,
                timeout: Duration::from_secs(1),
                success_threshold: 1,
                failure_threshold: 3,
            });
            let prober = Prober::new(&Arc::new(spec), &network);
            let begun = tokio::time::Instant::now();
            let (sender, mut changes) = tokio::sync::mpsc::channel(4);
            let watching = prober.watch_readiness(|ready| sender.try_send(ready).unwrap());
            let seen = async {
                let unready = (changes.recv().await, begun.elapsed().as_secs());
                let _listener = network.listen(8080, 1).unwrap();
                (unready, changes.recv().await)
            };
            let seen = tokio::select! {
                never = watching => match never {},
                seen = seen => seen,
            };
            assert_eq!(seen, ((Some(false), told), Some(true)));
        }
    }
}
