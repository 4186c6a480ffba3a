//! Fields that hold a number or a text.

use alloc::string::{String, ToString};
use core::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A number or a text, as the `port` of a NetworkPolicy rule.
///
/// The number is any 32-bit integer; fractions and other types are refused.
/// Source: kubernetes `apimachinery/pkg/util/intstr/intstr.go`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A text, also one that holds only digits.
    String(String),
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 32-bit integer or a string")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<IntOrString, E> {
                i32::try_from(number)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<IntOrString, E> {
                i32::try_from(number)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(text.to_string()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Reads an integer field of a custom resource, where the server takes `5.0` for `5`.
///
/// Source: kubernetes `kube-openapi/pkg/validation/validate/type.go`.
pub(crate) fn integral<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Integral;

    impl Visitor<'_> for Integral {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<i64, E> {
            // Far inside the range in which every integer has an exact `f64`.
            let limit = f64::from(i32::MAX);
            if (-limit..=limit).contains(&number) && number % 1.0 == 0.0 {
                #[expect(clippy::cast_possible_truncation, reason = "an integer of 32 bits, as just checked")]
                Ok(number as i64)
            } else {
                Err(E::invalid_value(Unexpected::Float(number), &self))
            }
        }
    }

    struct Field(i64);

    impl<'de> Deserialize<'de> for Field {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Integral).map(Field)
        }
    }

    Ok(Option::<Field>::deserialize(deserializer)?.map(|field| field.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts() {
        let read = |json: &str| serde_json::from_str::<IntOrString>(json);
        assert_eq!(read("80").unwrap(), IntOrString::Int(80));
        assert_eq!(read("-1").unwrap(), IntOrString::Int(-1));
        assert_eq!(read("\"80\"").unwrap(), IntOrString::String("80".into()));
        for bad in ["80.0", "80.5", "2147483648", "true", "null", "[]", "{}", "1e2"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
