//! Where something stands in the input.

use alloc::sync::Arc;
use core::fmt;

use portcullis_core::quote::escaped;
use portcullis_manifest::Position;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// A place in the input. Prints as `file:line:column`, on one line; in JSON, `{"file", "line", "column"}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    file: Arc<str>,
    position: Position,
}

impl Location {
    pub(super) const fn new(file: Arc<str>, position: Position) -> Self {
        Self { file, position }
    }

    /// The file as it was named, or `stdin`.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, counted from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.position.line()
    }

    /// The column in characters, counted from 1.
    #[must_use]
    pub const fn column(&self) -> u32 {
        self.position.column()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", escaped(&self.file), self.position)
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Location", 3)?;
        fields.serialize_field("file", self.file())?;
        fields.serialize_field("line", &self.line())?;
        fields.serialize_field("column", &self.column())?;
        fields.end()
    }
}
