//! One connection: reads requests, answers them in their order, and stays open for the next.

use crate::http::{self, Parsed, Response};
use crate::routes::Routes;
use std::io::{self, ErrorKind, Read, Write};
use std::time::SystemTime;
use wasmedge_wasi_socket::TcpStream;
use wasmedge_wasi_socket::poll::Subscription;

/// What to do with a connection.
pub enum Next {
    /// Look again when what it waits for has come.
    Wait,
    /// Close it.
    Close,
}

/// See the module's documentation.
pub struct Connection {
    stream: TcpStream,
    /// What came and was not answered yet.
    received: Vec<u8>,
    /// What was answered and did not fit into the socket yet.
    unsent: Vec<u8>,
    /// An answer that is given later.
    delayed: Option<(SystemTime, Response)>,
    closes: bool,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            delayed: None,
            closes: false,
        }
    }

    /// The event after which [`Connection::go_on`] has something to do.
    pub fn waits_for(&self, id: u64) -> Subscription {
        match &self.delayed {
            _ if !self.unsent.is_empty() => Subscription::io(id, &self.stream, false, true, None),
            Some((due, _)) => Subscription::timeout(id, *due),
            None => Subscription::io(id, &self.stream, true, false, None),
        }
    }

    /// Does what can be done without waiting.
    pub fn go_on(&mut self, routes: &mut Routes) -> io::Result<Next> {
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(0) => return Ok(Next::Close),
                    Ok(count) => drop(self.unsent.drain(..count)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Wait),
                    Err(error) => return Err(error),
                }
            }
            if let Some((due, response)) = self.delayed.take() {
                if SystemTime::now() < due {
                    self.delayed = Some((due, response));
                    return Ok(Next::Wait);
                }
                self.unsent = response.into_bytes(self.closes);
            } else if self.closes {
                return Ok(Next::Close);
            } else if !self.answer(routes) && !self.read()? {
                return Ok(Next::Wait);
            }
        }
    }

    /// Answers the next request; `false` when it has not come whole.
    fn answer(&mut self, routes: &mut Routes) -> bool {
        match http::parse(&self.received) {
            Parsed::Partial => return false,
            Parsed::Bad(response) => {
                self.closes = true;
                self.unsent = response.into_bytes(true);
            }
            Parsed::Whole { request, length } => {
                self.received.drain(..length);
                self.closes = !request.keep_alive;
                let (due, response) = routes.answer(request);
                match due {
                    Some(due) => self.delayed = Some((due, response)),
                    None => self.unsent = response.into_bytes(self.closes),
                }
            }
        }
        true
    }

    /// Takes in what has come; `false` when nothing has.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.closes = true,
            Ok(count) => self.received.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}
