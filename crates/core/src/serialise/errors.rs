//! Errors, as they travel to another process: their message, and what a program can use of them.

use alloc::string::ToString as _;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::backend::{
    DataplaneError, DataplaneErrorKind, LowerError, LowerErrorKind, OracleError, OracleErrorKind,
};
use crate::compile::UpdateError;
use crate::ir::{ReadError, VerifyError};
use crate::net::CidrError;
use crate::selector::SelectorError;

macro_rules! error_with {
    ($type:ty { $($field:literal: $value:expr),* $(,)? }) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                const NAMES: &[&str] = &["message", $($field),*];
                let mut fields = serializer.serialize_struct(stringify!($type), NAMES.len())?;
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

error_with!(CidrError {});
error_with!(SelectorError { "start": |e| e.span().start, "end": |e| e.span().end });
error_with!(ReadError { "line": Self::line, "offset": Self::offset });
error_with!(UpdateError { "owner": |e| e.owner().to_string(), "rule": Self::rule });
error_with!(VerifyError { "invariant": Self::invariant });
error_with!(DataplaneError { "kind": |e| dataplane_kind(e.kind()) });
error_with!(OracleError { "kind": |e| oracle_kind(e.kind()) });

/// Of a limit, also its name and value and how much is needed; of other kinds, these are null.
impl Serialize for LowerError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let limit = match self.kind() {
            LowerErrorKind::Limit { name, limit, needed } => Some((*name, *limit, *needed)),
            _ => None,
        };
        let mut fields = serializer.serialize_struct("LowerError", 5)?;
        fields.serialize_field("message", &self.to_string())?;
        fields.serialize_field("kind", lower_kind(self.kind()))?;
        fields.serialize_field("name", &limit.map(|(name, ..)| name))?;
        fields.serialize_field("limit", &limit.map(|(_, limit, _)| limit))?;
        fields.serialize_field("needed", &limit.map(|(.., needed)| needed))?;
        fields.end()
    }
}

const fn dataplane_kind(kind: DataplaneErrorKind) -> &'static str {
    match kind {
        DataplaneErrorKind::DoesNotFit => "does-not-fit",
        DataplaneErrorKind::Environment => "environment",
        DataplaneErrorKind::Refused => "refused",
        DataplaneErrorKind::Contended => "contended",
        DataplaneErrorKind::NotLoaded => "not-loaded",
    }
}

const fn oracle_kind(kind: OracleErrorKind) -> &'static str {
    match kind {
        OracleErrorKind::Environment => "environment",
        OracleErrorKind::Unaskable => "unaskable",
        OracleErrorKind::Contradiction => "contradiction",
    }
}

const fn lower_kind(kind: &LowerErrorKind) -> &'static str {
    match kind {
        LowerErrorKind::Generation { .. } => "generation",
        LowerErrorKind::Limit { .. } => "limit",
        LowerErrorKind::Unsupported { .. } => "unsupported",
        LowerErrorKind::Bindings(_) => "bindings",
        LowerErrorKind::Invalid => "invalid",
        LowerErrorKind::InvalidEntry { .. } => "invalid-entry",
    }
}
