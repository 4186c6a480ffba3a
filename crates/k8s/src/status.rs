//! The status that implementations write into policies of the network policy API.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// The status of a policy. Its contents never matter, so any content is read and dropped: dumps of clusters hold
/// what servers and implementations of other versions wrote, and a server drops the status of an object that is created.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status(());

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_matters() {
        for status in
            ["{}", "5", r#""x""#, "[1]", "null", r#"{"x": 1}"#, r#"{"conditions": [{"x": 1}, null]}"#]
        {
            assert!(serde_json::from_str::<Status>(status).is_ok(), "{status}");
        }
    }
}
