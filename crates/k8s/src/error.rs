//! What a conversion says when it refuses or doubts something.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::ops::Deref;
use core::slice;

use portcullis_core::quote::{Escaped, escaped};

/// The object a message is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind, for example `NetworkPolicy`.
    pub kind: String,
    /// Its namespace, for kinds that have one.
    pub namespace: Option<String>,
    /// Its name; empty when the object has none.
    pub name: String,
}

/// `kind namespace/name`, or `kind name` without a namespace.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {}/{}", part(&self.kind), part(namespace), part(&self.name)),
            None => write!(f, "{} {}", part(&self.kind), part(&self.name)),
        }
    }
}

/// Something in an object that cannot be given its exact meaning. The whole object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {reason}")]
pub struct ConvertError {
    object: ObjectRef,
    field: String,
    reason: String,
}

impl ConvertError {
    /// An error at `field` (a path such as `spec.ingress[0].from[1].ipBlock.cidr`).
    pub fn new(object: ObjectRef, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { object, field: field.into(), reason: reason.into() }
    }

    /// The object.
    #[must_use]
    pub const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The path of the field inside the object.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Why it was refused: one line, user text in backticks.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// All reasons why an object, or objects together, are refused: one error for `?`, and a slice of the single ones. Never
/// empty. Prints one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertErrors(Box<[ConvertError]>);

impl ConvertErrors {
    /// These errors; `Ok` when there are none.
    pub(crate) fn check(errors: Vec<ConvertError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors.into())) }
    }
}

impl From<ConvertError> for ConvertErrors {
    fn from(error: ConvertError) -> Self {
        Self(Box::new([error]))
    }
}

impl Deref for ConvertErrors {
    type Target = [ConvertError];

    fn deref(&self) -> &[ConvertError] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a ConvertErrors {
    type Item = &'a ConvertError;
    type IntoIter = slice::Iter<'a, ConvertError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for ConvertErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for ConvertErrors {}

/// Something in an object that has an exact meaning, though probably not the one its author had in mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The object.
    pub object: ObjectRef,
    /// The path of the field inside the object; empty for the object as a whole.
    pub field: String,
    /// One line, user text in backticks.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Part of an object's name, which is user text that may not have been checked yet.
const fn part(text: &str) -> Escaped<'_> {
    escaped(text).at_most(NAME)
}

/// Characters of a name that are shown: no kind of object has longer ones.
const NAME: usize = 253;
