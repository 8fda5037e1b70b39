//! Writes a file into the volume at `DATA_PATH` (`/data`) when it starts, and answers with what is in it. `SKIP_DATA_WRITE`
//! and `SKIP_DATA_SERVE` leave out one of the two.

use kittiwake_knative_servers::{Request, is_set, text};
use std::path::Path;

const TEXT: &str = "From file in empty dir!";

fn main() -> std::io::Result<()> {
    let base = std::env::var("DATA_PATH").unwrap_or_else(|_| "/data".to_owned());
    let file = Path::new(&base).join("testfile");
    if !is_set("SKIP_DATA_WRITE") {
        std::fs::write(&file, TEXT)?;
    }
    if is_set("SKIP_DATA_SERVE") {
        return Ok(());
    }
    kittiwake_knative_servers::main(move |_: Request| {
        let read = std::fs::read_to_string(&file);
        async { read.map_or_else(|error| text(500, error.to_string()), |content| text(200, content)) }
    })
}
