//! Where something stands in the input.

use alloc::sync::Arc;
use core::fmt;

use portcullis_manifest::Position;

/// A place in the input. Prints as `file:line:column`, on one line.
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
        let file: String = self.file.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        write!(f, "{file}:{}", self.position)
    }
}
