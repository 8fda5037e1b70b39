//! Connects with `std::net::TcpStream` to the address in `UPSTREAM`, says `ping`, and answers as a CGI program does with
//! what comes back. It never listens.

use std::io::{Read, Write};
use std::net::TcpStream;

fn main() -> std::io::Result<()> {
    let upstream = std::env::var("UPSTREAM").map_err(std::io::Error::other)?;
    let mut connection = TcpStream::connect(upstream)?;
    connection.write_all(b"ping")?;
    let mut heard = String::new();
    connection.read_to_string(&mut heard)?;
    print!("Content-Type: text/plain\n\n{heard}\n");
    Ok(())
}
