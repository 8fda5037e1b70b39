//! Writes a file into the volume at `DATA_PATH` (`/data`) and answers with what is in it.
//!
//! Knative's image writes when it is started. Here every call has an instance of its own, so it writes before it reads.
//! `SKIP_DATA_WRITE` and `SKIP_DATA_SERVE` leave out one of the two.

use kittiwake_knative_images::{Answer, Request, image};
use std::path::Path;

image!(handle);

const TEXT: &str = "From file in empty dir!";

fn handle(_: &Request, answer: Answer) {
    let base = std::env::var("DATA_PATH").unwrap_or_else(|_| "/data".to_owned());
    let file = Path::new(&base).join("testfile");
    let set = |name| {
        std::env::var(name)
            .is_ok_and(|value| ["1", "t", "T", "true", "TRUE", "True"].contains(&value.as_str()))
    };
    if !set("SKIP_DATA_WRITE") {
        if let Err(error) = std::fs::write(&file, TEXT) {
            return answer.text(500, &format!("{}: {error}\n", file.display()));
        }
    }
    if set("SKIP_DATA_SERVE") {
        return answer.text(500, "data is not served\n");
    }
    match std::fs::read_to_string(&file) {
        Ok(content) => answer.text(200, &content),
        Err(error) => answer.text(500, &format!("{}: {error}\n", file.display())),
    }
}
