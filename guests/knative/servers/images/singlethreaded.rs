//! Takes half a second for a request, and answers 500 to one that comes meanwhile.

use kittiwake_knative_servers::{Request, Response, executor, text};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

fn main() -> std::io::Result<()> {
    kittiwake_knative_servers::main(answer)
}

/// Ends with the call, also when its caller goes away.
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.set(false);
    }
}

async fn answer(_: Request) -> Response {
    if BUSY.replace(true) {
        return text(500, "");
    }
    let _turn = Turn;
    executor::sleep(Duration::from_millis(500)).await;
    text(200, "One at a time")
}
