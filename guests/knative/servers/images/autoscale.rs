//! Uses what the query asks for: time (`sleep`, in milliseconds or as `2s`), the CPU (`prime`: the largest prime below),
//! memory (`bloat`, in MiB). Calls that sleep do so at once; one that computes has the instance for itself. With `loop`,
//! which Knative's does not know, it computes for ever.

use kittiwake_knative_servers::{Request, Response, executor, query, text, work};

fn main() -> std::io::Result<()> {
    kittiwake_knative_servers::main(answer)
}

async fn answer(request: Request) -> Response {
    if request.uri().query() == Some("loop") {
        loop {
            std::hint::spin_loop();
        }
    }
    let mut said = String::new();
    if let Some(value) = query(&request, "sleep") {
        let Some(milliseconds) = work::milliseconds(value) else {
            return text(400, "sleep: expected milliseconds, or a duration such as 2s\n");
        };
        executor::sleep(std::time::Duration::from_millis(milliseconds)).await;
        said += &format!("Slept for {milliseconds} milliseconds.\n");
    }
    for (name, does) in [("prime", work::prime_below as fn(usize) -> String), ("bloat", work::bloat)] {
        match query(&request, name).map(str::parse::<usize>) {
            None => {}
            Some(Ok(value)) if value > 0 => said += &does(value),
            Some(_) => return text(400, format!("{name}: expected a positive number\n")),
        }
    }
    text(200, said)
}
