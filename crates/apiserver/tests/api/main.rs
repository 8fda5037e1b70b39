//! The API as clients see it: through `kube::Client` in process, and request by request.

mod harness;

mod discovery;
mod lifecycle;
mod reading;
mod refusals;
mod typed_client;
mod watching;
mod writing;
