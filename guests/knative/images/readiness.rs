//! Always healthy, as far as an instance that lives for one call can tell.
//!
//! Knative's image becomes healthy after `READY_DELAY`, listens after `LISTEN_DELAY`, and fails its probe after a call of
//! `/start-failing`. That needs a program that stays: the one of `servers`.

use kittiwake_knative_images::{Answer, Request, image};

image!(handle);

const GREETING: &str = "Hello World! How about some tasty noodles?";

fn handle(request: &Request, answer: Answer) {
    match request.path() {
        "/query" if request.query("probe") != Some("ok") => answer.text(500, "no query"),
        _ => answer.text(200, GREETING),
    }
}
