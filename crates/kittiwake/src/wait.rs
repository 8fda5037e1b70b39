//! Waiting for objects to become ready, with progress that a person can follow.

use crate::client::Connection;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often an object is looked at.
const POLL: Duration = Duration::from_millis(150);
/// How long `Ready=False` is tolerated before it counts: a new generation may still carry the old verdict
/// (kn's `--wait-window`, 2 s).
const FALSE_TOLERATED: Duration = Duration::from_secs(2);

/// What the conditions of an object say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It has no conditions to wait for (a ConfigMap, say).
    Unconditional,
    /// `Ready` is True for the current generation.
    Ready {
        /// `status.url`, where there is one.
        url: Option<String>,
    },
    /// `Ready` is False for the current generation.
    Failed {
        /// Its reason and message.
        why: String,
    },
    /// Not decided yet.
    Pending {
        /// What it is waiting for.
        what: String,
    },
}

/// The kind of Knative's that has no status.
const WITHOUT_STATUS: &str = "ClusterDomainClaim";

/// Reads the readiness of an object from its status (Knative's rule: conditions count only when
/// `observedGeneration` equals `generation`).
#[must_use]
pub fn readiness(object: &Value) -> Readiness {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let observed = object
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_ours = text("apiVersion").contains("knative.dev/") && text("kind") != WITHOUT_STATUS;
    let ready = conditions
        .iter()
        .find(|condition| field(condition, "type") == "Ready");
    let Some(ready) = ready else {
        return if is_ours {
            Readiness::Pending {
                what: "accepted".to_owned(),
            }
        } else {
            Readiness::Unconditional
        };
    };
    if observed.is_some() && observed != generation {
        return Readiness::Pending {
            what: "accepted".to_owned(),
        };
    }
    match field(ready, "status") {
        "True" => Readiness::Ready {
            url: object
                .pointer("/status/url")
                .and_then(Value::as_str)
                .map(str::to_owned),
        },
        "False" => Readiness::Failed { why: explain(ready) },
        _ => Readiness::Pending { what: explain(ready) },
    }
}

fn field<'v>(condition: &'v Value, name: &str) -> &'v str {
    condition.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn explain(condition: &Value) -> String {
    match (field(condition, "reason"), field(condition, "message")) {
        ("", "") => "waiting".to_owned(),
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// An object to wait for.
#[derive(Debug, Clone)]
pub struct Target {
    /// How to call it in messages.
    pub display: String,
    /// Its path on the server.
    pub path: String,
}

/// The end of waiting for one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How to call it.
    pub display: String,
    /// What it came to; [`Readiness::Pending`] when the time was over.
    pub readiness: Readiness,
}

/// Waits until each target is ready or has failed, or `timeout` is over. Progress goes to standard error: a spinner
/// for each object on a terminal, otherwise a line for each change once it takes longer than a moment.
///
/// # Errors
/// When the server refuses or cannot be reached.
pub async fn wait(
    connection: &Connection,
    targets: &[Target],
    timeout: Duration,
) -> anyhow::Result<Vec<Outcome>> {
    let deadline = Instant::now() + timeout;
    let progress = Progress::new();
    let mut outcomes = Vec::new();
    let waits = targets
        .iter()
        .map(|target| wait_one(connection, target, deadline, progress.line(&target.display)));
    for outcome in futures::future::join_all(waits).await {
        outcomes.push(outcome?);
    }
    Ok(outcomes)
}

async fn wait_one(
    connection: &Connection,
    target: &Target,
    deadline: Instant,
    mut line: Line,
) -> anyhow::Result<Outcome> {
    let mut false_since: Option<Instant> = None;
    let readiness = loop {
        let object = connection.get(&target.path).await?;
        let now = Instant::now();
        let readiness = readiness(&object);
        match &readiness {
            Readiness::Unconditional | Readiness::Ready { .. } => break readiness,
            Readiness::Failed { why } => {
                line.say(why);
                if now - *false_since.get_or_insert(now) >= FALSE_TOLERATED {
                    break readiness;
                }
            }
            Readiness::Pending { what } => {
                false_since = None;
                let what = detail(connection, target, &object, what).await;
                line.say(&what);
                if now >= deadline {
                    break Readiness::Pending { what };
                }
            }
        }
        if now >= deadline {
            break readiness;
        }
        tokio::time::sleep(POLL).await;
    };
    line.finish();
    Ok(Outcome {
        display: target.display.clone(),
        readiness,
    })
}

/// What a pending Service really waits for is told by its newest Revision (pulling, compiling, …).
async fn detail(connection: &Connection, target: &Target, object: &Value, fallback: &str) -> String {
    let revision = object
        .pointer("/status/latestCreatedRevisionName")
        .and_then(Value::as_str);
    let (Some(revision), Some((collection, _))) = (revision, target.path.rsplit_once('/')) else {
        return fallback.to_owned();
    };
    let Some((root, _)) = collection.rsplit_once('/') else {
        return fallback.to_owned();
    };
    match connection
        .get(&format!("{root}/revisions/{revision}"))
        .await
        .map(|revision| readiness(&revision))
    {
        Ok(Readiness::Pending { what }) => what,
        _ => fallback.to_owned(),
    }
}

/// Without a terminal nothing is said before this: what is quick needs no explanation.
const QUIET: Duration = Duration::from_secs(2);

/// Where progress is shown.
struct Progress(Option<MultiProgress>);

/// The progress of one object.
enum Line {
    Spinner(ProgressBar),
    Plain {
        display: String,
        last: String,
        start: Instant,
    },
}

impl Progress {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(MultiProgress::new))
    }

    fn line(&self, display: &str) -> Line {
        let Some(bars) = &self.0 else {
            return Line::Plain {
                display: display.to_owned(),
                last: String::new(),
                start: Instant::now(),
            };
        };
        let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = bars.add(
            ProgressBar::new_spinner()
                .with_style(style)
                .with_prefix(display.to_owned()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Line::Spinner(bar)
    }
}

impl Line {
    fn say(&mut self, text: &str) {
        match self {
            Self::Spinner(bar) => bar.set_message(text.to_owned()),
            Self::Plain { display, last, start } if last != text && start.elapsed() >= QUIET => {
                eprintln!("{display}: {text}");
                text.clone_into(last);
            }
            Self::Plain { .. } => {}
        }
    }

    fn finish(&self) {
        if let Self::Spinner(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(generation: i64, observed: i64, status: &str) -> Value {
        json!({"apiVersion": "serving.knative.dev/v1", "metadata": {"generation": generation}, "status": {
            "observedGeneration": observed, "url": "http://x",
            "conditions": [{"type": "Ready", "status": status, "reason": "R", "message": "m"}]}})
    }

    #[test]
    fn only_the_current_generation_counts() {
        assert_eq!(
            readiness(&service(1, 1, "True")),
            Readiness::Ready {
                url: Some("http://x".to_owned())
            }
        );
        assert!(matches!(
            readiness(&service(2, 1, "True")),
            Readiness::Pending { .. }
        ));
        assert_eq!(
            readiness(&service(1, 1, "False")),
            Readiness::Failed {
                why: "R: m".to_owned()
            }
        );
        assert_eq!(
            readiness(&service(1, 1, "Unknown")),
            Readiness::Pending {
                what: "R: m".to_owned()
            }
        );
    }

    #[test]
    fn a_config_map_has_nothing_to_wait_for() {
        assert_eq!(
            readiness(&json!({"apiVersion": "v1", "kind": "ConfigMap"})),
            Readiness::Unconditional
        );
        assert_eq!(
            readiness(
                &json!({"apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "ClusterDomainClaim"})
            ),
            Readiness::Unconditional
        );
        let fresh =
            json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"generation": 1}});
        assert!(matches!(readiness(&fresh), Readiness::Pending { .. }));
    }
}
