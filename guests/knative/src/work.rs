//! What the image `autoscale` does with the time, the processor and the memory that it is asked to use.

/// A duration as Go writes it, with one unit (`10s`, `300ms`, `2m`), or a number alone, which is milliseconds.
#[must_use]
pub fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Computes, by the sieve of Eratosthenes.
#[must_use]
pub fn prime_below(limit: usize) -> String {
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

/// Takes memory.
#[must_use]
pub fn bloat(mebibytes: usize) -> String {
    // Ones, not zeroes: memory that was never written costs nothing.
    let memory = vec![1_u8; mebibytes * 1024 * 1024];
    let written = std::hint::black_box(&memory).len() / 1024 / 1024;
    format!("Allocated {written} Mb of memory.\n")
}
