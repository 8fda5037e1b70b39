//! Worker processes: what `up --workers N` starts so that one crash costs only the calls of one process.
//!
//! ```text
//! kittiwake up ── holds the sockets, the store, the API, the controllers; takes no calls itself
//!   ├─ kittiwake worker   its own listening socket (SO_REUSEPORT), runtime and gateway; watches the API
//!   └─ kittiwake worker   …
//! ```
//! The supervisor keeps every listening socket open, so while a worker is replaced connections wait in its queue
//! instead of being refused. Calls of a function with fewer instances than workers go from worker to worker, over sockets
//! that it keeps as well ([`inner_doors`]). One local socket, the link, joins the two: settings and the listening socket go down over
//! it ([`handoff`]); routes in place, functions' output, reports and metrics come up ([`link`]).
//!
//! Architecture invariant: a worker learns what to serve from the API alone. Without a link it goes on serving.

pub mod exposition;
pub mod handoff;
pub mod inner_doors;
pub mod link;
pub mod placement;
pub mod process;
pub mod supervisor;
pub mod upgrade;
