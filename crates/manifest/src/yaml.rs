//! YAML text to a tree.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Tag};
use portcullis_core::quote::quoted;

use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::position::Position;
use crate::scalar::{self, Scalar};
use crate::tree::Tree;
use crate::tree::build::Builder;

mod simple;

/// Parses the one document in `text`, which begins at `start` in its file; `None` when there is none.
pub(crate) fn parse(text: &str, start: Position, limits: &Limits) -> Result<Option<Tree>, ReadError> {
    match simple::read(text, start, limits) {
        Some(builder) => Ok(Some(builder.finish())),
        None => parse_any(text, start, limits),
    }
}

fn parse_any(text: &str, start: Position, limits: &Limits) -> Result<Option<Tree>, ReadError> {
    check_characters(text, start)?;
    let mut builder = Builder::new(limits, text.len());
    match build(text, start, limits, &mut builder) {
        Ok(true) => Ok(Some(builder.finish())),
        Ok(false) => Ok(None),
        Err(error) => Err(builder.explain(error)),
    }
}

fn build(text: &str, start: Position, limits: &Limits, builder: &mut Builder<'_>) -> Result<bool, ReadError> {
    let mut found = false;
    let depth = limits.depth() as usize;
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: depth,
        block_nesting_limit: depth,
        block_scalar_eof_without_line_feed: true,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| {
            let position = place(start, error.marker().line(), error.marker().col());
            match error.kind() {
                ErrorKind::RecursionLimitExceeded => builder.depth_error(position),
                _ => ReadError::new(ReadErrorKind::Syntax, format!("malformed YAML: {}", error.info()))
                    .with_position(Some(position)),
            }
        })?;
        let position = place(start, span.start.line(), span.start.col());
        match event {
            Event::DocumentStart(..) if found => {
                // The caller cuts at document markers, so this is text that belongs to no document.
                let reason = "malformed YAML: a second document without a marker `---`";
                return Err(ReadError::new(ReadErrorKind::Syntax, reason).with_position(Some(position)));
            }
            Event::DocumentStart(..) => found = true,
            Event::Scalar(value, style, anchor, tag) => {
                // The parser gives an absent value as a plain `~` without extent.
                let is_absent = style == ScalarStyle::Plain && span.start.index() == span.end.index();
                let value = if is_absent { "" } else { value.as_ref() };
                let kind = resolve(builder, value, style, tag.as_deref(), position);
                builder.scalar(kind, value, position, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(builder, tag.as_deref(), "seq", position);
                builder.start_sequence(position, anchor)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(builder, tag.as_deref(), "map", position);
                builder.start_mapping(position, anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end()?,
            Event::Alias(anchor) => builder.alias(anchor, position)?,
            // Markers without content. Comments, anchor names and unresolved aliases are not asked for.
            _ => {}
        }
    }
    Ok(found)
}

/// The type of a scalar: by its tag, else by its style, else by its text.
fn resolve(
    builder: &mut Builder<'_>,
    value: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    position: Position,
) -> Scalar {
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { scalar::resolve(value) } else { Scalar::String };
    };
    if is_non_specific(tag) {
        return Scalar::String;
    }
    let found = scalar::resolve(value);
    let expected = match tag.core_suffix() {
        Some("str") => return Scalar::String,
        Some("null") => found == Scalar::Null,
        Some("bool") => matches!(found, Scalar::Bool(_)),
        Some("int") => found == Scalar::Int,
        Some("float") => match found {
            Scalar::Int => return Scalar::Float,
            found => found == Scalar::Float,
        },
        _ => {
            refuse_tag(builder, tag, position);
            return Scalar::String;
        }
    };
    if !expected {
        let reason = format!("{} does not fit its tag {}", quoted(value), quoted(&tag.original()));
        builder.refuse(ReadErrorKind::Object, position, reason);
    }
    found
}

fn check_tag(builder: &mut Builder<'_>, tag: Option<&Tag>, expected: &str, position: Position) {
    if let Some(tag) = tag
        && tag.core_suffix() != Some(expected)
        && !is_non_specific(tag)
    {
        refuse_tag(builder, tag, position);
    }
}

/// Other tags ask for a program of their own to read the value: what it makes of it cannot be known here.
fn refuse_tag(builder: &mut Builder<'_>, tag: &Tag, position: Position) {
    builder.refuse(
        ReadErrorKind::Object,
        position,
        format!("the tag {} is not supported", quoted(&tag.original())),
    );
}

/// The tag `!`, which only says that the value is not to be guessed from its text.
fn is_non_specific(tag: &Tag) -> bool {
    tag.handle().is_empty() && tag.suffix() == "!"
}

/// Refuses what YAML 1.1 does not allow in a file, and the characters that only YAML 1.1 takes for line breaks: a
/// comment or a text that ends elsewhere for the server than for us would be another policy.
/// Source: goyaml.v2/readerc.go (characters), goyaml.v2/yamlprivateh.go (breaks).
fn check_characters(text: &str, start: Position) -> Result<(), ReadError> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t');
    if text.bytes().all(is_plain) {
        return Ok(());
    }
    for (offset, character) in text.char_indices() {
        if !is_allowed(character) {
            let position = start.after(text.get(..offset).unwrap_or_default());
            let reason = format!(
                "the character U+{:04X} is not allowed; write it as an escape in double quotes",
                u32::from(character)
            );
            return Err(ReadError::new(ReadErrorKind::Encoding, reason).with_position(Some(position)));
        }
    }
    Ok(())
}

/// Whether YAML 1.1 allows the character in a file, and all readers take it for the same.
pub(crate) fn is_allowed(character: char) -> bool {
    match character {
        '\n' | '\r' | '\t' | ' '..='~' => true,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => character >= '\u{a0}',
    }
}

/// A parser's place (line from 1, column from 0, in the document) as a place in the file.
fn place(start: Position, line: usize, column: usize) -> Position {
    let line = u32::try_from(line).unwrap_or(u32::MAX).max(1) - 1;
    let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
    if line == 0 {
        return Position::new(start.line(), start.column().saturating_add(column - 1));
    }
    Position::new(start.line().saturating_add(line), column)
}
