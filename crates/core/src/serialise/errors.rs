//! Errors, as they travel to another process: their message, and what a program can use of them.

use alloc::string::ToString as _;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::backend::{DataplaneError, LowerError, OracleError};
use crate::compile::UpdateError;
use crate::ir::{ReadError, VerifyError};
use crate::net::CidrError;
use crate::selector::SelectorError;

macro_rules! error_with {
    ($type:ty { $($field:literal: $value:expr),* $(,)? }) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                const FIELDS: usize = 1 + [$($field),*].len();
                let mut fields = serializer.serialize_struct(stringify!($type), FIELDS)?;
                fields.serialize_field("message", &self.to_string())?;
                $({
                    let value: fn(&$type) -> _ = $value;
                    fields.serialize_field($field, &value(self))?;
                })*
                fields.end()
            }
        }
    };
}

error_with!(SelectorError { "start": |e| e.span().start, "end": |e| e.span().end });
error_with!(ReadError { "line": Self::line, "offset": Self::offset });
error_with!(UpdateError { "owner": |e| e.owner().to_string(), "rule": Self::rule });
error_with!(VerifyError { "invariant": Self::invariant });

macro_rules! error_message {
    ($($type:ty),* $(,)?) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut fields = serializer.serialize_struct(stringify!($type), 1)?;
                fields.serialize_field("message", &self.to_string())?;
                fields.end()
            }
        }
    )*};
}

error_message!(CidrError, DataplaneError, LowerError, OracleError);
