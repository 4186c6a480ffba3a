//! Why a flow has no answer.

use core::error::Error;
use core::fmt;

use portcullis_core::quote::escaped;
use serde_json::error::Category;

/// Why a flow cannot be evaluated.
///
/// Prints as `field: reason`, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowError {
    field: Option<&'static str>,
    reason: String,
}

impl FlowError {
    pub(in crate::scenario) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field: Some(field), reason: reason.into() }
    }

    pub(super) fn json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = text.strip_suffix(&place).unwrap_or(&text);
        let reason = match error.classify() {
            Category::Eof => String::from("not a JSON object: the line ends too early"),
            Category::Syntax => format!("not a JSON object: {message} at column {}", error.column()),
            Category::Data | Category::Io => message.to_owned(),
        };
        Self { field: None, reason: escaped(&reason).to_string() }
    }

    /// An error that no single field is to blame for.
    pub(in crate::scenario) fn whole(reason: impl Into<String>) -> Self {
        Self { field: None, reason: reason.into() }
    }

    /// The same error, blamed on `field`.
    pub(super) fn at(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// The field, when one is to blame.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        self.field
    }

    /// The reason alone.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl Error for FlowError {}
