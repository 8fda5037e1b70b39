//! The other of two images that answer differently.

use kittiwake_knative_images::{Answer, Request, image};

image!(handle);

fn handle(_: &Request, answer: Answer) {
    answer.text(200, "Re-energize yourself with a slice of pepperoni!");
}
