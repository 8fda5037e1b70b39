//! Asking an instance whether it has started, is ready and is alive (Kubernetes' container probes): over its own network
//! ([`ask`]), or by a command that is run beside it ([`command`]).

use kittiwake_core::probe::{Handler, Probe};
use kittiwake_core::revision::RevisionSpec;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::network::Network;

mod ask;
pub(crate) mod command;
mod kept;

use command::{Commands, Outcome};

/// Time between two tries of Knative's own probing (serving `pkg/queue/readiness/probe.go`, `aggressivePollInterval`
/// of 25 ms and `retryInterval` of 50 ms).
const AGGRESSIVE_PERIOD: Duration = Duration::from_millis(50);
/// The same of a command, which costs an instance each time.
const COMMAND_PERIOD: Duration = Duration::from_secs(1);
/// Time between two tries where nothing is said (Kubernetes' default).
const PERIOD: Duration = Duration::from_secs(10);
/// Time for an answer where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Asks one instance.
pub(crate) struct Prober {
    revision: Arc<RevisionSpec>,
    network: Arc<Network>,
    /// Where a probe runs a command.
    commands: Option<Commands>,
    /// Why the instance is not ready yet.
    last: Mutex<Option<String>>,
}

/// What a probe is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Startup,
    Readiness,
    Liveness,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }

    /// The field of a container that has it.
    fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Readiness => "readinessProbe",
            Self::Liveness => "livenessProbe",
        }
    }
}

/// Why an instance has to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    /// The same in other words.
    pub(crate) fn map(&self, say: impl FnOnce(&str) -> String) -> Self {
        Self(say(&self.0))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prober {
    /// Asks the instance that has this network, and runs `commands` beside it.
    pub(crate) fn new(
        revision: &Arc<RevisionSpec>,
        network: &Arc<Network>,
        commands: Option<Commands>,
    ) -> Self {
        Self {
            revision: Arc::clone(revision),
            network: Arc::clone(network),
            commands,
            last: Mutex::default(),
        }
    }

    /// Resolves once the instance has started and is ready.
    pub(crate) async fn until_ready(&self) -> Result<(), Problem> {
        let probes = &self.revision.probes;
        if let Some(startup) = &probes.startup {
            self.until(startup, Role::Startup).await?;
        }
        match &probes.readiness {
            Some(readiness) => self.until(readiness, Role::Readiness).await,
            // One that takes no calls is ready at once, as in a pod.
            None if self.revision.port == 0 => Ok(()),
            None => {
                self.network.until_listening(self.revision.port).await;
                Ok(())
            }
        }
    }

    /// What an instance that is not ready is waited for.
    pub(crate) fn waits_for(&self) -> String {
        let (port, listening) = (self.revision.port, self.network.listening());
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let why = last
            .as_ref()
            .map(|problem| format!(": {problem}"))
            .unwrap_or_default();
        if port == 0 {
            return format!("its probe has not succeeded yet{why}");
        }
        if listening.contains(&port) {
            return format!("the function listens, but its readiness probe has not succeeded yet{why}");
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
        let Some(probe) = &self.revision.probes.readiness else {
            return std::future::pending().await;
        };
        let mut ready = true;
        let mut streak = 0;
        loop {
            sleep(period(probe)).await;
            let Some(outcome) = self.try_once(probe, Role::Readiness).await else {
                continue;
            };
            if outcome.is_ok() == ready {
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
        let Some(probe) = &self.revision.probes.liveness else {
            return std::future::pending().await;
        };
        sleep(probe.initial_delay).await;
        let mut failures = 0;
        loop {
            match self.try_once(probe, Role::Liveness).await {
                None => {}
                Some(Ok(())) => failures = 0,
                Some(Err(problem)) => {
                    failures += 1;
                    if failures >= probe.failure_threshold.max(1) {
                        return Problem(format!("the liveness probe failed: {problem}"));
                    }
                }
            }
            sleep(period(probe)).await;
        }
    }

    /// Asks until it succeeds; whether it has started, until that has failed too often.
    async fn until(&self, probe: &Probe, role: Role) -> Result<(), Problem> {
        sleep(probe.initial_delay).await;
        let (mut successes, mut failures, mut tries) = (0, 0, 0_u32);
        loop {
            tries = tries.saturating_add(1);
            match self.try_once(probe, role).await {
                None => {}
                Some(Ok(())) => {
                    successes += 1;
                    if successes >= probe.success_threshold.max(1) {
                        return Ok(());
                    }
                }
                Some(Err(problem)) => {
                    (successes, failures) = (0, failures + 1);
                    if role == Role::Startup && failures >= probe.failure_threshold.max(1) {
                        return Err(Problem(format!("the startup probe failed: {problem}")));
                    }
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
                }
            }
            if probe.period.is_zero() {
                // Nothing can succeed before it listens, and then there is no reason to wait.
                let listens = self.network.until_listening(self.port(&probe.handler));
                let waited = timeout(AGGRESSIVE_PERIOD, listens).await;
                if successes == 0 && waited.is_ok() && tries > 1 {
                    sleep(match probe.handler {
                        Handler::Exec { .. } => COMMAND_PERIOD,
                        _ => AGGRESSIVE_PERIOD,
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
    async fn try_once(&self, probe: &Probe, role: Role) -> Outcome {
        let limit = if probe.timeout.is_zero() {
            TIMEOUT
        } else {
            probe.timeout
        };
        let port = self.port(&probe.handler);
        let network = &self.network;
        let asked = async {
            match &probe.handler {
                Handler::Http { path, headers, .. } => {
                    ask::http(network, port, self.revision.protocol, path, headers).await
                }
                Handler::Grpc { service, .. } => ask::grpc(network, port, service).await,
                Handler::Tcp { .. } => ask::tcp(network, port),
                // Knative asks for the port besides, by itself (serving `pkg/reconciler/revision/resources/queue.go`).
                Handler::Exec { .. } if role == Role::Readiness => ask::tcp(network, port),
                Handler::Exec { .. } => Ok(()),
            }
        };
        let asked = timeout(limit, asked).await;
        match (asked, &probe.handler, &self.commands) {
            (Err(_), ..) => Some(Err(format!("no answer within {limit:?}"))),
            (Ok(Ok(())), Handler::Exec { command }, Some(commands)) => {
                commands.run(role, command, limit).await
            }
            (Ok(Ok(())), Handler::Exec { .. }, None) => None,
            (Ok(asked), ..) => Some(asked),
        }
    }
}

fn period(probe: &Probe) -> Duration {
    if probe.period.is_zero() {
        PERIOD
    } else {
        probe.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instance_is_ready_once_it_listens_or_its_probe_succeeds() {
        let network = Arc::<Network>::default();
        let mut spec = RevisionSpec::new(
            kittiwake_core::revision::RevisionKey::new("default", "a"),
            "uid",
            "image",
        );
        let prober = |spec: &RevisionSpec| Prober::new(&Arc::new(spec.clone()), &network, None);
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
            let prober = Prober::new(&Arc::new(spec), &network, None);
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
