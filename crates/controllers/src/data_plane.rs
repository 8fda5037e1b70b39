//! The routing table and the scale table without the controllers: for a process that only answers calls. It watches
//! what Routes, Revisions and PodAutoscalers say, with the ConfigMaps and Secrets that functions read, and writes
//! nothing.
//!
//! A Revision is in the table once its digest is on record, which the Revision controller writes when its artifact is
//! ready; so the table is that of the controllers, a moment later. Where an artifact was lost since, the runtime finds
//! out at the next call and reports it.

use crate::certificates::Certificates;
use crate::config::Config;
use crate::object::{Meta, ObjectKey};
use crate::reflectors::{Cache, reflect};
use crate::revision::tokens::Tokens;
use crate::revision::{environment, references, spec};
use crate::route::url::{Naming, said_inside};
use crate::routing_table::{self, plan};
use crate::scale_table::Scales;
use crate::settings::Follower;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccountTokenProjection};
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::serving::{DomainMapping, Revision, Route};
use kittiwake_core::clock::Clock;
use kittiwake_core::log::LogHub;
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::routing_table::RoutingTable;
use kittiwake_core::scale::ScaleTable;
use kittiwake_core::share::Share;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the data plane is given.
pub struct Inputs {
    /// The Kubernetes API.
    pub client: kube::Client,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where functions' logs are; those of deleted revisions are forgotten.
    pub logs: Arc<LogHub>,
    /// Which of the processes that answer calls this is, once it is known.
    pub share: watch::Receiver<Option<Share>>,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

/// The running of the data plane; resolves after [`Inputs::shutdown`].
pub type Task = BoxFuture<'static, ()>;

/// What the request path goes by.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Where calls go; `None` until everything was seen.
    pub routing: watch::Receiver<Option<Arc<RoutingTable>>>,
    /// How many instances of each Revision there shall be in this process. Empty until its share is known.
    pub scale: watch::Receiver<Arc<ScaleTable>>,
    /// The share by which the newest routing table divides what is bounded; `None` before this process has one. Who answered
    /// calls before would have instances that are others'.
    pub divided: watch::Receiver<Option<Share>>,
}

/// Makes the tables' following.
#[must_use]
pub fn build(config: Config, inputs: Inputs) -> (Tables, Task) {
    let (table, routing) = watch::channel(None);
    let (scales, scale) = watch::channel(Arc::default());
    let (divide, divided) = watch::channel(None);
    (
        Tables {
            routing,
            scale,
            divided,
        },
        run(config, inputs, table, scales, divide).boxed(),
    )
}

struct Stores {
    routes: Cache<Route>,
    revisions: Cache<Revision>,
    secrets: Cache<Secret>,
    config_maps: Cache<ConfigMap>,
    domain_mappings: Cache<DomainMapping>,
    namespaces: Cache<Namespace>,
}

async fn run(
    config: Config,
    inputs: Inputs,
    table: watch::Sender<Option<Arc<RoutingTable>>>,
    scale_table: watch::Sender<Arc<ScaleTable>>,
    divide: watch::Sender<Option<Share>>,
) {
    let Inputs {
        client,
        clock,
        logs,
        share,
        shutdown,
    } = inputs;
    let (routes, fill_routes) = reflect::<Route>(&client);
    let (revisions, fill_revisions) = reflect::<Revision>(&client);
    let (secrets, fill_secrets) = reflect::<Secret>(&client);
    let (config_maps, fill_config_maps) = reflect::<ConfigMap>(&client);
    let (domain_mappings, fill_domain_mappings) = reflect::<DomainMapping>(&client);
    let (namespaces, fill_namespaces) = reflect::<Namespace>(&client);
    let stores = Stores {
        routes,
        revisions,
        secrets,
        config_maps,
        domain_mappings,
        namespaces,
    };
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let bell = |changed: &Arc<Notify>| {
        let changed = Arc::clone(changed);
        move || changed.notify_one()
    };
    let ring = bell(&changed);
    tasks.spawn(fill_routes.run_and_tell(move |_, _| ring()));
    let ring = bell(&changed);
    tasks.spawn(fill_revisions.run_and_tell(move |key, now| {
        if now.is_none() {
            logs.forget(&spec::key_for_data_plane(key));
        }
        ring();
    }));
    let scales = Arc::new(Scales::default());
    let (_, fill_pod_autoscalers) = reflect::<PodAutoscaler>(&client);
    let noted = Arc::clone(&scales);
    tasks.spawn(fill_pod_autoscalers.run_and_tell(move |key, now| noted.set(key, now)));
    let mut shares = share.clone();
    tasks.spawn(async move { scales.publish(share, scale_table).await });
    let ring = bell(&changed);
    tasks.spawn(fill_secrets.run_and_tell(move |_, _| ring()));
    let ring = bell(&changed);
    tasks.spawn(fill_config_maps.run_and_tell(move |_, _| ring()));
    let ring = bell(&changed);
    tasks.spawn(fill_domain_mappings.run_and_tell(move |_, _| ring()));
    let ring = bell(&changed);
    tasks.spawn(fill_namespaces.run_and_tell(move |_, _| ring()));
    let following = async {
        stores.routes.wait_until_seen().await;
        stores.revisions.wait_until_seen().await;
        stores.secrets.wait_until_seen().await;
        stores.config_maps.wait_until_seen().await;
        stores.domain_mappings.wait_until_seen().await;
        stores.namespaces.wait_until_seen().await;
        let mut settings = Follower::default();
        let certificates = Certificates::default();
        let mut specs = Specs::default();
        let tokens = Tokens::default();
        loop {
            let began = Instant::now();
            let tokens_end = renew_tokens(&tokens, &client, &stores, clock.now()).await;
            let known_share = *shares.borrow_and_update();
            let share = known_share.unwrap_or(Share::WHOLE);
            specs.update(&stores, &tokens, share, clock.now());
            // Who cannot be used is told by the controllers.
            settings.update(|key| stores.config_maps.by_key(key));
            let new = plan::plan(&plan::Sources {
                routes: &stores.routes.all(),
                mappings: &stores.domain_mappings.all(),
                revisions: &stores.revisions.all(),
                servable: &|key| specs.servable(key),
                secret: &|key| stores.secrets.by_key(key),
                namespace: &|name| stores.namespaces.by_key(&ObjectKey::new("", name)),
                certificates: &certificates,
                naming: Naming {
                    config: &config,
                    settings: &settings.settings(),
                    kept_inside: &said_inside,
                },
                now: clock.now(),
            });
            table.send_if_modified(|old| {
                let differs = old.as_deref() != Some(&new);
                if differs {
                    *old = Some(Arc::new(new));
                }
                differs
            });
            divide.send_replace(known_share);
            let pause = routing_table::pause(config.routing_table_debounce, began.elapsed());
            tokio::select! {
                () = changed.notified() => {}
                // Calls wait for it.
                Ok(()) = shares.changed() => continue,
                () = tokio::time::sleep(tokens_end.min(certificates.next_end(clock.now()))) => {}
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = shutdown.cancelled() => {}
    }
    tasks.shutdown().await;
}

/// Asks for the tokens that Revisions find in their volumes. Tells after how long to do so again.
async fn renew_tokens(tokens: &Tokens, client: &kube::Client, stores: &Stores, now: Timestamp) -> Duration {
    tokens.keep(|key| stores.revisions.by_key(key).is_some());
    let mut next = Duration::MAX;
    for revision in stores.revisions.all() {
        // Of one that has no digest yet nothing is served.
        if spec::pinned_image(&revision).is_some()
            && let Some(wait) = tokens.renew(client, &revision, now).await
        {
            next = next.min(wait);
        }
    }
    next
}

/// The revisions that can be called, kept between tables: most of them did not change.
#[derive(Default)]
struct Specs {
    by_key: HashMap<ObjectKey, Known>,
    /// The part of this process of the bounds in them.
    share: Option<Share>,
}

struct Known {
    /// What the spec was made of.
    revision: Arc<Revision>,
    /// Whether it was made of Secrets, ConfigMaps or tokens as well, which may have changed since.
    reads_others: bool,
    spec: Option<Arc<RevisionSpec>>,
}

impl Known {
    /// Whether its spec depends on the share of this process.
    fn is_bounded(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.scaling.max.is_some())
    }
}

/// Leaves this process its part of the bound on instances.
fn divide_bound(spec: &mut RevisionSpec, share: Share) {
    let Some(most) = spec.scaling.max else { return };
    let (part, owners) = share.of_bound(&spec.uid, most);
    spec.scaling.max = Some(part);
    // Instances that live for one call are bounded only by the calls that they take together: where each takes any
    // number, there is nothing that calls would have to be passed on for.
    let counts = spec.kind.is_resident() || spec.limits.concurrency.is_some();
    spec.scaling.owners = owners.filter(|_| counts);
}

impl Specs {
    fn servable(&self, key: &ObjectKey) -> Option<Arc<RevisionSpec>> {
        self.by_key.get(key)?.spec.clone()
    }

    /// Brings all up to date. One that reads Secrets, ConfigMaps or tokens is made anew each time.
    fn update(&mut self, stores: &Stores, tokens: &Tokens, share: Share, now: Timestamp) {
        let same_share = self.share.replace(share) == Some(share);
        let mut old = std::mem::take(&mut self.by_key);
        for revision in stores.revisions.all() {
            if revision.is_being_deleted() {
                continue;
            }
            let key = ObjectKey::of(&*revision);
            let before = old.remove(&key);
            let known = match before {
                Some(before)
                    if Arc::ptr_eq(&before.revision, &revision)
                        && !before.reads_others
                        && (same_share || !before.is_bounded()) =>
                {
                    before
                }
                before => {
                    let mut spec = callable(stores, tokens, now, &key, &revision);
                    if let Some(spec) = &mut spec {
                        divide_bound(spec, share);
                    }
                    let unchanged = before
                        .and_then(|before| before.spec)
                        .filter(|old| spec.as_ref() == Some(&**old));
                    Known {
                        reads_others: reads_others(&revision),
                        spec: unchanged.or_else(|| spec.map(Arc::new)),
                        revision,
                    }
                }
            };
            self.by_key.insert(key, known);
        }
    }
}

fn reads_others(revision: &Revision) -> bool {
    let references = references::of(revision);
    !references.secrets.is_empty() || !references.config_maps.is_empty() || Tokens::are_wanted_by(revision)
}

/// The revision as the data plane sees it, once its artifact is on record and its environment is complete.
fn callable(
    stores: &Stores,
    tokens: &Tokens,
    now: Timestamp,
    key: &ObjectKey,
    revision: &Revision,
) -> Option<RevisionSpec> {
    let images = spec::Images::pinned(revision)?;
    let secret = |name: &str| stores.secrets.by_key(&key.sibling(name));
    let config_map = |name: &str| stores.config_maps.by_key(&key.sibling(name));
    let token = |projection: &ServiceAccountTokenProjection| tokens.get(revision, projection, now);
    let surroundings = environment::surroundings(revision, &secret, &config_map, &token).ok()?;
    Some(spec::revision_spec(
        revision,
        &images,
        spec::kind(revision),
        surroundings,
    ))
}
