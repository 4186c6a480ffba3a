//! The lexical level of the selector language.

use core::ops::Range;

use crate::selector::MAX_LABEL;
use crate::selector::error::{SelectorError, SelectorErrorKind as Kind};

/// A place in a selector text.
///
/// What counts as a word depends on where it stands (`in` may be a label or an operator), so there is no list
/// of tokens: the parser asks for what may come next.
pub(super) struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, rest: text }
    }

    /// Bytes read so far.
    pub(super) const fn offset(&self) -> usize {
        self.text.len().saturating_sub(self.rest.len())
    }

    pub(super) const fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Skips spaces and tabs. Every other kind of white space is an error in this language.
    ///
    /// Source: Calico `libcalico-go/lib/selector/tokenizer/tokenizer.go`.
    pub(super) fn skip_blanks(&mut self) {
        self.rest = without_blanks(self.rest);
    }

    /// Reads exactly `expected`, or nothing.
    #[inline]
    pub(super) fn eat(&mut self, expected: &str) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Reads one of the operators that follow a label.
    ///
    /// A word must not run into a label character: `contains"b"` is fine, `containsx` is not. The gap in a
    /// two-word operator may be empty.
    pub(super) fn operator(&mut self) -> Result<Operator, SelectorError> {
        let start = self.offset();
        for (symbol, operator) in [("==", Operator::Eq), ("!=", Operator::Ne)] {
            if self.eat(symbol) {
                return Ok(operator);
            }
        }
        for (first, second, operator) in WORDS {
            let Some(mut rest) = self.rest.strip_prefix(first) else { continue };
            if !second.is_empty() {
                match without_blanks(rest).strip_prefix(second) {
                    Some(after) => rest = after,
                    None => continue,
                }
            }
            if rest.starts_with(is_label_char) {
                continue;
            }
            self.rest = rest;
            return Ok(operator);
        }
        Err(self.unexpected_from(start, Kind::ExpectedOperator))
    }

    /// Reads a label, if there is one.
    pub(super) fn label(&mut self) -> Result<Option<&'a str>, SelectorError> {
        let start = self.offset();
        let length = label_length(self.rest);
        let (label, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        if length > MAX_LABEL {
            return Err(SelectorError::new(Kind::LabelTooLong, start..start.saturating_add(length), label));
        }
        self.rest = rest;
        Ok(if label.is_empty() { None } else { Some(label) })
    }

    /// Reads a quoted value, if there is one. There are no escapes; the closing quote is of the same kind.
    pub(super) fn string(&mut self) -> Result<Option<&'a str>, SelectorError> {
        for quote in ['"', '\''] {
            let Some(inner) = self.rest.strip_prefix(quote) else { continue };
            let Some((value, rest)) = inner.split_once(quote) else {
                return Err(SelectorError::new(
                    Kind::UnterminatedString,
                    self.offset()..self.text.len(),
                    self.rest,
                ));
            };
            self.rest = rest;
            return Ok(Some(value));
        }
        Ok(None)
    }

    /// The error for what stands here where `wanted` was looked for.
    pub(super) fn unexpected(&self, wanted: Kind) -> SelectorError {
        self.unexpected_from(self.offset(), wanted)
    }

    /// An error of the given kind about `span`.
    pub(super) fn error(&self, kind: Kind, span: Range<usize>) -> SelectorError {
        let found = self.text.get(span.clone()).unwrap_or_default();
        SelectorError::new(kind, span, found)
    }

    fn unexpected_from(&self, start: usize, wanted: Kind) -> SelectorError {
        let length = word_length(self.rest);
        let found = self.rest.get(..length).unwrap_or_default();
        let kind = match (wanted, found) {
            (Kind::ExpectedOperator, "=") | (Kind::ExpectedConnective, "&" | "|") => Kind::IncompleteOperator,
            _ if found.chars().all(is_known_char) => wanted,
            _ => Kind::UnexpectedCharacter,
        };
        SelectorError::new(kind, start..start.saturating_add(length), found)
    }
}

/// An operator between a label and its operand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Eq,
    Ne,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
}

/// Length of the word or symbol that `text` starts with: the unit that an error message shows.
fn word_length(text: &str) -> usize {
    let word = label_length(text);
    if word > 0 {
        return word;
    }
    for symbol in ["==", "!=", "&&", "||"] {
        if text.starts_with(symbol) {
            return symbol.len();
        }
    }
    text.chars().next().map_or(0, char::len_utf8)
}

/// Bytes at the start of `text` that may stand in a label. All of them are ASCII.
fn label_length(text: &str) -> usize {
    text.bytes().position(|byte| !is_label_char(char::from(byte))).unwrap_or(text.len())
}

const fn is_label_char(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '/' | '-')
}

fn without_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Whether the language has a use for the character outside quotes.
const fn is_known_char(c: char) -> bool {
    is_label_char(c) || matches!(c, '(' | ')' | '{' | '}' | ',' | '"' | '\'' | '!' | '=' | '&' | '|')
}

/// The operators that are words: first word, second word or nothing, operator.
const WORDS: [(&str, &str, Operator); 5] = [
    ("in", "", Operator::In),
    ("not", "in", Operator::NotIn),
    ("contains", "", Operator::Contains),
    ("starts", "with", Operator::StartsWith),
    ("ends", "with", Operator::EndsWith),
];
