//! Uses what the query asks for: time (`sleep`, in milliseconds or as `2s`), the CPU (`prime`: the largest prime below),
//! memory (`bloat`, in MiB).

use kittiwake_knative_images::work::{bloat, milliseconds, prime_below};
use kittiwake_knative_images::{Answer, Request, image, sleep_ms};

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
