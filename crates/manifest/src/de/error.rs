//! Why a value does not fit a type.

use core::fmt;

use portcullis_core::quote::quoted;
use serde::de::{self, Expected, Unexpected};

use crate::error::ReadErrorKind;
use crate::position::Position;
use crate::tree::{Segment, push};

/// A reason, and where it was met. Path and position are filled in on the way out, so reading what fits costs nothing.
#[derive(Debug)]
pub(crate) struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ReadErrorKind,
    reason: String,
    position: Option<Position>,
    /// Innermost first.
    path: Vec<Segment>,
}

impl Error {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        let kind = ReadErrorKind::Object;
        Self(Box::new(Inner { kind, reason: reason.into(), position: None, path: Vec::new() }))
    }

    /// The error for a key that occurs twice with different values.
    pub(crate) fn repeated(reason: String, second: Position) -> Self {
        let kind = ReadErrorKind::DuplicateKey;
        Self(Box::new(Inner { kind, reason, position: Some(second), path: Vec::new() }))
    }

    /// The error with a position, unless it has one.
    pub(crate) fn located(mut self, position: Position) -> Self {
        self.0.position.get_or_insert(position);
        self
    }

    /// The error as seen from the value around.
    pub(crate) fn inside(mut self, segment: Segment, position: Position) -> Self {
        self.0.path.push(segment);
        self.located(position)
    }

    /// The kind, the position, the path and the reason.
    pub(crate) fn into_parts(self) -> (ReadErrorKind, Option<Position>, String, String) {
        let mut path = String::new();
        for segment in self.0.path.iter().rev() {
            push(&mut path, segment);
        }
        (self.0.kind, self.0.position, path, self.0.reason)
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {length} items"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("{} is not one of {}", quoted(variant), names(expected)))
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown field {}", quoted(field)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("missing field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("field `{field}` is set twice"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)
    }
}

impl core::error::Error for Error {}

fn names(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
