//! Listens after `LISTEN_DELAY`, is healthy after `READY_DELAY`, and no more after a call of `/start-failing`. Its health is
//! at `/healthz`, or everywhere at the port `HEALTHCHECK_PORT`. Started with the argument `probe` it asks for it.

use kittiwake_knative_servers::work::milliseconds;
use kittiwake_knative_servers::{HELLO_WORLD, Request, Response, executor, listen, port, query, text};
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::time::Duration;
use wasmedge_wasi_socket::TcpStream;

thread_local! {
    static HEALTHY: Cell<bool> = const { Cell::new(true) };
}

fn main() -> std::io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("probe") {
        return probe();
    }
    executor::run(async {
        let delay = |name| std::env::var(name).ok().and_then(|text| milliseconds(&text)).map(Duration::from_millis);
        if let Some(delay) = delay("READY_DELAY") {
            HEALTHY.set(false);
            executor::spawn(async move {
                executor::sleep(delay).await;
                HEALTHY.set(true);
            });
        }
        if let Some(delay) = delay("LISTEN_DELAY") {
            executor::sleep(delay).await;
        }
        let apart = std::env::var("HEALTHCHECK_PORT").ok().and_then(|port| port.parse().ok());
        if let Some(port) = apart {
            executor::spawn(listen(port, async |_| health()));
        }
        listen(port(), move |request| async move { answer(&request, apart.is_some()) }).await;
    })
}

fn answer(request: &Request, health_is_apart: bool) -> Response {
    match request.uri().path() {
        "/start-failing" => {
            HEALTHY.set(false);
            text(200, "will now fail readiness")
        }
        "/healthz" if !health_is_apart => health(),
        "/query" if query(request, "probe") != Some("ok") => text(500, "no query"),
        _ => text(200, HELLO_WORLD),
    }
}

fn health() -> Response {
    if HEALTHY.get() { text(200, HELLO_WORLD) } else { text(500, "not healthy\n") }
}

/// What Knative's image does as the command of an exec probe: exit code 1 when it is not healthy.
fn probe() -> std::io::Result<()> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{}", port()))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/1.1 2") {
        std::process::exit(1);
    }
    Ok(())
}
