//! What a conversion carries along: the names it shares, and the problems it has found so far.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use portcullis_core::label::Name;

use crate::error::{ConvertError, ConvertErrors, ObjectRef, Warning};
use crate::names::Names;
use crate::path::Path;

/// The state of one object's conversion. Problems are collected, so that an author sees all of them at once.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    names: &'a mut Names,
    object: ObjectRef,
    errors: Vec<ConvertError>,
    warnings: Vec<Warning>,
}

impl<'a> Context<'a> {
    /// A conversion of `object` that has found nothing yet.
    pub(crate) const fn new(names: &'a mut Names, object: ObjectRef) -> Self {
        Self { names, object, errors: Vec::new(), warnings: Vec::new() }
    }

    /// The shared name with this text.
    pub(crate) fn name(&mut self, text: &str) -> Name {
        self.names.name(text)
    }

    /// Refuses the object because of `field`.
    pub(crate) fn error(&mut self, field: &Path<'_>, reason: impl Into<String>) {
        self.errors.push(ConvertError::new(self.object.clone(), field.to_string(), reason));
    }

    /// Notes a doubt about `field`.
    pub(crate) fn warn(&mut self, field: &Path<'_>, message: impl Into<String>) {
        self.warnings.push(Warning {
            object: self.object.clone(),
            field: field.to_string(),
            message: message.into(),
        });
    }

    /// Number of errors so far.
    pub(crate) const fn error_count(&self) -> usize {
        self.errors.len()
    }

    /// `value` and the warnings, or all errors when there is one.
    ///
    /// A conversion that gave up passes `None`; it must have noted why.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Warning>), ConvertErrors> {
        ConvertErrors::check(self.errors)?;
        match value {
            Some(value) => Ok((value, self.warnings)),
            None => Err(ConvertError::new(self.object, "", "cannot be read").into()),
        }
    }
}
