//! The `kittiwake` command. Everything it does is in the library of this crate; see [`kittiwake::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match kittiwake::run() {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes, each on the same line: what failed, because of what.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
