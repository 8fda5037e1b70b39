//! Listens with `std::net::TcpListener` and answers HTTP by hand: one request a connection, one connection after the
//! other. The body is the request's path and body. With the argument `probe` it tells whether the file is there that it
//! writes once it listens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Bytes of a body that are read.
const BODY_MAX: u64 = 64 * 1024;

/// Says that it listens, to those that see the same files.
const LISTENING: &str = "/tmp/listening";

fn main() -> std::io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("probe") {
        return std::fs::metadata(LISTENING).map(drop);
    }
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    std::fs::write(LISTENING, "")?;
    println!("listening on {}", listener.local_addr()?);
    for connection in listener.incoming() {
        if let Err(error) = answer(&connection?) {
            eprintln!("a connection broke: {error}");
        }
    }
    Ok(())
}

fn answer(mut connection: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line);
    }
    let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else {
        return Ok(()); // a look at whether somebody listens
    };
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
    });
    let mut body = String::new();
    reader.take(length.unwrap_or(0).min(BODY_MAX)).read_to_string(&mut body)?;
    let answer = format!("{path} {body}\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close";
    write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
}
