//! JSON text to a tree.
//!
//! Written by hand because the JSON libraries that this project keeps tell no positions of values, only of errors.

use portcullis_core::quote::quoted;

use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::position::Position;
use crate::scalar::{self, Scalar};
use crate::tree::Tree;
use crate::tree::build::{Builder, Container};

/// Parses the one JSON value in `text`, which begins at `start` in its file. Strict RFC 8259, with limits.
pub(crate) fn parse(text: &str, start: Position, limits: &Limits) -> Result<Tree, ReadError> {
    let mut builder = Builder::new(limits, text.len());
    let mut parser = Parser { text, at: 0, marked: 0, mark: start };
    match parser.document(&mut builder) {
        Ok(()) => Ok(builder.finish()),
        Err(error) => Err(builder.explain(error)),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// The last offset whose position was asked for, and that position: offsets only grow, so positions cost one
    /// pass over the text in total.
    marked: usize,
    mark: Position,
}

impl<'a> Parser<'a> {
    fn document(&mut self, builder: &mut Builder<'_>) -> Result<(), ReadError> {
        loop {
            if self.value(builder)? {
                // An empty list or mapping, or a scalar, was read in full.
                loop {
                    match (builder.container(), self.peek()) {
                        (Container::Document, None) => return Ok(()),
                        (Container::Mapping, Some(b'}')) | (Container::Sequence, Some(b']')) => {
                            self.at += 1;
                            builder.end()?;
                        }
                        (Container::Sequence, Some(b',')) => {
                            self.at += 1;
                            break;
                        }
                        (Container::Mapping, Some(b',')) => {
                            self.at += 1;
                            self.key(builder)?;
                            break;
                        }
                        (Container::Document, _) => return Err(self.unexpected("the end of the document")),
                        (Container::Mapping, _) => return Err(self.unexpected("`,` or `}`")),
                        (Container::Sequence, _) => return Err(self.unexpected("`,` or `]`")),
                    }
                }
            }
        }
    }

    /// Reads the beginning of a value; whether that was all of it.
    fn value(&mut self, builder: &mut Builder<'_>) -> Result<bool, ReadError> {
        let next = self.peek();
        let position = self.position();
        match next {
            Some(b'{') => {
                self.at += 1;
                builder.start_mapping(position, 0)?;
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    builder.end()?;
                    return Ok(true);
                }
                self.key(builder)?;
                return Ok(false);
            }
            Some(b'[') => {
                self.at += 1;
                builder.start_sequence(position, 0)?;
                if self.peek() == Some(b']') {
                    self.at += 1;
                    builder.end()?;
                    return Ok(true);
                }
                return Ok(false);
            }
            Some(b'"') => self.string(builder, position)?,
            Some(b'-' | b'0'..=b'9') => self.number(builder, position)?,
            Some(b't') => self.literal("true", Scalar::Bool(true), builder, position)?,
            Some(b'f') => self.literal("false", Scalar::Bool(false), builder, position)?,
            Some(b'n') => self.literal("null", Scalar::Null, builder, position)?,
            _ => return Err(self.unexpected("a value")),
        }
        Ok(true)
    }

    fn key(&mut self, builder: &mut Builder<'_>) -> Result<(), ReadError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in double quotes"));
        }
        let position = self.position();
        self.string(builder, position)?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("`:`"));
        }
        self.at += 1;
        Ok(())
    }

    fn literal(
        &mut self,
        word: &str,
        kind: Scalar,
        builder: &mut Builder<'_>,
        position: Position,
    ) -> Result<(), ReadError> {
        if !self.rest().starts_with(word) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        builder.scalar(kind, word, position, 0)
    }

    fn number(&mut self, builder: &mut Builder<'_>, position: Position) -> Result<(), ReadError> {
        let rest = self.rest();
        let end =
            rest.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let text = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let Some(is_whole) = number_form(text) else {
            let reason = format!("malformed JSON: {} is not a number", quoted(text));
            return Err(ReadError::new(ReadErrorKind::Syntax, reason).with_position(Some(position)));
        };
        let is_int = is_whole && scalar::int_value(text).is_some();
        if !is_int && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            let reason = format!("the number {} is out of range", quoted(text));
            return Err(ReadError::new(ReadErrorKind::Syntax, reason).with_position(Some(position)));
        }
        builder.scalar(if is_int { Scalar::Int } else { Scalar::Float }, text, position, 0)?;
        self.at += text.len();
        Ok(())
    }

    fn string(&mut self, builder: &mut Builder<'_>, position: Position) -> Result<(), ReadError> {
        self.at += 1;
        let rest = self.rest();
        let stop = |byte: u8| byte == b'"' || byte == b'\\' || byte < b' ';
        let plain = rest.bytes().position(stop).unwrap_or(rest.len());
        if rest.as_bytes().get(plain) == Some(&b'"') {
            builder.scalar(Scalar::String, rest.get(..plain).unwrap_or_default(), position, 0)?;
            self.at += plain + 1;
            return Ok(());
        }
        let mut value = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.bytes().position(stop).unwrap_or(rest.len());
            value.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match rest.as_bytes().get(plain) {
                Some(b'"') => break,
                Some(b'\\') => value.push(self.escape()?),
                Some(_) => return Err(self.malformed("a control character in a string")),
                None => return Err(self.malformed("a string without an end").with_position(Some(position))),
            }
        }
        self.at += 1;
        builder.scalar(Scalar::String, &value, position, 0)
    }

    /// Reads one escape, which begins at the current offset.
    fn escape(&mut self) -> Result<char, ReadError> {
        let character = match self.rest().as_bytes().get(1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.malformed("an unknown escape in a string")),
        };
        self.at += 2;
        Ok(character)
    }

    fn unicode(&mut self) -> Result<char, ReadError> {
        let Some(first) = self.code_unit(0) else {
            return Err(self.malformed("`\\u` needs four hexadecimal digits"));
        };
        if let Some(character) = char::from_u32(first) {
            self.at += 6;
            return Ok(character);
        }
        let second = self.code_unit(6);
        let pair = second.filter(|second| first < 0xdc00 && (0xdc00..0xe000).contains(second));
        let joined =
            pair.and_then(|second| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
        let Some(character) = joined else { return Err(self.malformed("half a surrogate pair in a string")) };
        self.at += 12;
        Ok(character)
    }

    /// The value of the `\uXXXX` that begins `skip` bytes from here.
    fn code_unit(&self, skip: usize) -> Option<u32> {
        let digits = self.rest().get(skip..skip + 6)?.strip_prefix("\\u")?;
        // The number parser would take a sign.
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn position(&mut self) -> Position {
        self.mark = self.mark.after(self.text.get(self.marked..self.at).unwrap_or_default());
        self.marked = self.at;
        self.mark
    }

    fn unexpected(&mut self, expected: &str) -> ReadError {
        match self.rest().chars().next() {
            Some(character) => {
                let found = quoted(character.encode_utf8(&mut [0; 4])).to_string();
                self.malformed(&format!("expected {expected}, found {found}"))
            }
            None => self.malformed(&format!("expected {expected}, found the end")),
        }
    }

    fn malformed(&mut self, reason: &str) -> ReadError {
        let position = self.position();
        ReadError::new(ReadErrorKind::Syntax, format!("malformed JSON: {reason}"))
            .with_position(Some(position))
    }
}

/// Whether `text` is a JSON number, and if so, whether it is one without fraction and exponent.
fn number_form(text: &str) -> Option<bool> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    let fits = digits(whole) && !leading_zero && fraction.is_none_or(digits) && exponent.is_none_or(digits);
    fits.then_some(fraction.is_none() && exponent.is_none())
}
