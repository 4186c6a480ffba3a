//! The status that implementations write into policies of the network policy API.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::context::quoted;

/// The status of a policy. Its contents never matter.
///
/// Reading it refuses unknown field names, as an API server does in strict mode, and nothing else: the server drops
/// the status of an object that is created before it looks at the values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status(());

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk(Level::Status)).map(|()| Self(()))
    }
}

#[derive(Clone, Copy)]
enum Level {
    Status,
    Conditions,
}

impl Level {
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Status => &["conditions"],
            Self::Conditions => {
                &["type", "status", "reason", "message", "lastTransitionTime", "observedGeneration"]
            }
        }
    }
}

/// Walks over a value of any type and checks the names of fields.
struct Walk(Level);

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk(Level::Conditions)).map(|()| Self)
    }
}

struct Conditions;

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let known = self.0.fields();
        while let Some(field) = map.next_key::<String>()? {
            if !known.contains(&field.as_str()) {
                return Err(A::Error::custom(format!(
                    "unknown field {}, expected one of `{}`",
                    quoted(&field),
                    known.join("`, `")
                )));
            }
            match self.0 {
                Level::Status => {
                    map.next_value::<Conditions>()?;
                }
                Level::Conditions => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        match self.0 {
            Level::Status => while seq.next_element::<IgnoredAny>()?.is_some() {},
            Level::Conditions => while seq.next_element::<Conditions>()?.is_some() {},
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_checked() {
        for good in [
            "{}",
            "5",
            r#""x""#,
            "[1]",
            r#"{"conditions": 5}"#,
            r#"{"conditions": null}"#,
            r#"{"conditions": [{"type": 1, "observedGeneration": 2}]}"#,
        ] {
            assert!(serde_json::from_str::<Status>(good).is_ok(), "{good}");
        }
        for bad in [r#"{"x": 1}"#, r#"{"conditions": [{"x": 1}]}"#] {
            assert!(serde_json::from_str::<Status>(bad).is_err(), "{bad}");
        }
    }
}
