//! Takes half a second for a request, and answers 500 to one that comes while another is in the same instance.

use kittiwake_knative_images::{Answer, Request, image, sleep_ms};
use std::sync::atomic::{AtomicBool, Ordering};

image!(handle);

static BUSY: AtomicBool = AtomicBool::new(false);

fn handle(_: &Request, answer: Answer) {
    if BUSY.swap(true, Ordering::SeqCst) {
        return answer.text(500, "");
    }
    sleep_ms(500);
    answer.text(200, "One at a time");
    BUSY.store(false, Ordering::SeqCst);
}
