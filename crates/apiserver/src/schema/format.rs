//! The `format` of strings and numbers, as far as Kubernetes checks it; unknown formats say nothing.

use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a value has a format.
pub(super) fn holds(format: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text_holds(format, text),
        Value::Number(number) => match format {
            "int32" => number
                .as_f64()
                .is_some_and(|n| n >= f64::from(i32::MIN) && n <= f64::from(i32::MAX)),
            "int64" => number.is_i64() || number.as_f64().is_some_and(|n| n.abs() < 9.2e18),
            _ => true,
        },
        _ => true,
    }
}

fn text_holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "uuid" => is_uuid(text),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else {
        return false;
    };
    prefix <= if address.is_ipv4() { 32 } else { 128 }
}

fn is_uuid(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    digits == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats_hold_or_not() {
        for (format, value, wanted) in [
            ("date-time", json!("2026-01-02T03:04:05Z"), true),
            ("date-time", json!("2026-01-02T03:04:05.5+02:00"), true),
            ("date-time", json!("yesterday"), false),
            ("date", json!("2026-01-02"), true),
            ("date", json!("2026-13-02"), false),
            ("int32", json!(2_147_483_647), true),
            ("int32", json!(2_147_483_648_i64), false),
            ("int64", json!(u64::MAX), false),
            ("ipv4", json!("127.0.0.1"), true),
            ("ipv4", json!("::1"), false),
            ("ipv6", json!("::1"), true),
            ("cidr", json!("10.0.0.0/8"), true),
            ("cidr", json!("10.0.0.0/33"), false),
            ("uuid", json!("123e4567-e89b-12d3-a456-426614174000"), true),
            ("uuid", json!("123e4567"), false),
            ("anything", json!("x"), true),
        ] {
            assert_eq!(holds(format, &value), wanted, "{format} {value}");
        }
    }
}
