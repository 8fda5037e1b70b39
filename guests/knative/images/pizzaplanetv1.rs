//! One of two images that answer differently, to see which one got a request.

use kittiwake_knative_images::{Answer, Request, image};

image!(handle);

fn handle(_: &Request, answer: Answer) {
    answer.text(200, "What a spaceport!");
}
