//! Why something could not be read.

use alloc::sync::Arc;
use core::fmt;
use std::io;

use portcullis_core::quote::{Escaped, escaped};

use crate::position::Position;

/// Why a file, a document or an object was refused.
///
/// Prints as one line, `file:line:column: kind namespace/name: field: reason`; parts that are not known are left out.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: ReadErrorKind,
    file: Option<Arc<str>>,
    position: Option<Position>,
    object: Option<Box<str>>,
    field: Option<Box<str>>,
    reason: Box<str>,
    source: Option<Source>,
}

/// What the system said; errors with one kind of it are the same.
#[derive(Clone)]
struct Source(Arc<io::Error>);

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind() == other.0.kind()
    }
}

impl Eq for Source {}

/// What sort of error it is, for programs that treat some of them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// The file could not be found, opened or read, or a directory holds no manifest.
    File,
    /// The bytes are not UTF-8, or hold characters that YAML does not allow.
    Encoding,
    /// The text is not YAML or not JSON.
    Syntax,
    /// The file is a template that nobody has rendered.
    Template,
    /// A pattern for what is left out is not understood, or leaves nothing out.
    Pattern,
    /// A key occurs twice in one mapping.
    DuplicateKey,
    /// A document is larger than [`Limits::document_bytes`](crate::Limits::document_bytes).
    DocumentSize,
    /// A line of YAML is longer than [`Limits::line_bytes`](crate::Limits::line_bytes).
    LineSize,
    /// A document nests deeper than [`Limits::depth`](crate::Limits::depth).
    Depth,
    /// A document has more nodes than [`Limits::nodes`](crate::Limits::nodes), aliases expanded.
    Nodes,
    /// The text is fine but not an object: no kind, a list where a mapping belongs, an unknown or missing field, a
    /// wrong type.
    Object,
    /// The object is well formed but its meaning is refused.
    Meaning,
}

impl ReadError {
    pub(crate) fn new(kind: ReadErrorKind, reason: impl Into<Box<str>>) -> Self {
        let inner = Inner {
            kind,
            file: None,
            position: None,
            object: None,
            field: None,
            reason: reason.into(),
            source: None,
        };
        Self(Box::new(inner))
    }

    /// A file that the system does not let us read.
    pub(crate) fn of_system(error: io::Error) -> Self {
        // In our words where they are common.
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".into(),
            io::ErrorKind::PermissionDenied => "permission denied".into(),
            io::ErrorKind::IsADirectory => "is a directory".into(),
            _ => error.to_string(),
        };
        let mut refused = Self::new(ReadErrorKind::File, reason);
        refused.0.source = Some(Source(Arc::new(error)));
        refused
    }

    pub(crate) fn with_file(mut self, file: Arc<str>) -> Self {
        self.0.file = Some(file);
        self
    }

    pub(crate) fn with_position(mut self, position: Option<Position>) -> Self {
        self.0.position = position;
        self
    }

    pub(crate) fn with_object(mut self, object: Option<impl Into<Box<str>>>) -> Self {
        self.0.object = object.map(Into::into);
        self
    }

    pub(crate) fn with_field(mut self, field: impl Into<Box<str>>) -> Self {
        let field = field.into();
        self.0.field = (!field.is_empty()).then_some(field);
        self
    }

    /// The error with something added to its reason.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        self.0.reason = format!("{}{note}", self.0.reason).into();
        self
    }

    /// The sort of error.
    #[must_use]
    pub const fn kind(&self) -> ReadErrorKind {
        self.0.kind
    }

    /// The file as the caller named it, or `stdin`.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// Where in the file, when known.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// The object as `kind namespace/name`, as far as it is known.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// The path of the field, for example `spec.ingress[0].from[1].ipBlock.cidr`.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The reason alone.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = self.file() {
            write!(f, "{}", part(file))?;
            f.write_str(if self.0.position.is_some() { ":" } else { ": " })?;
        }
        if let Some(position) = self.0.position {
            write!(f, "{position}: ")?;
        }
        for text in [self.object(), self.field()].into_iter().flatten() {
            write!(f, "{}: ", part(text))?;
        }
        write!(f, "{}", part(self.reason()))
    }
}

impl fmt::Debug for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadError({:?}, {self})", self.0.kind)
    }
}

/// The source is what the system said, when a file could not be read.
impl core::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.0.source.as_ref().map(|Source(error)| &**error as _)
    }
}

const fn part(text: &str) -> Escaped<'_> {
    escaped(text).at_most(PART)
}

/// Characters of one part that are printed. Paths of files can be this long; nothing else should be.
const PART: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_one_line_with_what_is_known() {
        let bare = ReadError::new(ReadErrorKind::File, "permission denied");
        assert_eq!(bare.to_string(), "permission denied");
        let bare = bare.with_file("a\nb.yaml".into());
        assert_eq!(bare.to_string(), "a\\nb.yaml: permission denied");
        let full = ReadError::new(ReadErrorKind::Object, "not a list")
            .with_file("a.yaml".into())
            .with_position(Some(Position::new(3, 4)))
            .with_object(Some("Pod a/b"))
            .with_field("spec.containers");
        assert_eq!(full.to_string(), "a.yaml:3:4: Pod a/b: spec.containers: not a list");
        assert_eq!(full.kind(), ReadErrorKind::Object);
    }

    #[test]
    fn what_the_system_said_is_the_source() {
        let error = ReadError::of_system(io::Error::from(io::ErrorKind::NotFound)).with_file("a".into());
        assert_eq!(error.to_string(), "a: no such file or directory");
        let source = core::error::Error::source(&error).unwrap();
        assert_eq!(source.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(core::error::Error::source(&ReadError::new(ReadErrorKind::Syntax, "x")).is_none());
    }
}
