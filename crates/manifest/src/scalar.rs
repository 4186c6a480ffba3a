//! What a plain YAML scalar means.
//!
//! Source: kubernetes-sigs/yaml goyaml.v2/resolve.go, the YAML 1.1 reader of the API server and kubectl. YAML 1.2
//! would read `yes` and `012` differently; a policy must mean here what it means to the server.

/// The type of a plain scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int,
    Float,
    String,
    /// The merge key `<<`; only in key position, a string elsewhere.
    Merge,
}

/// The type of the plain (unquoted, untagged) scalar `text`.
pub(crate) fn resolve(text: &str) -> Scalar {
    let Some(first) = text.bytes().next() else { return Scalar::Null };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => resolve_word(text),
        b'<' if text == "<<" => Scalar::Merge,
        b'.' => match text {
            ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" => Scalar::Float,
            _ if is_float(text) => Scalar::Float,
            _ => Scalar::String,
        },
        b'+' | b'-' | b'0'..=b'9' => resolve_number(text),
        _ => Scalar::String,
    }
}

/// The value of an integer in YAML 1.1 or JSON notation: at least the smallest `i64`, at most the largest `u64`.
///
/// `012` is octal, `_` is ignored, and the prefixes `0x`, `0o` and `0b` are known in both cases.
pub(crate) fn int_value(text: &str) -> Option<i128> {
    let cleaned;
    let text = if text.contains('_') {
        cleaned = text.replace('_', "");
        &cleaned
    } else {
        text
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (Some('-'), rest),
        None => match text.strip_prefix('+') {
            Some(rest) => (Some('+'), rest),
            None => (None, text),
        },
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // The parser below would take a second sign.
    if !digits.bytes().next()?.is_ascii_alphanumeric() {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    match sign {
        Some('-') => (value <= -i128::from(i64::MIN)).then_some(-value),
        Some(_) => (value <= i128::from(i64::MAX)).then_some(value),
        None => Some(value),
    }
}

/// The value of a float in YAML 1.1 or JSON notation.
pub(crate) fn float_value(text: &str) -> f64 {
    match text {
        ".nan" | ".NaN" | ".NAN" => f64::NAN,
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => f64::INFINITY,
        "-.inf" | "-.Inf" | "-.INF" => f64::NEG_INFINITY,
        _ => text.replace('_', "").parse().unwrap_or(f64::NAN),
    }
}

fn resolve_word(text: &str) -> Scalar {
    match text {
        "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        _ => Scalar::String,
    }
}

fn resolve_number(text: &str) -> Scalar {
    if matches!(text, "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF") {
        return Scalar::Float;
    }
    // The common strings that begin with a digit, addresses and times, need no closer look.
    if text.bytes().any(|byte| byte == b':' || byte == b'/') {
        return Scalar::String;
    }
    if int_value(text).is_some() {
        return Scalar::Int;
    }
    if text.contains('_') {
        return if is_float(&text.replace('_', "")) { Scalar::Float } else { Scalar::String };
    }
    if is_float(text) { Scalar::Float } else { Scalar::String }
}

/// A decimal float that a 64-bit float can hold: optional sign, digits with at most one point, optional exponent.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_like_the_api_server() {
        let cases: &[(Scalar, &[&str])] = &[
            (Scalar::Null, &["", "~", "null", "Null", "NULL"]),
            (Scalar::Bool(true), &["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"]),
            (
                Scalar::Bool(false),
                &["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"],
            ),
            (
                Scalar::Int,
                &[
                    "0",
                    "-0",
                    "+7",
                    "012",
                    "0x10",
                    "0XfF",
                    "0o17",
                    "0b101",
                    "-0b1",
                    "1_000",
                    "0_",
                    "1__0",
                    "18446744073709551615",
                    "-9223372036854775808",
                ],
            ),
            (
                Scalar::Float,
                &[
                    "1.0",
                    "1.",
                    ".5",
                    "-.5",
                    "1e3",
                    "1.5E-3",
                    "08",
                    "09.5",
                    "1_0.5",
                    ".inf",
                    "-.Inf",
                    "+.INF",
                    ".nan",
                    "18446744073709551616",
                    "+18446744073709551615",
                    "-9223372036854775809",
                ],
            ),
            (
                Scalar::String,
                &[
                    "yEs",
                    "nULL",
                    "tRUE",
                    "True.",
                    "a",
                    "-",
                    "+",
                    ".",
                    "..",
                    "0x",
                    "0xg",
                    "0b2",
                    "1e400",
                    "1e",
                    "e1",
                    "1.2.3",
                    "10.0.0.0/8",
                    "10.0.0.1",
                    "2001-01-01",
                    "2001-01-01T00:00:00Z",
                    "12:30",
                    "190:20:30",
                    "_1",
                    "--1",
                    "+-1",
                    "0x-1",
                    "1 000",
                    "=",
                    "infinity",
                    "nan",
                    "-.5_x",
                    "<",
                    "<<a",
                ],
            ),
            (Scalar::Merge, &["<<"]),
        ];
        for (expected, texts) in cases {
            for text in *texts {
                assert_eq!(resolve(text), *expected, "{text:?}");
            }
        }
    }

    #[test]
    fn reads_integers() {
        for (text, value) in [
            ("012", 10),
            ("0x10", 16),
            ("0o17", 15),
            ("-0b101", -5),
            ("1_000", 1000),
            ("+7", 7),
            ("-0", 0),
            ("0", 0),
            ("9223372036854775808", 1 << 63),
            ("-9223372036854775808", -(1 << 63)),
        ] {
            assert_eq!(int_value(text), Some(value), "{text}");
        }
        for text in
            ["", "-", "08", "1.0", "0x", "0b2", "+0x+1", "99999999999999999999", "+9223372036854775808"]
        {
            assert_eq!(int_value(text), None, "{text}");
        }
    }

    #[test]
    fn reads_floats() {
        assert_eq!(float_value("1_0.5"), 10.5);
        assert_eq!(float_value("-.Inf"), f64::NEG_INFINITY);
        assert_eq!(float_value("08"), 8.0);
        assert!(float_value(".nan").is_nan());
    }
}
