//! Answers the container that it runs beside, on the port `PORT` (8882).

use kittiwake_knative_servers::{executor, listen, text};

fn main() -> std::io::Result<()> {
    println!("sidecar container started");
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8882);
    executor::run(listen(port, async |_| {
        println!("sidecar container received a request.");
        text(200, "Yay!! multi-container works\n")
    }))
}
