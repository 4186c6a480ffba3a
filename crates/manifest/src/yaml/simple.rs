//! A quick path for the YAML that most manifests are written in.
//!
//! It reads block mappings and lists of one-line scalars in plain ASCII, and nothing else: at the first line that could
//! be anything more, it gives up and the full parser reads the document from its beginning. So it decides nothing by
//! itself: what it takes, the full parser reads in exactly the same way (tested by comparing whole trees, positions
//! included), only in a fifth of the time. A cluster dump of a hundred thousand objects is why it exists.

use crate::limits::Limits;
use crate::position::Position;
use crate::scalar::{self, Scalar};
use crate::tree::build::Builder;

/// A builder with the whole document in it, or `None` for a document that needs the full parser.
pub(super) fn read<'l>(text: &str, start: Position, limits: &'l Limits) -> Option<Builder<'l>> {
    if start.column() != 1 || !text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return None;
    }
    let mut reader = Reader { builder: Builder::new(limits, text.len()), frames: Vec::new(), pending: None };
    let mut number = start.line();
    let mut is_first = true;
    for line in text.split_terminator('\n') {
        let content = line.trim_start_matches(' ');
        if !content.is_empty() && !content.starts_with('#') {
            if is_first && line == "---" {
                // The marker of this document.
            } else {
                let indent = u32::try_from(line.len() - content.len()).ok()?;
                reader.line(content, Place { line: number, indent })?;
            }
            is_first = false;
        }
        number = number.checked_add(1)?;
    }
    if reader.frames.is_empty() {
        return None;
    }
    while !reader.frames.is_empty() {
        reader.close_one()?;
    }
    Some(reader.builder)
}

struct Reader<'l> {
    builder: Builder<'l>,
    frames: Vec<Frame>,
    /// Where the value of a key would stand that has none on its line.
    pending: Option<Position>,
}

/// An open list or mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: Kind,
    indent: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mapping,
    Sequence,
    /// A list that is as far to the left as the mapping it is in.
    IndentlessSequence,
}

/// Where the text at hand stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    line: u32,
    /// Columns before it.
    indent: u32,
}

impl Place {
    fn position(self) -> Position {
        Position::new(self.line, self.indent.saturating_add(1))
    }

    fn right(self, columns: usize) -> Option<Self> {
        Some(Self { line: self.line, indent: self.indent.checked_add(u32::try_from(columns).ok()?)? })
    }
}

impl Reader<'_> {
    /// Reads one line without its indentation.
    fn line(&mut self, content: &str, place: Place) -> Option<()> {
        if content.starts_with("- ") {
            self.dash(content, place)
        } else {
            let key = Key::find(content)?;
            self.open(Kind::Mapping, place, place.position())?;
            self.entry(content, key, place)
        }
    }

    /// Reads `- value` or `- key: value`.
    fn dash(&mut self, content: &str, place: Place) -> Option<()> {
        let inside = place.right(2)?;
        // The full parser has an indentless list begin at its first item.
        let is_indentless = self.pending.is_some() && self.is_top(Kind::Mapping, place.indent);
        let position = if is_indentless { inside.position() } else { place.position() };
        self.open(Kind::Sequence, place, position)?;
        let content = content.get(2..)?;
        match Key::find(content) {
            Some(key) => {
                self.frames.push(Frame { kind: Kind::Mapping, indent: inside.indent });
                self.builder.start_mapping(inside.position(), 0).ok()?;
                self.entry(content, key, inside)
            }
            None => self.value(content, inside),
        }
    }

    /// Makes the list or mapping that the line at `place` belongs to the innermost one; begins it if needed.
    fn open(&mut self, kind: Kind, place: Place, position: Position) -> Option<()> {
        let indent = place.indent;
        self.close_to(indent)?;
        let Some(top) = self.frames.last().copied() else {
            // The document itself, at the very left.
            return if indent == 0 { self.begin(kind, indent, position) } else { None };
        };
        if top.indent < indent {
            // Deeper than all that is open: the value of a key, or the second line of a scalar.
            self.pending.take()?;
            return self.begin(kind, indent, position);
        }
        match (kind, top.kind) {
            (Kind::Mapping, Kind::Mapping) => self.absent(),
            (Kind::Mapping, Kind::IndentlessSequence) => {
                self.close_one()?;
                // What is left is the mapping around.
                self.is_top(Kind::Mapping, indent).then_some(())
            }
            (Kind::Sequence, Kind::Sequence | Kind::IndentlessSequence) => Some(()),
            (Kind::Sequence, Kind::Mapping) => {
                self.pending.take()?;
                self.begin(Kind::IndentlessSequence, indent, position)
            }
            _ => None,
        }
    }

    fn begin(&mut self, kind: Kind, indent: u32, position: Position) -> Option<()> {
        self.frames.push(Frame { kind, indent });
        match kind {
            Kind::Mapping => self.builder.start_mapping(position, 0).ok(),
            Kind::Sequence | Kind::IndentlessSequence => self.builder.start_sequence(position, 0).ok(),
        }
    }

    /// Closes all that is further to the right than `indent`. What is left must begin exactly there, or be about to
    /// get a value.
    fn close_to(&mut self, indent: u32) -> Option<()> {
        while let Some(top) = self.frames.last() {
            if top.indent < indent {
                return self.pending.is_some().then_some(());
            }
            if top.indent == indent {
                return Some(());
            }
            self.close_one()?;
        }
        Some(())
    }

    fn close_one(&mut self) -> Option<()> {
        self.absent()?;
        self.frames.pop()?;
        self.builder.end().ok()
    }

    /// Gives the last key the value null if it has none yet.
    fn absent(&mut self) -> Option<()> {
        match self.pending.take() {
            Some(position) => self.builder.scalar(Scalar::Null, "", position, 0).ok(),
            None => Some(()),
        }
    }

    fn is_top(&self, kind: Kind, indent: u32) -> bool {
        self.frames.last() == Some(&Frame { kind, indent })
    }

    /// Reads `key: value` or `key:`.
    fn entry(&mut self, content: &str, key: Key, place: Place) -> Option<()> {
        let text = content.get(..key.length)?;
        self.builder.scalar(scalar::resolve(text), text, place.position(), 0).ok()?;
        let rest = content.get(key.length + 1..)?;
        let value = rest.trim_start_matches(' ');
        if value.is_empty() {
            self.pending = Some(place.right(key.length)?.position());
            return Some(());
        }
        self.value(value, place.right(content.len() - value.len())?)
    }

    /// Reads a value that ends with its line.
    fn value(&mut self, text: &str, place: Place) -> Option<()> {
        let position = place.position();
        match text {
            "{}" => {
                self.builder.start_mapping(position, 0).ok()?;
                return self.builder.end().ok();
            }
            "[]" => {
                self.builder.start_sequence(position, 0).ok()?;
                return self.builder.end().ok();
            }
            _ => {}
        }
        if let Some(quoted) = quoted(text) {
            return self.builder.scalar(Scalar::String, quoted, position, 0).ok();
        }
        is_plain(text).then_some(())?;
        self.builder.scalar(scalar::resolve(text), text, position, 0).ok()
    }
}

/// A key at the beginning of a text.
#[derive(Clone, Copy, Debug)]
struct Key {
    length: usize,
}

impl Key {
    /// The plain key that `content` begins with, up to a `:` that ends the line or is followed by a space.
    fn find(content: &str) -> Option<Self> {
        let bytes = content.as_bytes();
        let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-');
        let length = bytes.iter().take_while(|byte| is_key(byte)).count();
        let is_sound = bytes.first()?.is_ascii_alphanumeric()
            && length <= LONGEST_KEY
            && bytes.get(length) == Some(&b':')
            && matches!(bytes.get(length + 1), None | Some(b' '));
        is_sound.then_some(Self { length })
    }
}

/// What is inside a quoted scalar that holds neither quotes nor escapes.
fn quoted(text: &str) -> Option<&str> {
    if let Some(inside) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return (!inside.contains(['"', '\\'])).then_some(inside);
    }
    let inside = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))?;
    (!inside.contains('\'')).then_some(inside)
}

/// Whether `text` is a plain scalar beyond doubt.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let first = match bytes {
        [b'-', second, ..] => second.is_ascii_digit(),
        [first, ..] => first.is_ascii_alphanumeric() || matches!(first, b'_' | b'/' | b'~'),
        [] => false,
    };
    let mut all = first && bytes.last() != Some(&b' ');
    for (index, byte) in bytes.iter().enumerate() {
        all &= match byte {
            b':' => !matches!(bytes.get(index + 1), None | Some(b' ')),
            b'_' | b'.' | b'/' | b'+' | b'=' | b'@' | b'~' | b'-' | b',' | b'(' | b')' | b'$' | b';'
            | b'*' | b' ' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
    }
    all
}

/// Longer keys have a limit of their own in YAML.
const LONGEST_KEY: usize = 256;

#[cfg(test)]
mod tests;
