//! Kubernetes quantities: `500m`, `128Mi`, `1.5`, `1e3` (apimachinery `pkg/api/resource/quantity.go`).

use std::str::FromStr;

/// Billionths in one.
const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// The greatest quantity, in billionths: 2^63 - 1 units. Greater ones are cut to it, as Kubernetes does.
const NANOS_MAX: i128 = i64::MAX as i128 * NANOS_PER_UNIT;
/// Digits after the point that count. More would be lost below a billionth anyway, but for the greatest suffixes.
const FRACTION_DIGITS: u32 = 10;

/// Billionths per unit of each suffix, the longer suffixes first so that `Mi` is not read as `M`.
const SUFFIXES: [(&str, i128); 15] = [
    ("Ki", NANOS_PER_UNIT << 10),
    ("Mi", NANOS_PER_UNIT << 20),
    ("Gi", NANOS_PER_UNIT << 30),
    ("Ti", NANOS_PER_UNIT << 40),
    ("Pi", NANOS_PER_UNIT << 50),
    ("Ei", NANOS_PER_UNIT << 60),
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("k", NANOS_PER_UNIT * 1_000),
    ("M", NANOS_PER_UNIT * 1_000_000),
    ("G", NANOS_PER_UNIT * 1_000_000_000),
    ("T", NANOS_PER_UNIT * 1_000_000_000_000),
    ("P", NANOS_PER_UNIT * 1_000_000_000_000_000),
    ("E", NANOS_PER_UNIT * 1_000_000_000_000_000_000),
];

/// An amount of something, exact to a billionth of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity {
    nanos: i128,
}

/// Why a text is no [`Quantity`]. The words are Kubernetes'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseQuantityError;

impl Quantity {
    /// Whether it is less than nothing.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whole units, rounded up: the bytes of a memory quantity. Nothing for a negative one.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.count(NANOS_PER_UNIT)
    }

    /// Thousandths, rounded up: the milli-CPU of a CPU quantity. Nothing for a negative one.
    #[must_use]
    pub fn milli_cpu(self) -> u64 {
        self.count(NANOS_PER_UNIT / 1_000)
    }

    fn count(self, nanos_each: i128) -> u64 {
        let rounded_up = (self.nanos.max(0) + nanos_each - 1) / nanos_each;
        u64::try_from(rounded_up).unwrap_or(u64::MAX)
    }
}

/// The bytes of a memory quantity such as `128Mi`, rounded up.
///
/// # Errors
/// When the text is no quantity, or a negative one.
pub fn parse_bytes(text: &str) -> Result<u64, ParseQuantityError> {
    parse_non_negative(text).map(Quantity::bytes)
}

/// The milli-CPU of a CPU quantity such as `100m` or `1.5`, rounded up.
///
/// # Errors
/// When the text is no quantity, or a negative one.
pub fn parse_milli_cpu(text: &str) -> Result<u64, ParseQuantityError> {
    parse_non_negative(text).map(Quantity::milli_cpu)
}

fn parse_non_negative(text: &str) -> Result<Quantity, ParseQuantityError> {
    text.parse::<Quantity>().and_then(|q| {
        if q.is_negative() {
            Err(ParseQuantityError)
        } else {
            Ok(q)
        }
    })
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (sign, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (-1, text.get(1..).unwrap_or_default()),
            Some(b'+') => (1, text.get(1..).unwrap_or_default()),
            _ => (1, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(ParseQuantityError);
        }
        let scale = scale(suffix)?;
        let nanos = scale.apply(whole, fraction);
        Ok(Self { nanos: sign * nanos })
    }
}

/// What a suffix multiplies with.
#[derive(Clone, Copy)]
enum Scale {
    Nanos(i128),
    /// So much that only nothing stays below the greatest quantity.
    Vast,
    /// So little that anything is rounded up to a billionth.
    Tiny,
}

fn scale(suffix: &str) -> Result<Scale, ParseQuantityError> {
    if suffix.is_empty() {
        return Ok(Scale::Nanos(NANOS_PER_UNIT));
    }
    if let Some((_, nanos)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok(Scale::Nanos(*nanos));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseQuantityError)?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseQuantityError);
    }
    let beyond = if exponent.starts_with('-') {
        Scale::Tiny
    } else {
        Scale::Vast
    };
    Ok(match exponent.parse::<i32>() {
        Ok(power @ -9..=18) => u32::try_from(power + 9).map_or(beyond, |p| Scale::Nanos(10_i128.pow(p))),
        _ => beyond,
    })
}

impl Scale {
    fn apply(self, whole: &str, fraction: &str) -> i128 {
        let nothing = whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0');
        let nanos = match self {
            _ if nothing => return 0,
            Self::Vast => return NANOS_MAX,
            Self::Tiny => return 1,
            Self::Nanos(nanos) => nanos,
        };
        let whole = if whole.is_empty() {
            Some(0)
        } else {
            whole.parse::<i128>().ok()
        };
        let Some(whole) = whole.and_then(|units| units.checked_mul(nanos)) else {
            return NANOS_MAX;
        };
        let kept: i128 = fraction
            .bytes()
            .chain(std::iter::repeat(b'0'))
            .take(FRACTION_DIGITS as usize)
            .fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        let dropped = fraction
            .bytes()
            .skip(FRACTION_DIGITS as usize)
            .any(|digit| digit != b'0');
        let one = 10_i128.pow(FRACTION_DIGITS);
        let fraction = ((kept + i128::from(dropped)) * nanos + one - 1) / one;
        whole.saturating_add(fraction).min(NANOS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_quantities_are_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("128Mi", 128 << 20),
            ("350M", 350_000_000),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("5.", 5),
            ("1k", 1000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("12e-1", 2),
            ("+7", 7),
            ("1m", 1),
            ("1Ei", 1 << 60),
            ("100Ei", i64::MAX as u64),
            ("1e400", i64::MAX as u64),
            ("0e400", 0),
            ("99999999999999999999999999999999999999999999", i64::MAX as u64),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn cpu_quantities_are_thousandths() {
        for (text, milli) in [
            ("100m", 100),
            ("1", 1000),
            ("0.1", 100),
            ("1.5", 1500),
            ("100u", 1),
            ("1n", 1),
            ("2k", 2_000_000),
            ("1e-400", 1),
        ] {
            assert_eq!(parse_milli_cpu(text), Ok(milli), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "-", ".", "m", "1 Mi", "1mi", "1KI", "1.2.3", "1e", "1e+", "1ee3", "0x10", "1Mb", "-1", "١",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_compare_by_amount() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(quantity("1000m"), quantity("1"));
        assert_eq!(quantity("1Ki"), quantity("1024"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert!(quantity("-1m") < quantity("0"));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "[-+0-9.eEinumkKMGTPi ]{0,60}|.{0,20}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn whole_numbers_are_themselves(number in 0..u64::MAX / 2) {
            prop_assert_eq!(parse_bytes(&number.to_string()), Ok(number));
        }
    }
}
