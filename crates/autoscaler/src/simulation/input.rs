//! Reads a load: a JSON object a line, each with its `time` in seconds.
//!
//! - What was seen: `{"time": 12, "ready": 3, "stable": 41.5, "panic": 60}`.
//! - Calls: `{"time": 12.25, "duration": 0.3}`.
//!
//! All lines are of one form. Empty lines, and those that begin with `#`, are passed over.

use serde_json::{Map, Value};
use std::io::BufRead;

/// Lines that are read. More are refused.
pub const LINES_MAX: usize = 5_000_000;
/// The longest line, in bytes.
pub const LINE_MAX: usize = 4096;
/// The time from the first to the last line, in seconds: 31 days.
pub const SPAN_MAX: f64 = 31.0 * 86_400.0;
/// The longest call, in seconds.
pub const DURATION_MAX: f64 = 86_400.0;
/// The largest time, in seconds: it is exact to the microsecond.
const TIME_MAX: f64 = 4e9;
/// The largest value of a metric.
const VALUE_MAX: f64 = 1e12;

/// A load.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// What was seen, in order of time.
    Seen(Vec<Sample>),
    /// Calls, in order of time.
    Calls(Vec<Call>),
}

/// What was seen of a revision at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, in seconds.
    pub time: f64,
    /// Instances that took calls.
    pub ready: u32,
    /// The metric over the stable window.
    pub stable: f64,
    /// The metric over the panic window.
    pub panic: f64,
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// When it comes in, in seconds.
    pub time: f64,
    /// How long an instance works on it, in seconds.
    pub duration: f64,
}

/// Why a load cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It could not be read at all.
    #[error("cannot read the load: {0}")]
    Read(#[from] std::io::Error),
    /// A line is wrong.
    #[error("line {number}: {problem}")]
    Line {
        /// Which one, from 1.
        number: usize,
        /// What is wrong, and what it should be.
        problem: String,
    },
    /// There is nothing in it.
    #[error(
        "there is no load: write a JSON object a line, either {{\"time\": 0, \"duration\": 0.2}} for each call, or \
         {{\"time\": 0, \"ready\": 1, \"stable\": 10, \"panic\": 10}} for what was seen"
    )]
    Empty,
    /// It is too long.
    #[error("{0}")]
    TooLong(String),
}

enum Line {
    Seen(Sample),
    Call(Call),
}

/// Reads a load.
///
/// # Errors
/// Names the first line that is wrong, by its number.
pub fn read(mut reader: impl BufRead) -> Result<Load, InputError> {
    let (mut seen, mut calls) = (Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    let mut number = 0;
    while next_line(&mut reader, &mut bytes)? {
        number += 1;
        let wrong = |problem: String| InputError::Line { number, problem };
        if bytes.len() > LINE_MAX {
            return Err(wrong(format!("it is longer than {LINE_MAX} bytes")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if seen.len() + calls.len() >= LINES_MAX {
            return Err(InputError::TooLong(format!(
                "the load has more than {LINES_MAX} lines: simulate a part of it"
            )));
        }
        match line(text).map_err(wrong)? {
            Line::Seen(sample) if calls.is_empty() => seen.push(sample),
            Line::Call(call) if seen.is_empty() => calls.push(call),
            Line::Seen(_) | Line::Call(_) => {
                return Err(wrong(
                    "lines with \"duration\" (calls) and lines with \"ready\" (what was seen) cannot be mixed".to_owned(),
                ));
            }
        }
    }
    if seen.is_empty() && calls.is_empty() {
        return Err(InputError::Empty);
    }
    seen.sort_by(|a: &Sample, b| a.time.total_cmp(&b.time));
    calls.sort_by(|a: &Call, b| a.time.total_cmp(&b.time));
    let times = seen.iter().map(|s| s.time).chain(calls.iter().map(|c| c.time));
    let (first, last) = times.fold((f64::INFINITY, 0.0), |(first, last): (f64, f64), time| {
        (first.min(time), last.max(time))
    });
    if last - first > SPAN_MAX {
        return Err(InputError::TooLong(format!(
            "the load spans {:.1} days, from {first} s to {last} s; at most 31 can be simulated",
            (last - first) / 86_400.0
        )));
    }
    Ok(if calls.is_empty() {
        Load::Seen(seen)
    } else {
        Load::Calls(calls)
    })
}

/// Reads a line without its end; one that is too long is cut, but longer than [`LINE_MAX`]. `false` at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        let room = (LINE_MAX + 1).saturating_sub(line.len());
        line.extend(part.iter().take(room));
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn line(text: &str) -> Result<Line, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(object) = value else {
        return Err("it is no JSON object".to_owned());
    };
    let fields = Fields(&object);
    let time = fields.number("time", TIME_MAX)?;
    if object.contains_key("duration") {
        fields.only(&["time", "duration"])?;
        let duration = fields.number("duration", DURATION_MAX)?;
        return Ok(Line::Call(Call { time, duration }));
    }
    fields.only(&["time", "ready", "stable", "panic"])?;
    let ready = fields.number("ready", f64::from(u32::MAX))?;
    if ready.fract() != 0.0 {
        return Err(format!(
            "\"ready\" is {ready}: it must be a whole number of instances"
        ));
    }
    Ok(Line::Seen(Sample {
        time,
        ready: ready as u32,
        stable: fields.number("stable", VALUE_MAX)?,
        panic: fields.number("panic", VALUE_MAX)?,
    }))
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn number(&self, name: &str, max: f64) -> Result<f64, String> {
        let value = self.0.get(name).ok_or_else(|| {
            let hint = if name == "time" {
                ""
            } else {
                "; a call has \"duration\" instead"
            };
            format!("\"{name}\" is missing{hint}")
        })?;
        match value.as_f64() {
            Some(number) if (0.0..=max).contains(&number) => Ok(number),
            Some(number) => Err(format!("\"{name}\" is {number}: it must be within 0 and {max}")),
            None => Err(format!("\"{name}\" is {value}: it must be a number")),
        }
    }

    fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!(
                "{name:?} is not known here: a line has {}",
                known.join(", ")
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn both_forms_are_read_in_order_of_time() {
        let text = "# a comment\n\n{\"time\": 2, \"duration\": 0.5}\r\n{\"time\": 1.5, \"duration\": 3}";
        let calls = vec![
            Call {
                time: 1.5,
                duration: 3.0,
            },
            Call {
                time: 2.0,
                duration: 0.5,
            },
        ];
        assert_eq!(read(text.as_bytes()).unwrap(), Load::Calls(calls));
        let text = r#"{"time": 1, "ready": 2, "stable": 3.5, "panic": 4}"#;
        let seen = vec![Sample {
            time: 1.0,
            ready: 2,
            stable: 3.5,
            panic: 4.0,
        }];
        assert_eq!(read(text.as_bytes()).unwrap(), Load::Seen(seen));
    }

    #[test]
    fn wrong_lines_are_named_with_the_reason() {
        for (text, wanted) in [
            (
                "{\"time\": 1, \"duration\": 1}\n\nnope",
                "line 3: it is no JSON: expected ident at line 1 column 2",
            ),
            ("[1]", "line 1: it is no JSON object"),
            ("{\"duration\": 1}", "line 1: \"time\" is missing"),
            (
                "{\"time\": 1}",
                "line 1: \"ready\" is missing; a call has \"duration\" instead",
            ),
            (
                "{\"time\": \"1\", \"duration\": 1}",
                "line 1: \"time\" is \"1\": it must be a number",
            ),
            (
                "{\"time\": -1, \"duration\": 1}",
                "line 1: \"time\" is -1: it must be within 0 and 4000000000",
            ),
            (
                "{\"time\": 1, \"duration\": 1e9}",
                "line 1: \"duration\" is 1000000000: it must be within 0 and 86400",
            ),
            (
                "{\"time\": 1, \"duration\": 1, \"durations\": 2}",
                "line 1: \"durations\" is not known here: a line has time, duration",
            ),
            (
                "{\"time\": 1, \"ready\": 1.5, \"stable\": 1, \"panic\": 1}",
                "line 1: \"ready\" is 1.5: it must be a whole number of instances",
            ),
            (
                "{\"time\": 1, \"duration\": 1}\n{\"time\": 1, \"ready\": 1, \"stable\": 1, \"panic\": 1}",
                "line 2: lines with \"duration\" (calls) and lines with \"ready\" (what was seen) cannot be mixed",
            ),
            (
                "{\"time\": 0, \"duration\": 1}\n{\"time\": 2764800, \"duration\": 1}",
                "the load spans 32.0 days, from 0 s to 2764800 s; at most 31 can be simulated",
            ),
        ] {
            assert_eq!(error(text), wanted);
        }
        assert!(error("").starts_with("there is no load"));
        assert_eq!(error(&"x".repeat(9999)), "line 1: it is longer than 4096 bytes");
        assert!(matches!(
            read(&b"\xff\n"[..]),
            Err(InputError::Line { number: 1, .. })
        ));
    }

    proptest! {
        /// Any bytes are read or refused, and what is read is in order and within the limits.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes[..]);
        }

        #[test]
        fn calls_come_out_in_order(times in prop::collection::vec(0.0_f64..1e6, 1..50)) {
            let text: String = times.iter().map(|time| format!("{{\"time\": {time}, \"duration\": 1}}\n")).collect();
            let Load::Calls(calls) = read(text.as_bytes()).unwrap() else { panic!() };
            prop_assert!(calls.len() == times.len() && calls.is_sorted_by(|a, b| a.time <= b.time));
        }
    }
}
