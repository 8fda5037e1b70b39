//! Artifacts that are made up: every image is fine but those that were told to fail. Images named `server` stay.

use futures::FutureExt;
use futures::future::BoxFuture;
use kittiwake_core::artifact::{FunctionKind, Prepare, PrepareError, PreparePhase, PrepareRequest, Prepared};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long making an artifact ready takes.
const WORK: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Artifacts {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    failures: HashMap<String, PrepareError>,
    recalled: HashSet<String>,
    requests: Vec<PrepareRequest>,
    running: usize,
    running_most: usize,
}

impl Artifacts {
    pub fn fail(&self, image: &str, error: PrepareError) {
        self.state
            .lock()
            .unwrap()
            .failures
            .insert(image.to_owned(), error);
    }

    /// Lets a pinned image be on disk from before.
    pub fn leave_on_disk(&self, image: &str) {
        self.state.lock().unwrap().recalled.insert(image.to_owned());
    }

    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    pub fn repair(&self, image: &str) {
        self.state.lock().unwrap().failures.remove(image);
    }

    pub fn last_request(&self) -> PrepareRequest {
        self.state.lock().unwrap().requests.last().unwrap().clone()
    }

    pub fn running_most(&self) -> usize {
        self.state.lock().unwrap().running_most
    }
}

impl Prepare for Artifacts {
    fn prepare(
        &self,
        request: PrepareRequest,
        progress: Arc<dyn Fn(PreparePhase) + Send + Sync>,
    ) -> BoxFuture<'static, Result<Prepared, PrepareError>> {
        let state = Arc::clone(&self.state);
        async move {
            {
                let mut state = state.lock().unwrap();
                state.requests.push(request.clone());
                state.running += 1;
                state.running_most = state.running_most.max(state.running);
            }
            for phase in [
                PreparePhase::Pulling,
                PreparePhase::Compiling,
                PreparePhase::Starting,
            ] {
                if phase == PreparePhase::Starting {
                    // From here on it takes no turn.
                    state.lock().unwrap().running -= 1;
                }
                progress(phase);
                tokio::time::sleep(WORK / 3).await;
            }
            let state = state.lock().unwrap();
            let revision = &request.revision;
            if let Some(error) = state.failures.get(&*revision.image) {
                return Err(error.clone());
            }
            let sidecars = revision.sidecars.iter();
            let sidecars = sidecars.map(|sidecar| match state.failures.get(&*sidecar.image) {
                Some(error) => Err(error.clone().of_sidecar(&sidecar.name)),
                None => Ok(pinned(&sidecar.image).into()),
            });
            Ok(Prepared {
                kind: kind(&revision.image),
                image: pinned(&revision.image),
                sidecars: sidecars.collect::<Result<_, _>>()?,
            })
        }
        .boxed()
    }

    fn recall(&self, image: &str) -> Option<Prepared> {
        let state = self.state.lock().unwrap();
        state.recalled.contains(image).then(|| Prepared {
            image: image.to_owned(),
            kind: kind(image),
            sidecars: Vec::new(),
        })
    }
}

fn pinned(image: &str) -> String {
    match image.split_once('@') {
        Some(_) => image.to_owned(),
        None => image.replace(':', "@sha256:"),
    }
}

/// Images whose name begins with `server` stay.
fn kind(image: &str) -> FunctionKind {
    if image.starts_with("server") {
        FunctionKind::Server
    } else {
        FunctionKind::Component
    }
}
