//! Uses what the query asks for: time (`sleep`, in milliseconds or as `2s`), the CPU (`prime`: the largest prime below),
//! memory (`bloat`, in MiB).

use kittiwake_knative_images::{Answer, Request, image, milliseconds, sleep_ms};

image!(handle);

fn handle(request: &Request, answer: Answer) {
    let mut text = String::new();
    if let Some(value) = request.query("sleep") {
        let Some(milliseconds) = milliseconds(value) else {
            return answer.text(400, "sleep: expected milliseconds, or a duration such as 2s\n");
        };
        sleep_ms(milliseconds);
        text += &format!("Slept for {milliseconds} milliseconds.\n");
    }
    if let Some(value) = request.query("prime") {
        match value.parse::<usize>() {
            Ok(limit) if limit > 0 => text += &prime_below(limit),
            _ => return answer.text(400, "prime: expected a positive number\n"),
        }
    }
    if let Some(value) = request.query("bloat") {
        match value.parse::<usize>() {
            Ok(mebibytes) if mebibytes > 0 => text += &bloat(mebibytes),
            _ => return answer.text(400, "bloat: expected a positive number\n"),
        }
    }
    answer.text(200, &text);
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

fn bloat(mebibytes: usize) -> String {
    // Ones, not zeroes: memory that was never written costs nothing.
    let memory = vec![1_u8; mebibytes * 1024 * 1024];
    let written = std::hint::black_box(&memory).len() / 1024 / 1024;
    format!("Allocated {written} Mb of memory.\n")
}
