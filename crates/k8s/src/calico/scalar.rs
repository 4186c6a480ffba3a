//! Values that are a number or a text: protocols and ports.

use alloc::format;
use alloc::string::{String, ToString};

use portcullis_core::label::Name;
use portcullis_core::model::{PortMatch, PortRange};
use portcullis_core::packet::Protocol;
use portcullis_core::quote::quoted;

use crate::intstr::IntOrString;
use crate::validate;

/// Reads a protocol: a name as Calico spells it, or a number from 1 to 255, also written as a string.
///
/// Source: Calico `api/pkg/lib/numorstring/{protocol,uint8orstring}.go`; 0 and other spellings are refused by its
/// validator.
pub(super) fn protocol(value: &IntOrString) -> Result<Protocol, String> {
    let number = match value {
        IntOrString::Int(number) => Some(i64::from(*number)),
        IntOrString::String(text) if is_digits(text) => Some(text.parse().unwrap_or(i64::MAX)),
        IntOrString::String(text) => {
            if let Some(protocol) = Protocol::from_name(text) {
                return Ok(protocol);
            }
            None
        }
    };
    match number.and_then(|n| u8::try_from(n).ok()) {
        Some(number) if number != 0 => Ok(Protocol(number)),
        _ => Err(format!(
            "{} is not a protocol: TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a number from 1 to 255",
            shown(value)
        )),
    }
}

/// Reads a port of a rule: a number, an inclusive range `low:high`, or a name.
///
/// Source: Calico `api/pkg/lib/numorstring/port.go`; its validator refuses port 0.
pub(super) fn port(value: &IntOrString) -> Result<PortMatch, String> {
    match value {
        IntOrString::Int(number) => {
            let port = u16::try_from(*number).ok().filter(|p| *p != 0);
            port.map(single).ok_or_else(|| format!("{} is not a port, use 1 to 65535", shown(value)))
        }
        IntOrString::String(text) if is_digits(text) => port_number(text)
            .map(single)
            .ok_or_else(|| format!("{} is not a port, use 1 to 65535", shown(value))),
        IntOrString::String(text) => {
            if let Some((low, high)) = text.split_once(':')
                && is_digits(low)
                && is_digits(high)
            {
                let (Some(low), Some(high)) = (port_number(low), port_number(high)) else {
                    return Err(format!("{} is not a port range, use ports from 1 to 65535", shown(value)));
                };
                return PortRange::new(low, high)
                    .map(PortMatch::Range)
                    .ok_or_else(|| format!("the port range {} ends before it begins", shown(value)));
            }
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            if text.is_empty() || text.len() > 128 || !text.bytes().all(known) {
                return Err(format!(
                    "{} is not a port, a range such as `80:90`, or a port name",
                    shown(value)
                ));
            }
            Ok(PortMatch::Named(Name::from(text.as_str())))
        }
    }
}

/// Whether some endpoint may have a port of this name.
pub(super) fn port_name_can_exist(name: &str) -> bool {
    validate::port_name(name).is_ok()
}

/// The value in backticks.
pub(super) fn shown(value: &IntOrString) -> String {
    quoted(&value.to_string()).to_string()
}

fn single(port: u16) -> PortMatch {
    PortMatch::Range(PortRange::single(port))
}

fn port_number(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|port| *port != 0)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> IntOrString {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn protocols() {
        for (text, number) in [
            ("\"TCP\"", 6),
            ("\"UDP\"", 17),
            ("\"ICMP\"", 1),
            ("\"ICMPv6\"", 58),
            ("\"SCTP\"", 132),
            ("\"UDPLite\"", 136),
            ("6", 6),
            ("255", 255),
            ("\"17\"", 17),
        ] {
            assert_eq!(protocol(&read(text)), Ok(Protocol(number)), "{text}");
        }
        for text in [
            "0",
            "\"0\"",
            "256",
            "-1",
            "\"tcp\"",
            "\"\"",
            "\"icmpv6\"",
            "\"+6\"",
            "\"6 \"",
            "99999999999999999999",
        ] {
            assert!(
                serde_json::from_str::<IntOrString>(text).map_or(true, |v| protocol(&v).is_err()),
                "{text}"
            );
        }
    }

    #[test]
    fn ports() {
        let range = |low, high| Ok(PortMatch::Range(PortRange::new(low, high).unwrap()));
        assert_eq!(port(&read("80")), range(80, 80));
        assert_eq!(port(&read("\"80\"")), range(80, 80));
        assert_eq!(port(&read("\"1:65535\"")), range(1, 65535));
        assert_eq!(port(&read("\"80:80\"")), range(80, 80));
        assert_eq!(port(&read("\"http\"")), Ok(PortMatch::Named("http".into())));
        assert_eq!(port(&read("\"80-90\"")), Ok(PortMatch::Named("80-90".into())));
        for text in [
            "0",
            "65536",
            "-1",
            "\"0\"",
            "\"65536\"",
            "\"0:5\"",
            "\"5:4\"",
            "\"1:65536\"",
            "\"1:2:3\"",
            "\"\"",
            "\"a b\"",
            "\"a:1\"",
            "\":\"",
            "\"1:\"",
        ] {
            assert!(port(&read(text)).is_err(), "{text}");
        }
        assert!(port(&IntOrString::String("n".repeat(128))).is_ok());
        assert!(port(&IntOrString::String("n".repeat(129))).is_err());
    }
}
