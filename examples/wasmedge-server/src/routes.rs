//! What is answered to what.

use crate::http::{Request, Response};
use std::time::{Duration, SystemTime};

/// The longest delay that can be asked for.
const DELAY_MAX: Duration = Duration::from_secs(600);

/// The server's state. It lives as long as the instance: it is there for the next call.
#[derive(Default)]
pub struct Routes {
    calls: u64,
}

impl Routes {
    /// An answer, and when to give it, if not at once.
    pub fn answer(&mut self, request: Request) -> (Option<SystemTime>, Response) {
        self.calls += 1;
        let now = |response| (None, response);
        match request.path.as_str() {
            "/" => {
                let target = std::env::var("TARGET").unwrap_or_else(|_| "World".to_owned());
                now(Response::text(200, format!("Hello {target}!\n")))
            }
            "/calls" => now(Response::text(200, format!("{}\n", self.calls))),
            "/sleep" => match milliseconds(&request.query) {
                Some(delay) if delay <= DELAY_MAX => {
                    let text = format!("slept for {} ms\n", delay.as_millis());
                    (Some(SystemTime::now() + delay), Response::text(200, text))
                }
                _ => now(Response::text(400, "ask for /sleep?ms=N with N up to 600000\n")),
            },
            "/echo" => now(Response { status: 200, content_type: "application/octet-stream", body: request.body }),
            "/crash" => {
                eprintln!("{} /crash: the end", request.method);
                std::process::exit(1)
            }
            path => now(Response::text(404, format!("nothing is at {path}\n"))),
        }
    }
}

/// `ms` of a query.
fn milliseconds(query: &str) -> Option<Duration> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("ms="))?;
    value.parse().ok().map(Duration::from_millis)
}
