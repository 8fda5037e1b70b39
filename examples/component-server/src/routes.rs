//! What is answered to what.

use crate::finished;
use wasip2::clocks::monotonic_clock::Duration;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

const MILLISECOND: Duration = 1_000_000;
/// The longest delay that can be asked for, in milliseconds.
const DELAY_MAX: u64 = 600_000;

/// A request that came whole.
pub struct Request {
    pub path: String,
    pub query: String,
    pub body: Vec<u8>,
    /// Whether the connection is closed after it.
    pub closes: bool,
}

/// An answer.
pub struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// The server's state. It lives as long as the instance: it is there for the next call.
#[derive(Default)]
pub struct Routes {
    calls: u64,
    kept: Vec<Vec<u8>>,
}

impl Routes {
    /// An answer, and how long to wait before it is given.
    pub fn answer(&mut self, request: Request) -> (Duration, Answer) {
        self.calls += 1;
        let asked = request.query.split_once('=').map_or("", |(_, value)| value);
        let answer = match request.path.as_str() {
            "/" => {
                let target = std::env::var("TARGET").unwrap_or_else(|_| "World".to_owned());
                Answer::text(200, format!("Hello {target}!\n"))
            }
            "/calls" => Answer::text(200, format!("{}\n", self.calls)),
            "/sleep" => match asked.parse::<u64>() {
                Ok(delay) if delay <= DELAY_MAX => {
                    let text = format!("slept for {delay} ms\n");
                    return (delay * MILLISECOND, Answer::text(200, text));
                }
                _ => Answer::text(400, "ask for /sleep?ms=N with N up to 600000\n"),
            },
            "/echo" => Answer { status: 200, body: request.body },
            "/connect" => told(connect(asked)),
            "/lookup" => told(lookup(asked)),
            "/udp" => told(create_udp_socket(IpAddressFamily::Ipv4).map(|_| "made".to_owned())),
            "/fill" => loop {
                self.kept.push(vec![1; 1 << 20]);
            },
            "/crash" => {
                eprintln!("asked to end");
                std::process::exit(1)
            }
            path => Answer::text(404, format!("nothing is at {path}\n")),
        };
        (0, answer)
    }
}

/// Connects to an IPv4 address and port, says `ping` and gives back the first bytes that come.
fn connect(to: &str) -> Result<String, ErrorCode> {
    let to: std::net::SocketAddrV4 = to.parse().map_err(|_| ErrorCode::InvalidArgument)?;
    let [a, b, c, d] = to.ip().octets();
    let address = Ipv4SocketAddress { port: to.port(), address: (a, b, c, d) };
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), IpSocketAddress::Ipv4(address))?;
    let (input, output) = finished(&socket, TcpSocket::finish_connect)?;
    let read = output.blocking_write_and_flush(b"ping").and_then(|()| input.blocking_read(100));
    // Before the socket that they are of.
    drop((input, output));
    Ok(match read {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error.to_string(),
    })
}

/// The addresses of a host, with spaces between.
fn lookup(name: &str) -> Result<String, ErrorCode> {
    let addresses = resolve_addresses(&instance_network(), name)?;
    let changes = addresses.subscribe();
    let mut found = Vec::new();
    loop {
        match addresses.resolve_next_address() {
            Ok(Some(IpAddress::Ipv4((a, b, c, d)))) => found.push(format!("{a}.{b}.{c}.{d}")),
            Ok(Some(IpAddress::Ipv6(parts))) => found.push(format!("{parts:x?}")),
            Ok(None) => return Ok(found.join(" ")),
            Err(ErrorCode::WouldBlock) => changes.block(),
            Err(error) => return Err(error),
        }
    }
}

fn told(outcome: Result<String, ErrorCode>) -> Answer {
    match outcome {
        Ok(text) => Answer::text(200, format!("{text}\n")),
        Err(error) => Answer::text(502, format!("{}\n", error.name())),
    }
}

impl Answer {
    /// One of text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, body: text.into().into_bytes() }
    }

    /// What is sent.
    pub fn into_bytes(self, closes: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            411 => "Length Required",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            _ => "",
        };
        let connection = if closes { "connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n{connection}\r\n",
            self.status,
            self.body.len()
        );
        [head.as_bytes(), &self.body].concat()
    }
}
