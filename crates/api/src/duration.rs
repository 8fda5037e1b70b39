//! Go durations: `60s`, `1h30m`, `1.5s` (Go `time.ParseDuration` and `time.Duration.String`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Billionths of a second in each unit, the longer names first so that `ms` is not read as `m`.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, the micro sign
    ("μs", 1_000), // U+03BC, the Greek letter
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
];

/// A span of time as Go reads and prints it. It may be negative; at most about 292 years either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GoDuration {
    nanos: i64,
}

/// Why a text is no [`GoDuration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration; write a number with a unit ns, us, ms, s, m or h, such as 60s or 1h30m")]
pub struct ParseDurationError(pub String);

impl GoDuration {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: i32) -> Self {
        Self {
            nanos: seconds as i64 * NANOS_PER_SECOND as i64,
        }
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of seconds.
    #[must_use]
    pub const fn is_whole_seconds(self) -> bool {
        self.nanos % NANOS_PER_SECOND as i64 == 0
    }

    /// The same as a [`Duration`]; `None` when negative.
    #[must_use]
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.nanos).ok().map(Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDurationError(text.to_owned());
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if unsigned == "0" {
            return Ok(Self::default());
        }
        if unsigned.is_empty() {
            return Err(wrong());
        }
        let mut nanos: u64 = 0;
        let mut rest = unsigned;
        while !rest.is_empty() {
            let (part, after) = read_part(rest).ok_or_else(wrong)?;
            nanos = nanos.checked_add(part).ok_or_else(wrong)?;
            rest = after;
        }
        let nanos = if negative {
            0_i64.checked_sub_unsigned(nanos)
        } else {
            i64::try_from(nanos).ok()
        };
        nanos.map(|nanos| Self { nanos }).ok_or_else(wrong)
    }
}

/// Reads one number with its unit; gives its nanoseconds and what follows.
fn read_part(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let unit_end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Cut after 18 digits: the rest is less than a nanosecond, even of an hour.
    let (sum, scale) = fraction
        .bytes()
        .take(18)
        .fold((0_u128, 1_u128), |(sum, scale), digit| {
            (sum * 10 + u128::from(digit - b'0'), scale * 10)
        });
    let fraction = u64::try_from(sum * u128::from(*nanos) / scale).ok()?;
    Some((whole.checked_mul(*nanos)?.checked_add(fraction)?, rest))
}

impl fmt::Display for GoDuration {
    /// As Go prints it: `1h0m0s`, `1.5s`, `10ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        let sign = if self.nanos < 0 { "-" } else { "" };
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < NANOS_PER_SECOND {
            let (unit, each) = match nanos {
                0..1_000 => ("ns", 1),
                1_000..1_000_000 => ("µs", 1_000),
                _ => ("ms", 1_000_000),
            };
            return write!(f, "{sign}{}{unit}", decimal(nanos, each));
        }
        let (minutes, seconds) = (nanos / (60 * NANOS_PER_SECOND), nanos % (60 * NANOS_PER_SECOND));
        f.write_str(sign)?;
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write!(f, "{}s", decimal(seconds, NANOS_PER_SECOND))
    }
}

/// `amount` in units of `each` (a power of ten), without zeros at the end.
fn decimal(amount: u64, each: u64) -> String {
    let width = each.to_string().len() - 1;
    let (whole, fraction) = (amount / each, amount % each);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_and_print_like_go() {
        for (text, printed) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("6s", "6s"),
            ("60s", "1m0s"),
            ("1h", "1h0m0s"),
            ("1h30m", "1h30m0s"),
            ("1.5s", "1.5s"),
            (".5m", "30s"),
            ("1.s", "1s"),
            ("100ms", "100ms"),
            ("1us", "1µs"),
            ("1µs", "1µs"),
            ("1μs", "1µs"),
            ("7ns", "7ns"),
            ("-90s", "-1m30s"),
            ("+2m3s4ms", "2m3.004s"),
            ("0.000000001s", "1ns"),
            ("9223372036.854775807s", "2562047h47m16.854775807s"),
        ] {
            assert_eq!(
                text.parse::<GoDuration>().map(|d| d.to_string()).as_deref(),
                Ok(printed),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "-", "5", "s", ".s", "1d", "1 s", "1s 2s", "1.2.3s", "9999999h", "1e3s", "١s", "1S",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_and_signs_are_seen() {
        let duration = |text: &str| text.parse::<GoDuration>().unwrap();
        assert!(duration("1m").is_whole_seconds());
        assert!(!duration("1500ms").is_whole_seconds());
        assert!(duration("-1s").is_negative());
        assert_eq!(duration("-1s").to_std(), None);
        assert_eq!(duration("90s").to_std(), Some(Duration::from_secs(90)));
        assert_eq!(GoDuration::from_secs(3600), duration("1h"));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "[-+0-9.nuµmsh]{0,40}|.{0,20}") {
            let _ = text.parse::<GoDuration>();
        }

        #[test]
        fn printing_and_reading_agree(nanos in any::<i64>()) {
            let duration = GoDuration { nanos };
            prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
        }
    }
}
