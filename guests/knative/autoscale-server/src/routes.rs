//! What a query asks for.

use crate::http::{Request, Response};
use std::time::{Duration, SystemTime};

/// The largest numbers that can be asked for: ten minutes, the primes of 16 MiB, what a 32-bit memory holds.
const SLEEP_MS_MAX: u64 = 600_000;
const PRIME_MAX: u64 = 1 << 24;
const BLOAT_MIB_MAX: u64 = 4096;

/// The server keeps nothing between calls.
pub struct Routes;

impl Routes {
    /// An answer, and when to give it, if not at once.
    pub fn answer(&mut self, request: Request) -> (Option<SystemTime>, Response) {
        match answer(&request.query) {
            Ok((delay, text)) => {
                let due = delay.map(|delay| SystemTime::now() + delay);
                (due, Response::text(200, text))
            }
            Err(wrong) => (None, Response::text(400, wrong)),
        }
    }
}

fn answer(query: &str) -> Result<(Option<Duration>, String), String> {
    // Knative's has no such thing: a program that hangs.
    if query == "loop" {
        loop {
            std::hint::spin_loop();
        }
    }
    let mut text = String::new();
    let delay = number(query, "sleep", SLEEP_MS_MAX)?.map(Duration::from_millis);
    if let Some(delay) = delay {
        text += &format!("Slept for {} milliseconds.\n", delay.as_millis());
    }
    if let Some(limit) = number(query, "prime", PRIME_MAX)? {
        text += &prime_below(limit as usize);
    }
    if let Some(mebibytes) = number(query, "bloat", BLOAT_MIB_MAX)? {
        // Ones, not zeroes: memory that was never written costs nothing.
        let memory = vec![1_u8; mebibytes as usize * 1024 * 1024];
        let written = std::hint::black_box(&memory).len() / 1024 / 1024;
        text += &format!("Allocated {written} Mb of memory.\n");
    }
    Ok((delay, text))
}

/// A number of a query; what is no number, or too large a one, is refused.
fn number(query: &str, name: &str, most: u64) -> Result<Option<u64>, String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let Some(value) = value else { return Ok(None) };
    match value.parse() {
        Ok(number) if number <= most => Ok(Some(number)),
        _ => Err(format!("{name}: expected a number up to {most}\n")),
    }
}

/// The sieve of Eratosthenes.
fn prime_below(limit: usize) -> String {
    let mut composite = vec![false; limit.max(2)];
    for number in 2.. {
        if number * number >= limit {
            break;
        }
        if composite[number] {
            continue;
        }
        for multiple in (number * number..limit).step_by(number) {
            composite[multiple] = true;
        }
    }
    match (2..limit).rev().find(|&number| !composite[number]) {
        Some(prime) => format!("The largest prime less than {limit} is {prime}.\n"),
        None => format!("There are no primes smaller than {limit}.\n"),
    }
}
