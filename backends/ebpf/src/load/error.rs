//! Why the kernel does not do what it was asked.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;

/// Why the program or its maps are not as asked for. What was in force before still is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(String);

impl LoadError {
    /// `what` names what was tried.
    pub(crate) fn new(what: impl fmt::Display, error: &(dyn core::error::Error + 'static)) -> Self {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
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
        Self(text)
    }

    pub(crate) fn with_hint(self, hint: &str) -> Self {
        Self(format!("{}; {hint}", self.0))
    }

    pub(crate) fn plain(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

/// Characters of a message.
const LONGEST: usize = 1_000;

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for LoadError {}
