//! Greets.

use kittiwake_knative_images::{Answer, Request, image};

image!(handle);

fn handle(_: &Request, answer: Answer) {
    answer.text(200, "Hello World! How about some tasty noodles?\n");
}
