//! Ends with code 5 when it is started.
//!
//! Knative's image runs ten seconds before that. A component has no `main`: what it does at its start is what runs while
//! it is instantiated, and that is where this one ends.

use kittiwake_knative_images::{Answer, Request, image};

image!(handle);

fn handle(_: &Request, answer: Answer) {
    answer.text(200, "never reached");
}

/// What the maker of the component calls while it is instantiated, before anything else of it runs.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    eprintln!("Crashed...");
    std::process::exit(5);
}
