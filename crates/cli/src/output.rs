//! Standard output and error.

use core::fmt;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use portcullis::verdict::Verdict;

/// Standard output, locked and buffered. Flush it: an error on drop would be lost.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// Writes to standard error. There is nobody to tell when that fails.
pub(crate) fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The columns of the terminal that standard output is; `None` where it is no terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    // A terminal that does not say is as wide as terminals used to be.
    Some(terminal_size::terminal_size_of(io::stdout()).map_or(80, |(width, _)| width.0.into()))
}

/// When to write colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal that has them, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Whether to write colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Off,
    On,
}

impl Colour {
    /// As `when` says; where it leaves the choice, on a terminal that can do it, unless the environment says otherwise
    /// (`NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE`).
    pub(crate) fn choose(when: When) -> Self {
        match when {
            When::Always => Self::On,
            When::Never => Self::Off,
            When::Auto => match AutoStream::choice(&io::stdout()) {
                ColorChoice::Never => Self::Off,
                _ => Self::On,
            },
        }
    }

    /// `text` in the colour of `verdict`.
    pub(crate) const fn verdict<T>(self, verdict: Verdict, text: T) -> Painted<T> {
        let colour = match verdict {
            Verdict::Allow | Verdict::Continue => AnsiColor::Green,
            Verdict::Deny => AnsiColor::Red,
            Verdict::Inspect => AnsiColor::Yellow,
        };
        self.paint(colour.on_default(), text)
    }

    /// `text` in bold.
    pub(crate) const fn bold<T>(self, text: T) -> Painted<T> {
        self.paint(Style::new().bold(), text)
    }

    const fn paint<T>(self, style: Style, text: T) -> Painted<T> {
        let style = match self {
            Self::Off => Style::new(),
            Self::On => style,
        };
        Painted { style, text }
    }
}

/// A text with a colour around it.
#[derive(Debug)]
pub(crate) struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.style.render(), self.text, self.style.render_reset())
    }
}
