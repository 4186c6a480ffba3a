//! What a loader says when it refuses or doubts something.

use core::fmt;
use std::path::{Path, PathBuf};

use crate::error::ReadError;
use crate::position::Position;
use crate::shell;

/// Why there is no model. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    pub(super) errors: Vec<ReadError>,
    pub(super) is_cut_off: bool,
}

/// A doubt about an object, with its place. Prints like a [`ReadError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadWarning(pub(super) ReadError);

impl LoadError {
    /// Adds to errors about two objects of one name, where they stand in a kustomization, how to read what it builds:
    /// objects of one name in several overlays are as they should be.
    pub(super) fn with_kustomizations(mut self, kustomizations: &[PathBuf]) -> Self {
        for error in self.errors.iter_mut().filter(|error| error.reason().contains(ANOTHER)) {
            let file = Path::new(error.file().unwrap_or_default()).to_owned();
            if let Some(folder) =
                file.ancestors().find(|folder| kustomizations.iter().any(|known| known == folder))
            {
                let folder = shell::quoted(folder);
                *error =
                    error.clone().with_note(&format!("; `-k {folder}` reads what this kustomization builds"));
            }
        }
        self
    }

    /// The errors, in the order of the input. Never empty.
    #[must_use]
    pub fn errors(&self) -> &[ReadError] {
        &self.errors
    }

    /// Whether there were so many errors that the rest of the input was not read.
    #[must_use]
    pub const fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }
}

/// One error a line.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        if self.is_cut_off {
            write!(f, "\nstopped after {} errors", self.errors.len())?;
        }
        Ok(())
    }
}

impl core::error::Error for LoadError {}

impl ReadWarning {
    /// The file as the caller named it, or `stdin`.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.0.file()
    }

    /// Where the object begins in the file.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.0.position()
    }

    /// The object as `kind namespace/name`.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.0.object()
    }

    /// The path of the field, unless it is about the object as a whole.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.0.field()
    }

    /// The message alone.
    #[must_use]
    pub fn message(&self) -> &str {
        self.0.reason()
    }
}

impl fmt::Display for ReadWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What stands before the place of an earlier object.
pub(super) const ANOTHER: &str = "; another one of this name is at ";
