//! One connection: reads requests, answers them in their order, and stays open for the next. A body has at most 1 MiB
//! and says how long it is.

use crate::routes::{Answer, Request, Routes};
use httparse::{EMPTY_HEADER, Status};
use wasip2::clocks::monotonic_clock::{Instant, now, subscribe_instant};
use wasip2::io::poll::Pollable;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::tcp::TcpSocket;

const HEAD_MAX: usize = 32 * 1024;
const FIELDS_MAX: usize = 100;
const BODY_MAX: usize = 1024 * 1024;
const READ_BYTES: u64 = 16 * 1024;

/// What to do with a connection.
pub enum Next {
    /// Look again when what it waits for has come.
    Wait,
    /// Close it.
    Close,
}

/// See the module's documentation. The streams go before the socket that they are of.
pub struct Connection {
    input: InputStream,
    output: OutputStream,
    _socket: TcpSocket,
    /// What came and was not answered yet.
    received: Vec<u8>,
    /// What was answered and did not fit into the socket yet.
    unsent: Vec<u8>,
    /// An answer that is given later.
    delayed: Option<(Instant, Answer)>,
    closes: bool,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(socket: TcpSocket, input: InputStream, output: OutputStream) -> Self {
        Self {
            input,
            output,
            _socket: socket,
            received: Vec::new(),
            unsent: Vec::new(),
            delayed: None,
            closes: false,
        }
    }

    /// After which [`Connection::go_on`] has something to do.
    pub fn waits_for(&self) -> Pollable {
        match &self.delayed {
            _ if !self.unsent.is_empty() => self.output.subscribe(),
            Some((due, _)) => subscribe_instant(*due),
            None => self.input.subscribe(),
        }
    }

    /// Does what can be done without waiting. A connection that breaks ends alone.
    pub fn go_on(&mut self, routes: &mut Routes) -> Next {
        loop {
            while !self.unsent.is_empty() {
                match self.send() {
                    Ok(true) => {}
                    Ok(false) => return Next::Wait,
                    Err(_) => return Next::Close,
                }
            }
            if let Some((due, answer)) = self.delayed.take() {
                if now() < due {
                    self.delayed = Some((due, answer));
                    return Next::Wait;
                }
                self.unsent = answer.into_bytes(self.closes);
            } else if self.closes {
                return Next::Close;
            } else if !self.answer(routes) {
                match self.input.read(READ_BYTES) {
                    Ok(bytes) if bytes.is_empty() => return Next::Wait,
                    Ok(bytes) => self.received.extend(bytes),
                    Err(_) => return Next::Close,
                }
            }
        }
    }

    /// Sends as much as there is room for; `false` when there is none.
    fn send(&mut self) -> Result<bool, StreamError> {
        let room = usize::try_from(self.output.check_write()?).unwrap_or(usize::MAX);
        let count = room.min(self.unsent.len());
        self.output.write(&self.unsent[..count])?;
        self.unsent.drain(..count);
        Ok(count > 0)
    }

    /// Answers the next request; `false` when it has not come whole.
    fn answer(&mut self, routes: &mut Routes) -> bool {
        let (request, length) = match parse(&self.received) {
            Ok(Some(found)) => found,
            Ok(None) => return false,
            Err(answer) => {
                self.closes = true;
                self.unsent = answer.into_bytes(true);
                return true;
            }
        };
        self.received.drain(..length);
        self.closes = request.closes;
        let (delay, answer) = routes.answer(request);
        self.delayed = Some((now() + delay, answer));
        true
    }
}

/// The first request in what came, and how many bytes it has; `None` while its end is missing.
fn parse(received: &[u8]) -> Result<Option<(Request, usize)>, Answer> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let start = match head.parse(received) {
        Ok(Status::Complete(start)) => start,
        Ok(Status::Partial) if received.len() < HEAD_MAX => return Ok(None),
        Ok(Status::Partial) => return Err(Answer::text(431, "the head is too large\n")),
        Err(error) => return Err(Answer::text(400, format!("this is no request: {error}\n"))),
    };
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    if field("transfer-encoding").is_some() {
        return Err(Answer::text(411, "say how long the body is\n"));
    }
    let length = match field("content-length").map(str::parse) {
        None => 0,
        Some(Ok(length)) if length <= BODY_MAX => length,
        Some(_) => return Err(Answer::text(413, format!("a body may have {BODY_MAX} bytes\n"))),
    };
    let Some(body) = received.get(start..start + length) else {
        return Ok(None);
    };
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        path: path.to_owned(),
        query: query.to_owned(),
        body: body.to_vec(),
        // HTTP/1.0 closes.
        closes: head.version == Some(0) || field("connection").is_some_and(|told| told.contains("close")),
    };
    Ok(Some((request, start + length)))
}
