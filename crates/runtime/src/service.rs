//! Services of `wasi:http` 0.3, whose interface lets one instance serve several calls at a time.
//!
//! A call waits in the queue of its function ([`dispatch`]) until an instance takes it; when there is too little room
//! in those that are there, one more is made. Each instance has a task ([`driver`]) that lets its guest go on and brings
//! calls into it, as many as the annotation `kittiwake.dev/isolation` allows ([`vitals`]). The caller holds a
//! [`seat`] in its instance until it has all of the response.
//!
//! An instance ends when it has served its calls, had nothing to do for a while, is asked to give its place to a call
//! of another function, or must be stopped: a time limit passed, or whoever called has left and nobody else is in it.
//! A trap ends it too, and with it every call that is in it.

use crate::component::{Loaded, Program};
use crate::function::{Function, Meter};
use crate::host::Host;
use crate::invoke::state::CallState;
use crate::metrics::Counted;
use crate::outside::Outside;
use crate::prepare::causes;
use crate::runtime::Shared;
use arc_swap::ArcSwapOption;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::revision::RevisionSpec;
use std::sync::{Arc, Weak};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::ProxyPre;

mod dispatch;
mod driver;
mod seat;
mod vitals;

use dispatch::{Dispatch, Needs};
use driver::Driver;
pub(crate) use seat::{Answer, Failure, Seated};
use seat::{Job, Seat};
use vitals::{Sharing, Vitals};

/// The instances of one function, which are made as calls come.
#[derive(Default)]
pub(crate) struct Service(ArcSwapOption<Version>);

/// Those of one version of its revision.
pub(crate) struct Version {
    /// Itself, for the tasks of its instances.
    this: Weak<Version>,
    revision: Arc<RevisionSpec>,
    loaded: Arc<Loaded>,
    log: Arc<RevisionLog>,
    meter: Meter,
    outside: Arc<Outside>,
    /// Weak, since the functions that hold this are in it.
    shared: Weak<Shared>,
    sharing: Sharing,
    dispatch: Dispatch<Job, Vitals>,
}

impl Service {
    /// Whoever answers calls of this very version of the revision. Instances of an earlier one get no more calls.
    pub(crate) fn version(
        &self,
        revision: &Arc<RevisionSpec>,
        function: &Function,
        shared: &Arc<Shared>,
    ) -> Arc<Version> {
        let is_current = |version: &Arc<Version>| Arc::ptr_eq(&version.revision, revision);
        if let Some(version) = self.0.load_full().filter(is_current) {
            return version;
        }
        let sharing = Sharing::of(revision.isolation, revision.limits.concurrency);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let made = Arc::new_cyclic(|this| Version {
            this: Weak::clone(this),
            revision: Arc::clone(revision),
            loaded: Arc::clone(&function.loaded),
            log: Arc::clone(&function.log),
            meter: function.meter.clone(),
            outside: Arc::clone(&function.outside),
            shared: Arc::downgrade(shared),
            sharing,
            dispatch: Dispatch::new(sharing.at_a_time_max, cores),
        });
        // Of two that come at a time, both use the one that is kept.
        self.0.rcu(|current| match current {
            Some(version) if is_current(version) => Some(Arc::clone(version)),
            _ => Some(Arc::clone(&made)),
        });
        self.0.load_full().filter(is_current).unwrap_or(made)
    }

    /// Asks instances that have nothing to do to end now.
    pub(crate) fn give_way(&self) {
        if let Some(version) = self.0.load_full() {
            for instance in version.dispatch.instances() {
                instance.give_way();
            }
        }
    }
}

impl Version {
    /// Hands in a call that must have ended at `deadline`. Its answer comes out of the receiver; it leaves when
    /// [`Seated`] is dropped.
    pub(crate) fn call(
        self: &Arc<Self>,
        request: http::Request<WasiBody>,
        state: &Arc<CallState>,
        deadline: Instant,
    ) -> (oneshot::Receiver<Answer>, Seated) {
        let (seat, answer) = Seat::new(Arc::clone(state), deadline);
        let seated = Seated::new(Arc::clone(&seat), Arc::clone(self));
        self.serve(self.dispatch.push(Job { seat, request }));
        (answer, seated)
    }

    /// A call has left an instance.
    fn left(&self, instance: &Arc<Vitals>) {
        if self.dispatch.left(instance) {
            instance.wake();
        }
    }

    fn give_up(&self) {
        self.dispatch.give_up();
    }

    /// Does what calls that wait need.
    fn serve(&self, needs: Needs<Vitals>) {
        if let Some(instance) = needs.wake {
            instance.wake();
        }
        if needs.start
            && let Some(this) = self.this.upgrade()
        {
            tokio::spawn(this.start());
        }
    }

    /// Makes an instance and lets it work until its end.
    async fn start(self: Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        // The slot is given back last.
        let (_place, driver) = match self.make(&shared).await {
            Ok(made) => made,
            Err(failure) => {
                for job in self.dispatch.not_started() {
                    job.seat.answer(Err(match &failure {
                        Failure::NoSlot(refused) => Failure::NoSlot(*refused),
                        Failure::NotInstantiated(error) => Failure::NotInstantiated(Arc::clone(error)),
                        _ => Failure::Ended,
                    }));
                }
                return;
            }
        };
        drop(shared);
        self.dispatch.started(&driver.vitals);
        driver.run().await;
    }

    async fn make(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
    ) -> Result<((OwnedSemaphorePermit, Counted), Driver), Failure> {
        let deadline = Instant::now() + self.revision.limits.timeout;
        let slot = shared.slot(&self.loaded.engine, deadline).await;
        let slot = slot.map_err(Failure::NoSlot)?;
        let live = Counted::new(&shared.metrics.instances_live);
        let begun = shared.clock.elapsed();
        let mut host = Host::new(&self.revision, &shared.file_root, &self.log, &self.outside);
        host.limiter.count_in(&self.meter.memory);
        let mut wasm_store = host.into_store(self.loaded.engine.engine());
        let made = match &self.loaded.program {
            Program::Handler(ProxyPre::P3(pre)) => pre.instantiate_async(&mut wasm_store).await,
            Program::Handler(ProxyPre::P2(_)) | Program::Direct(_) | Program::Cli(_) | Program::Module(_) => {
                Err(wasmtime::Error::msg("handlers are called in another way"))
            }
        };
        let service = made.map_err(|error| {
            let text = format!("no instance of the function could be made: {}", causes(&error));
            self.log.write(LogStream::Platform, &text);
            Failure::NotInstantiated(Arc::new(error))
        })?;
        let instantiated = shared.clock.elapsed().saturating_sub(begun);
        let driver = Driver {
            version: Arc::clone(self),
            shared: Weak::clone(&self.shared),
            vitals: Arc::new(Vitals::new(self.sharing, instantiated)),
            wasm_store,
            service,
        };
        Ok(((slot, live), driver))
    }

    /// An instance has ended, and is dropped.
    fn ended(&self, vitals: &Arc<Vitals>, wasm_store: Store<Host>, result: wasmtime::Result<()>) {
        self.dispatch.ended(vitals);
        let error = result.err().map(Arc::new);
        if let Some(error) = &error
            && !vitals.is_abandoned()
        {
            let text = format!("an instance of the function failed: {}", causes(error));
            self.log.write(LogStream::Platform, &text);
        }
        vitals.end(error.as_ref());
        drop(wasm_store);
        self.serve(self.dispatch.needs());
    }
}
