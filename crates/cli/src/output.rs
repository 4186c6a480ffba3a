//! Standard output and error.

use core::fmt;
use std::env;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use portcullis::verdict::Verdict;

/// Standard output, locked and buffered. Flush it: an error on drop would be lost.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Writes to standard error. There is nobody to tell when that fails.
pub(crate) fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether to write colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Off,
    On,
}

impl Colour {
    /// On when standard output is a terminal that can do it and `NO_COLOR` is not set.
    pub(crate) fn detect() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        if io::stdout().is_terminal() && !refused && !dumb { Self::On } else { Self::Off }
    }

    /// `text` in the colour of `verdict`.
    pub(crate) const fn verdict<T>(self, verdict: Verdict, text: T) -> Painted<T> {
        let code = match verdict {
            Verdict::Allow | Verdict::Continue => "32",
            Verdict::Deny => "31",
            Verdict::Inspect => "33",
        };
        Painted { code, colour: self, text }
    }

    /// `text` in bold.
    pub(crate) const fn bold<T>(self, text: T) -> Painted<T> {
        Painted { code: "1", colour: self, text }
    }
}

/// A text with a colour around it.
#[derive(Debug)]
pub(crate) struct Painted<T> {
    code: &'static str,
    colour: Colour,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.colour {
            Colour::Off => self.text.fmt(f),
            Colour::On => {
                write!(f, "\x1b[{}m", self.code)?;
                self.text.fmt(f)?;
                f.write_str("\x1b[0m")
            }
        }
    }
}
