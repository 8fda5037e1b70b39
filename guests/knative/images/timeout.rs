//! Waits `initialTimeout` milliseconds before the first byte of its answer, and `timeout` milliseconds after it.

use kittiwake_knative_images::{Answer, Request, image, sleep_ms};

image!(handle);

fn handle(request: &Request, answer: Answer) {
    let wait = |name| {
        request
            .query(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    };
    sleep_ms(wait("initialTimeout"));
    let Some(mut body) = answer.begin(200, "text/plain; charset=utf-8") else {
        return;
    };
    let milliseconds = wait("timeout");
    sleep_ms(milliseconds);
    body.write(format!("Slept for {milliseconds} milliseconds").as_bytes());
    body.finish();
}
