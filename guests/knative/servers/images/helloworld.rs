//! Answers with a sentence.

use kittiwake_knative_servers::{HELLO_WORLD, text};

fn main() -> std::io::Result<()> {
    kittiwake_knative_servers::main(async |_| text(200, format!("{HELLO_WORLD}\n")))
}
