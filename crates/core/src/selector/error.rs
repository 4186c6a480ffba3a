//! Why a text is not a selector, and where.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use core::ops::Range;

use crate::quote::quoted;
use crate::selector::{MAX_DEPTH, MAX_LABEL, MAX_TEXT};

/// A text that is not a selector.
///
/// The message is one line and holds the offset; [`span`](Self::span) gives the place to a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at offset {}", message(*.kind, .found), .span.start)]
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

/// What is wrong with `found`, without the place.
fn message(kind: SelectorErrorKind, found: &str) -> String {
    match kind {
        SelectorErrorKind::TooLong => format!("selector is longer than {MAX_TEXT} bytes"),
        SelectorErrorKind::TooDeep => format!("selector is nested deeper than {MAX_DEPTH} levels"),
        SelectorErrorKind::UnexpectedCharacter => format!("unexpected character {found}"),
        SelectorErrorKind::UnterminatedString => format!("no closing quote for {found}"),
        SelectorErrorKind::LabelTooLong => format!("label {found} is longer than {MAX_LABEL} bytes"),
        SelectorErrorKind::IncompleteOperator => format!("{found} must be written twice"),
        SelectorErrorKind::ExpectedOperand => {
            format!("expected a label, `has(`, `all()`, `global()`, `!` or `(`, found {found}")
        }
        SelectorErrorKind::ExpectedOperator => format!(
            "expected `==`, `!=`, `in`, `not in`, `contains`, `starts with` or `ends with` after a label, found {found}"
        ),
        SelectorErrorKind::ExpectedString => format!("expected a quoted value, found {found}"),
        SelectorErrorKind::ExpectedSet => format!("expected a set such as `{{\"a\", \"b\"}}`, found {found}"),
        SelectorErrorKind::ExpectedSetEnd => format!("expected `}}` to end the set, found {found}"),
        SelectorErrorKind::ExpectedSetValue => format!("expected a quoted value or `}}`, found {found}"),
        SelectorErrorKind::ExpectedLabel => format!("expected a label name after `has(`, found {found}"),
        SelectorErrorKind::ExpectedCallEnd => format!("expected `)`, found {found}"),
        SelectorErrorKind::UnclosedParenthesis => "`(` is never closed".into(),
        SelectorErrorKind::UnmatchedParenthesis => "`)` closes nothing".into(),
        SelectorErrorKind::ExpectedConnective => format!("expected `&&`, `||` or the end, found {found}"),
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
