//! Answers each request with what the container beside it says at the port `FORWARD_PORT` (8882) of their localhost, asked
//! for the path `FORWARD_PATH` (`/`).

use kittiwake_knative_servers::text;
use std::io::{self, Read as _, Write as _};
use wasmedge_wasi_socket::TcpStream;

fn main() -> io::Result<()> {
    let port = std::env::var("FORWARD_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8882);
    let path = std::env::var("FORWARD_PATH").unwrap_or_else(|_| "/".to_owned());
    println!("serving container started");
    kittiwake_knative_servers::main(move |_| {
        println!("serving container received a request.");
        let said = ask(port, &path).unwrap_or_else(|error| {
            // As Knative's image does.
            eprintln!("the container beside this one does not answer: {error}");
            std::process::exit(1)
        });
        async move { text(200, format!("{said}\n")) }
    })
}

/// What the other container answers. Nothing else is done meanwhile.
fn ask(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok(body.to_owned())
}
