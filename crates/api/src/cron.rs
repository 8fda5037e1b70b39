//! Times that repeat, in the syntax of cron as robfig/cron reads it, which Knative uses: five fields (minute, hour, day
//! of month, month, day of week), six with seconds before them, or a word such as `@hourly`.

use std::ops::RangeInclusive;
use std::str::FromStr;

/// Longest text of a schedule, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Which seconds, minutes, hours, days and months are meant: bit n stands for the number n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// 0 to 59.
    pub seconds: u64,
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u64,
    /// 1 to 31.
    pub days_of_month: u64,
    /// 1 to 12.
    pub months: u64,
    /// 0 (Sunday) to 6.
    pub days_of_week: u64,
    /// Whether the days of the month were left open (`*` or `?`). Days count when both kinds match if one of the two
    /// is open, when either matches if none is.
    pub any_day_of_month: bool,
    /// Whether the days of the week were left open.
    pub any_day_of_week: bool,
}

/// One field: its numbers, and the names that some of them have.
struct Field {
    numbers: RangeInclusive<u32>,
    names: &'static [&'static str],
}

const SECONDS: Field = Field {
    numbers: 0..=59,
    names: &[],
};
const MINUTES: Field = Field {
    numbers: 0..=59,
    names: &[],
};
const HOURS: Field = Field {
    numbers: 0..=23,
    names: &[],
};
const DAYS_OF_MONTH: Field = Field {
    numbers: 1..=31,
    names: &[],
};
const MONTHS: Field = Field {
    numbers: 1..=12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const DAYS_OF_WEEK: Field = Field {
    numbers: 0..=6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("a schedule is at most {TEXT_BYTES_MAX} bytes long"));
        }
        if text.trim().is_empty() {
            return Err("empty spec string".to_owned());
        }
        let text = if text.starts_with('@') {
            descriptor(text)?
        } else {
            text
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (second, minute, hour, day, month, week) = match fields.as_slice() {
            [minute, hour, day, month, week] => (&"0", minute, hour, day, month, week),
            [second, minute, hour, day, month, week] => (second, minute, hour, day, month, week),
            _ => {
                return Err(format!(
                    "expected 5 to 6 fields, found {}: [{}]",
                    fields.len(),
                    fields.join(" ")
                ));
            }
        };
        let open = |field: &str| field.starts_with(['*', '?']);
        Ok(Self {
            seconds: SECONDS.read(second)?,
            minutes: MINUTES.read(minute)?,
            hours: HOURS.read(hour)?,
            days_of_month: DAYS_OF_MONTH.read(day)?,
            months: MONTHS.read(month)?,
            days_of_week: DAYS_OF_WEEK.read(week)?,
            any_day_of_month: open(day),
            any_day_of_week: open(week),
        })
    }
}

/// What a word stands for.
fn descriptor(word: &str) -> Result<&'static str, String> {
    match word {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ if word.starts_with("@every") => Err("unsupported descriptor @every".to_owned()),
        _ => Err(format!("unrecognized descriptor: {word}")),
    }
}

impl Field {
    /// The numbers of a comma separated list.
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',')
            .filter(|part| !part.is_empty())
            .try_fold(0, |bits, part| Ok(bits | self.part(part)?))
            .and_then(|bits| {
                if bits == 0 {
                    return Err(format!("no number in field: {text:?}"));
                }
                Ok(bits)
            })
    }

    /// The numbers of `*`, `a`, `a-b` and each of them with `/step`.
    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {part}")),
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let (first, last) = match range {
            "*" | "?" => (*self.numbers.start(), *self.numbers.end()),
            _ => match range.split_once('-') {
                Some((_, last)) if last.contains('-') => return Err(format!("too many hyphens: {part}")),
                Some((first, last)) => (self.number(first)?, self.number(last)?),
                // `a/step` goes on from a to the end.
                None if step.is_some() => (self.number(range)?, *self.numbers.end()),
                None => (self.number(range)?, self.number(range)?),
            },
        };
        let step = step.unwrap_or(1);
        if first < *self.numbers.start() {
            let minimum = self.numbers.start();
            return Err(format!(
                "beginning of range ({first}) below minimum ({minimum}): {part}"
            ));
        }
        if last > *self.numbers.end() {
            let maximum = self.numbers.end();
            return Err(format!("end of range ({last}) above maximum ({maximum}): {part}"));
        }
        if first > last {
            return Err(format!(
                "beginning of range ({first}) beyond end of range ({last}): {part}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        Ok((first..=last).step_by(step).fold(0, |bits, n| bits | 1 << n))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let named = self.names.iter().zip(self.numbers.clone());
        match named
            .into_iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name))
        {
            Some((_, number)) => Ok(number),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("failed to parse int from {text}: it is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(numbers: impl IntoIterator<Item = u32>) -> u64 {
        numbers.into_iter().fold(0, |bits, n| bits | 1 << n)
    }

    #[test]
    fn fields_name_numbers() {
        let schedule: Schedule = "*/15 0-6/2,22 1 Feb-apr mon,5".parse().unwrap();
        assert_eq!(schedule.seconds, bits([0]));
        assert_eq!(schedule.minutes, bits([0, 15, 30, 45]));
        assert_eq!(schedule.hours, bits([0, 2, 4, 6, 22]));
        assert_eq!(schedule.days_of_month, bits([1]));
        assert_eq!(schedule.months, bits([2, 3, 4]));
        assert_eq!(schedule.days_of_week, bits([1, 5]));
        assert!(!schedule.any_day_of_month && !schedule.any_day_of_week);
        let schedule: Schedule = "5/10 * * * * ?".parse().unwrap();
        assert_eq!(schedule.seconds, bits([5, 15, 25, 35, 45, 55]));
        assert!(schedule.any_day_of_month && schedule.any_day_of_week);
        let hourly: Schedule = "@hourly".parse().unwrap();
        assert_eq!(hourly, "0 * * * *".parse().unwrap());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, wanted) in [
            ("", "empty spec string"),
            ("* *", "expected 5 to 6 fields, found 2: [* *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-1 * * * *",
                "beginning of range (5) beyond end of range (1): 5-1",
            ),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a: it is no number"),
            ("+1 * * * *", "failed to parse int from +1: it is no number"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            (", * * * *", "no number in field: \",\""),
            ("@every 1s", "unsupported descriptor @every"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(text.parse::<Schedule>().unwrap_err(), wanted, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[@*?/,0-9a-z -]{0,40}") {
            let _ = text.parse::<Schedule>();
        }
    }
}
