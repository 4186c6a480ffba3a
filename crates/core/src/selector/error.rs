//! Why a text is not a selector, and where.

use alloc::boxed::Box;
use alloc::string::ToString as _;
use core::error::Error;
use core::fmt;
use core::ops::Range;

use crate::quote::quoted;
use crate::selector::{MAX_DEPTH, MAX_LABEL, MAX_TEXT};

/// A text that is not a selector.
///
/// The message is one line and holds the offset; [`span`](Self::span) gives the place to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    kind: SelectorErrorKind,
    span: Range<usize>,
    /// As messages show it.
    found: Box<str>,
}

impl SelectorError {
    /// An error about `found`, the text at `span`. The text is shortened and made printable here, so that an
    /// error never holds a copy of a large input.
    pub(super) fn new(kind: SelectorErrorKind, span: Range<usize>, found: &str) -> Self {
        let found = if found.is_empty() { "the end".into() } else { quoted(found).to_string().into() };
        Self { kind, span, found }
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
            SelectorErrorKind::UnexpectedCharacter => write!(f, "unexpected character {}", self.found)?,
            SelectorErrorKind::UnterminatedString => write!(f, "no closing quote for {}", self.found)?,
            SelectorErrorKind::LabelTooLong => {
                write!(f, "label {} is longer than {MAX_LABEL} bytes", self.found)?;
            }
            SelectorErrorKind::IncompleteOperator => {
                write!(f, "{} must be written twice", self.found)?;
            }
            SelectorErrorKind::ExpectedOperand => {
                write!(f, "expected a label, `has(`, `all()`, `global()`, `!` or `(`, found {}", self.found)?;
            }
            SelectorErrorKind::ExpectedOperator => {
                f.write_str(
                    "expected `==`, `!=`, `in`, `not in`, `contains`, `starts with` or `ends with` ",
                )?;
                write!(f, "after a label, found {}", self.found)?;
            }
            SelectorErrorKind::ExpectedString => write!(f, "expected a quoted value, found {}", self.found)?,
            SelectorErrorKind::ExpectedSet => {
                write!(f, "expected a set such as `{{\"a\", \"b\"}}`, found {}", self.found)?;
            }
            SelectorErrorKind::ExpectedSetEnd => {
                write!(f, "expected `}}` to end the set, found {}", self.found)?
            }
            SelectorErrorKind::ExpectedSetValue => {
                write!(f, "expected a quoted value or `}}`, found {}", self.found)?;
            }
            SelectorErrorKind::ExpectedLabel => {
                write!(f, "expected a label name after `has(`, found {}", self.found)?;
            }
            SelectorErrorKind::ExpectedCallEnd => write!(f, "expected `)`, found {}", self.found)?,
            SelectorErrorKind::UnclosedParenthesis => f.write_str("`(` is never closed")?,
            SelectorErrorKind::UnmatchedParenthesis => f.write_str("`)` closes nothing")?,
            SelectorErrorKind::ExpectedConnective => {
                write!(f, "expected `&&`, `||` or the end, found {}", self.found)?;
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
