//! Why a text is not a selector, and where.

use alloc::boxed::Box;
use alloc::string::String;
use core::error::Error;
use core::fmt::{self, Write as _};
use core::ops::Range;

use crate::selector::{MAX_DEPTH, MAX_LABEL, MAX_TEXT};

/// A text that is not a selector.
///
/// The message is one line and holds the offset; [`span`](Self::span) gives the place to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    kind: SelectorErrorKind,
    span: Range<usize>,
    found: Box<str>,
}

impl SelectorError {
    /// An error about `found`, the text at `span`. The text is shortened and made printable here, so that an
    /// error never holds a copy of a large input.
    pub(super) fn new(kind: SelectorErrorKind, span: Range<usize>, found: &str) -> Self {
        Self { kind, span, found: printable(found) }
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> SelectorErrorKind {
        self.kind
    }

    /// The offending part of the text in bytes, from 0. Both ends are on character boundaries inside the text.
    /// It is empty, at the end of the text, when something is missing there.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

impl Error for SelectorError {}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            SelectorErrorKind::TooLong => write!(f, "selector is longer than {MAX_TEXT} bytes")?,
            SelectorErrorKind::TooDeep => write!(f, "selector is nested deeper than {MAX_DEPTH} levels")?,
            SelectorErrorKind::UnexpectedCharacter => write!(f, "unexpected character {}", Found(self))?,
            SelectorErrorKind::UnterminatedString => write!(f, "no closing quote for {}", Found(self))?,
            SelectorErrorKind::LabelTooLong => {
                write!(f, "label {} is longer than {MAX_LABEL} bytes", Found(self))?;
            }
            SelectorErrorKind::IncompleteOperator => {
                write!(f, "{} must be written twice", Found(self))?;
            }
            SelectorErrorKind::ExpectedOperand => {
                write!(
                    f,
                    "expected a label, `has(`, `all()`, `global()`, `!` or `(`, found {}",
                    Found(self)
                )?;
            }
            SelectorErrorKind::ExpectedOperator => {
                f.write_str(
                    "expected `==`, `!=`, `in`, `not in`, `contains`, `starts with` or `ends with` ",
                )?;
                write!(f, "after a label, found {}", Found(self))?;
            }
            SelectorErrorKind::ExpectedString => write!(f, "expected a quoted value, found {}", Found(self))?,
            SelectorErrorKind::ExpectedSet => {
                write!(f, "expected a set such as `{{\"a\", \"b\"}}`, found {}", Found(self))?;
            }
            SelectorErrorKind::ExpectedSetEnd => {
                write!(f, "expected `}}` to end the set, found {}", Found(self))?
            }
            SelectorErrorKind::ExpectedSetValue => {
                write!(f, "expected a quoted value or `}}`, found {}", Found(self))?;
            }
            SelectorErrorKind::ExpectedLabel => {
                write!(f, "expected a label name after `has(`, found {}", Found(self))?;
            }
            SelectorErrorKind::ExpectedCallEnd => write!(f, "expected `)`, found {}", Found(self))?,
            SelectorErrorKind::UnclosedParenthesis => f.write_str("`(` is never closed")?,
            SelectorErrorKind::UnmatchedParenthesis => f.write_str("`)` closes nothing")?,
            SelectorErrorKind::ExpectedConnective => {
                write!(f, "expected `&&`, `||` or the end, found {}", Found(self))?;
            }
        }
        write!(f, " at offset {}", self.span.start)
    }
}

/// What is wrong with a text that is not a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SelectorErrorKind {
    /// The text is longer than [`MAX_TEXT`](super::MAX_TEXT).
    TooLong,
    /// The expression is nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep,
    /// A character that has no meaning there, such as a line break or a letter outside ASCII.
    UnexpectedCharacter,
    /// A quoted value without its closing quote.
    UnterminatedString,
    /// A label longer than [`MAX_LABEL`](super::MAX_LABEL).
    LabelTooLong,
    /// A single `=`, `&` or `|`.
    IncompleteOperator,
    /// Neither a label nor anything else that starts a term.
    ExpectedOperand,
    /// A label that no operator follows.
    ExpectedOperator,
    /// An operator that wants a quoted value and has none.
    ExpectedString,
    /// `in` or `not in` without a set.
    ExpectedSet,
    /// A set value that neither `,` nor `}` follows.
    ExpectedSetEnd,
    /// Neither a value nor the end of the set after `{` or `,`.
    ExpectedSetValue,
    /// `has(` without a label.
    ExpectedLabel,
    /// `has(`, `all(` or `global(` without the closing parenthesis.
    ExpectedCallEnd,
    /// `(` without its `)`.
    UnclosedParenthesis,
    /// `)` without its `(`.
    UnmatchedParenthesis,
    /// Something other than `&&`, `||` or `)` after a complete term.
    ExpectedConnective,
}

/// Prints the offending text in backticks, or says that the text has ended.
struct Found<'a>(&'a SelectorError);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.found.is_empty() { f.write_str("the end") } else { write!(f, "`{}`", self.0.found) }
    }
}

/// The first characters of `text`, with those that would break a line or hide written as escapes.
fn printable(text: &str) -> Box<str> {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_FOUND {
            out.push('…');
            break;
        }
        if c.is_control() || (c.is_whitespace() && c != ' ') || is_invisible(c) {
            // Writing into a string cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.into_boxed_str()
}

/// Zero-width characters, the byte order mark and the marks that change the direction of writing.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Characters of the offending text that a message shows.
const MAX_FOUND: usize = 40;
