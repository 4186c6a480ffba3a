//! Why the kernel does not do what it was asked.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::error::Error;
use core::fmt;

use portcullis_core::backend::{DataplaneError, DataplaneErrorKind, OracleError, OracleErrorKind};

use crate::load::rights;

/// Why the program or its maps are not as asked for. The message is one line and names the causes, too.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct LoadError {
    text: String,
    kind: DataplaneErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl LoadError {
    /// `what` names what was tried.
    pub(crate) fn new(what: impl fmt::Display, source: impl Error + Send + Sync + 'static) -> Self {
        let mut text = format!("{what}: {source}");
        let mut next = source.source();
        while let Some(error) = next {
            text = format!("{text}: {error}");
            next = error.source();
        }
        // The verifier's log is long; its end says why.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let skipped = text.chars().count().saturating_sub(LONGEST);
        let text: String = if skipped == 0 {
            text
        } else {
            let head: String = text.chars().take(LONGEST / 4).collect();
            let tail: String = text.chars().skip(skipped.saturating_add(LONGEST / 4)).collect();
            format!("{head} ... {tail}")
        };
        let refused = Self { text, kind: DataplaneErrorKind::Refused, source: Some(Box::new(source)) };
        // As io::Error and nix write EPERM and EACCES, which come out of errors of several crates.
        let is_of_rights =
            ["os error 1)", "os error 13)", "EPERM", "EACCES"].iter().any(|end| refused.text.contains(end));
        match is_of_rights.then(rights::lacking).flatten() {
            Some(lacking) => refused.with_hint(&lacking).of_environment(),
            None => refused,
        }
    }

    pub(crate) fn plain(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), kind: DataplaneErrorKind::Refused, source: None }
    }

    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.text = format!("{}; {hint}", self.text);
        self
    }

    /// The machine cannot do it, for any policy.
    pub(crate) fn of_environment(mut self) -> Self {
        self.kind = DataplaneErrorKind::Environment;
        self
    }
}

impl From<LoadError> for DataplaneError {
    fn from(error: LoadError) -> Self {
        Self::new(error.kind, error)
    }
}

impl From<LoadError> for OracleError {
    fn from(error: LoadError) -> Self {
        Self::new(OracleErrorKind::Environment, error)
    }
}

/// Says what was tried when it failed.
pub(crate) trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T, LoadError>;
}

impl<T, E: Error + Send + Sync + 'static> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T, LoadError> {
        self.map_err(|error| LoadError::new(what, error))
    }
}

/// Characters of a message.
const LONGEST: usize = 1_000;
