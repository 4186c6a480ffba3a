//! Cutting a stream of bytes into documents, so that only one is in memory at a time.

use core::ops::Range;
use core::str;
use std::io::Read;

use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::position::Position;
use crate::yaml;

/// The notation of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// By its name.
    Json,
    /// YAML, or JSON if it looks like it: the name says `.yaml`, or nothing.
    Guess,
}

/// One document, not parsed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    /// Where the text begins in its file.
    pub(crate) start: Position,
    pub(crate) notation: Notation,
}

/// How a document is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Yaml,
    Json,
    /// It looks like JSON, but its file does not say so: as JSON, else as YAML.
    LooksLikeJson,
}

/// Cuts what a reader gives into documents.
#[derive(Debug)]
pub(crate) struct Source<R> {
    reader: R,
    limit: usize,
    line_limit: usize,
    format: Format,
    /// Bytes that were read; those before `next` belong to documents that were given out.
    buffer: Vec<u8>,
    next: usize,
    is_at_end: bool,
    /// Nothing more can be cut: the end was reached, or an error that leaves no safe place to go on.
    is_done: bool,
    at_start: bool,
    /// The last document was JSON in a file that may go on with YAML.
    after_json: bool,
    /// The place of `next` in the file.
    position: Position,
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(reader: R, format: Format, limits: &Limits) -> Self {
        Self {
            reader,
            limit: limits.document_bytes() as usize,
            line_limit: limits.line_bytes() as usize,
            format,
            buffer: Vec::new(),
            next: 0,
            is_at_end: false,
            is_done: false,
            at_start: true,
            after_json: false,
            position: Position::START,
            offset: 0,
        }
    }

    /// The next document. After an error there may be more of them.
    pub(crate) fn next_piece(&mut self) -> Option<Result<Piece<'_>, ReadError>> {
        if self.is_done {
            return None;
        }
        let cut = match self.cut() {
            Ok(Some(cut)) => cut,
            Ok(None) => {
                self.is_done = true;
                return None;
            }
            Err(error) => {
                self.is_done = true;
                return Some(Err(error));
            }
        };
        Some(self.take(&cut))
    }

    /// Where the next document ends, and how to read it. Bytes before its beginning are skipped already.
    fn cut(&mut self) -> Result<Option<Cut>, ReadError> {
        if self.at_start {
            self.at_start = false;
            self.check_start()?;
            if self.format == Format::Guess && self.looks_like_json()? {
                self.after_json = true;
            }
        }
        if self.format == Format::Json {
            self.skip_blanks()?;
            while self.is_marker(b"---")? || self.is_marker(b"...")? {
                self.skip(MARKER);
                self.skip_blanks()?;
            }
            return self.json_cut(Notation::Json);
        }
        if self.after_json {
            self.skip_blanks()?;
            if self.is_marker(b"---")? {
                self.skip_marker()?;
            }
            if self.looks_like_json()? {
                return self.json_cut(Notation::LooksLikeJson);
            }
            self.after_json = false;
        }
        // Looking for the end moves the beginning.
        let end = self.yaml_end()?;
        Ok(end.map(|end| Cut { range: self.next..end, notation: Notation::Yaml }))
    }

    fn json_cut(&mut self, notation: Notation) -> Result<Option<Cut>, ReadError> {
        let end = self.json_end()?;
        Ok(end.map(|end| Cut { range: self.next..end, notation }))
    }

    /// Gives out a document and goes on behind it.
    fn take(&mut self, cut: &Cut) -> Result<Piece<'_>, ReadError> {
        let cut = &Cut { range: self.skip_late_mark(cut)..cut.range.end, ..*cut };
        let bytes = self.buffer.get(cut.range.clone()).unwrap_or_default();
        let start = self.position;
        match str::from_utf8(bytes) {
            Ok(text) => {
                self.position = start.after(text);
                self.offset = self.offset.saturating_add(text.len() as u64);
                self.next = cut.range.end;
                Ok(Piece { text, start, notation: cut.notation })
            }
            Err(error) => {
                let valid = error.valid_up_to();
                let before =
                    bytes.get(..valid).and_then(|valid| str::from_utf8(valid).ok()).unwrap_or_default();
                self.is_done = true;
                let reason = format!("invalid UTF-8 at byte {}", self.offset.saturating_add(valid as u64));
                Err(ReadError::new(ReadErrorKind::Encoding, reason).with_position(Some(start.after(before))))
            }
        }
    }

    /// Where a document begins: behind a byte-order mark at the beginning of one of its lines, when nothing but
    /// markers, comments and blank lines comes before. Files that were put together have one in the middle, and each
    /// document may begin with one (YAML 1.2.2, section 9.1.1, l-document-prefix).
    fn skip_late_mark(&mut self, cut: &Cut) -> usize {
        let bytes = self.buffer.get(cut.range.clone()).unwrap_or_default();
        if cut.notation != Notation::Yaml || !bytes.contains(&MARK_LEAD) {
            return cut.range.start;
        }
        let mut line = 0;
        let mut begin = 0;
        loop {
            let rest = bytes.get(line..).unwrap_or_default();
            let text = match rest.strip_prefix(MARK) {
                Some(text) => {
                    begin = line.saturating_add(MARK.len());
                    text
                }
                None => rest,
            };
            let is_bare = match text.strip_prefix(b"---") {
                Some(behind) if begins_with_marker(text, b"---") => {
                    let end = behind.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    !is_content(behind.get(..end.unwrap_or(behind.len())).unwrap_or_default())
                }
                _ => {
                    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    let text = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
                    text.first() != Some(&b'%') && !is_content(text)
                }
            };
            let next = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            match next {
                Some(next) if is_bare => line = line.saturating_add(next).saturating_add(1),
                _ => break,
            }
        }
        // What is skipped is not looked at again, so it must be what it seems.
        let skipped = bytes.get(..begin).and_then(|skipped| str::from_utf8(skipped).ok());
        let is_sound = |text: &str| text.chars().all(|c| c == '\u{feff}' || yaml::is_allowed(c));
        if !skipped.is_some_and(is_sound) {
            return cut.range.start;
        }
        self.skip(begin);
        cut.range.start.saturating_add(begin)
    }

    /// Skips a byte-order mark; refuses UTF-16 and what is compressed.
    fn check_start(&mut self) -> Result<(), ReadError> {
        while self.buffer.len() < 3 && !self.is_at_end {
            self.fill()?;
        }
        match self.buffer.as_slice() {
            [0xef, 0xbb, 0xbf, ..] => {
                self.next = 3;
                self.offset = 3;
            }
            [0x1f, 0x8b, ..] => {
                let reason = "the file is compressed by gzip; unpack it first";
                return Err(self.error_here(ReadErrorKind::Encoding, reason));
            }
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                let reason = "the text is UTF-16; only UTF-8 is read";
                return Err(self.error_here(ReadErrorKind::Encoding, reason));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether what comes next, after white space, is `{` and then `"` or `}`, perhaps after `[`.
    fn looks_like_json(&mut self) -> Result<bool, ReadError> {
        self.looks_like_json_at(0)
    }

    fn looks_like_json_at(&mut self, mut ahead: usize) -> Result<bool, ReadError> {
        let mut first = self.visible_byte(&mut ahead)?;
        ahead += 1;
        if first == Some(b'[') {
            first = self.visible_byte(&mut ahead)?;
            ahead += 1;
        }
        Ok(first == Some(b'{') && matches!(self.visible_byte(&mut ahead)?, Some(b'"' | b'}')))
    }

    /// The first byte at `ahead` or later that is not white space; `ahead` moves there.
    fn visible_byte(&mut self, ahead: &mut usize) -> Result<Option<u8>, ReadError> {
        loop {
            match self.byte(*ahead)? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => {
                    *ahead += 1;
                    self.check_size(*ahead)?;
                }
                Some(byte) if byte == MARK_LEAD && self.is_mark(*ahead)? => *ahead += MARK.len(),
                other => return Ok(other),
            }
        }
    }

    /// Whether a byte-order mark stands `ahead` of here.
    fn is_mark(&mut self, ahead: usize) -> Result<bool, ReadError> {
        self.byte(ahead + MARK.len())?;
        Ok(self.buffer.get(self.next + ahead..).is_some_and(|rest| rest.starts_with(MARK)))
    }

    /// Skips white space, and byte-order marks in it.
    fn skip_blanks(&mut self) -> Result<(), ReadError> {
        loop {
            self.skip_white_space()?;
            if !self.is_mark(0)? {
                return Ok(());
            }
            self.skip(MARK.len());
        }
    }

    fn skip_white_space(&mut self) -> Result<(), ReadError> {
        loop {
            let rest = self.buffer.get(self.next..).unwrap_or_default();
            let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
            let is_all = blank == rest.len();
            // A `\r` and its `\n` must be counted together.
            let keep = usize::from(is_all && !self.is_at_end && rest.last() == Some(&b'\r'));
            self.skip(blank - keep);
            if !is_all || self.is_at_end {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Skips `count` bytes of white space, markers and comments. A byte-order mark takes no column.
    fn skip(&mut self, count: usize) {
        let end = self.next.saturating_add(count);
        let text = self.buffer.get(self.next..end).and_then(|bytes| str::from_utf8(bytes).ok());
        for part in text.unwrap_or_default().split('\u{feff}') {
            self.position = self.position.after(part);
        }
        self.offset = self.offset.saturating_add(count as u64);
        self.next = end;
    }

    /// Whether a document marker, `---` or `...`, stands here at the beginning of a line.
    fn is_marker(&mut self, marker: &[u8]) -> Result<bool, ReadError> {
        if self.position.column() != 1 {
            return Ok(false);
        }
        self.byte(marker.len())?;
        Ok(begins_with_marker(self.buffer.get(self.next..).unwrap_or_default(), marker))
    }

    /// Skips a marker `---` when nothing but white space and JSON follows it.
    fn skip_marker(&mut self) -> Result<(), ReadError> {
        if self.looks_like_json_at(MARKER)? {
            let mut ahead = MARKER;
            self.visible_byte(&mut ahead)?;
            self.skip(ahead);
        }
        Ok(())
    }

    /// The end of the JSON value that begins here: where its brackets are balanced.
    fn json_end(&mut self) -> Result<Option<usize>, ReadError> {
        match self.byte(0)? {
            None => return Ok(None),
            Some(b'{' | b'[') => {}
            Some(_) => {
                let reason = "malformed JSON: expected an object";
                return Err(self.error_here(ReadErrorKind::Syntax, reason));
            }
        }
        let mut depth = 0_u64;
        let mut in_string = false;
        let mut is_escaped = false;
        let mut ahead = 0;
        loop {
            let rest = self.buffer.get(self.next + ahead..).unwrap_or_default();
            for (index, byte) in rest.iter().enumerate() {
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'"' => in_string = !in_string,
                    b'\\' if in_string => is_escaped = true,
                    b'{' | b'[' if !in_string => depth += 1,
                    b'}' | b']' if !in_string => {
                        depth -= 1;
                        if depth == 0 {
                            return Ok(Some(self.next + ahead + index + 1));
                        }
                    }
                    _ => {}
                }
            }
            ahead += rest.len();
            self.check_size(ahead)?;
            if self.is_at_end {
                // Not balanced: the parser says where and why.
                return Ok(Some(self.next + ahead));
            }
            self.fill()?;
        }
    }

    /// The end of the YAML document that begins here: before the next `---`, or after the next `...`, at the beginning
    /// of a line. Both end a document wherever they stand, even in a block scalar; in a quoted scalar they are an error
    /// (YAML 1.2.2, section 9.1.2, c-forbidden).
    fn yaml_end(&mut self) -> Result<Option<usize>, ReadError> {
        let mut line = 0;
        let mut has_content = false;
        while let Some(end) = self.line_end(line)? {
            self.check_line(line, end)?;
            let text = self.buffer.get(self.next + line..self.next + end).unwrap_or_default();
            let text = text.strip_prefix(MARK).unwrap_or(text);
            if text.first() == Some(&b'-') && begins_with_marker(text, b"---") {
                if has_content {
                    return Ok(Some(self.next + line));
                }
                has_content = true;
            } else if text.first() == Some(&b'.') && begins_with_marker(text, b"...") {
                return Ok(Some(self.next + end));
            } else if !has_content {
                has_content = is_content(text);
            }
            line = end;
            self.check_size(line)?;
        }
        Ok((line > 0).then_some(self.next + line))
    }

    /// Where the line that begins at `line` ends, its line break included; `None` at the end of the input.
    fn line_end(&mut self, line: usize) -> Result<Option<usize>, ReadError> {
        let mut seen = line;
        loop {
            let rest = self.buffer.get(self.next + seen..).unwrap_or_default();
            let found = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            match found.map(|index| (seen + index, rest.get(index), rest.get(index + 1))) {
                Some((index, Some(b'\n'), _)) => return Ok(Some(index + 1)),
                Some((index, _, Some(b'\n'))) => return Ok(Some(index + 2)),
                Some((index, _, Some(_))) => return Ok(Some(index + 1)),
                // A `\r` at the end of what was read: a `\n` may follow.
                Some((index, _, None)) => seen = index,
                None => seen += rest.len(),
            }
            self.check_size(seen)?;
            self.check_line(line, seen)?;
            if self.is_at_end {
                let all = self.buffer.len() - self.next;
                return Ok((all > line).then_some(all));
            }
            self.fill()?;
        }
    }

    /// The byte `ahead` of the next one.
    fn byte(&mut self, ahead: usize) -> Result<Option<u8>, ReadError> {
        while self.buffer.len() <= self.next + ahead && !self.is_at_end {
            self.fill()?;
        }
        Ok(self.buffer.get(self.next + ahead).copied())
    }

    /// Reads more, and forgets what was given out.
    fn fill(&mut self) -> Result<(), ReadError> {
        self.buffer.drain(..self.next);
        self.next = 0;
        let before = self.buffer.len();
        match self.reader.by_ref().take(READ).read_to_end(&mut self.buffer) {
            Ok(_) => {
                self.is_at_end = self.buffer.len() == before;
                Ok(())
            }
            Err(error) => Err(ReadError::of_system(error)),
        }
    }

    fn check_size(&self, bytes: usize) -> Result<(), ReadError> {
        if bytes <= self.limit {
            return Ok(());
        }
        let reason = format!("the document that begins here is longer than {} bytes", self.limit);
        Err(self.error_here(ReadErrorKind::DocumentSize, &reason))
    }

    /// A line of YAML from `line` to `end`, both counted from the beginning of the document.
    fn check_line(&self, line: usize, end: usize) -> Result<(), ReadError> {
        if end.saturating_sub(line) <= self.line_limit {
            return Ok(());
        }
        let before = self.buffer.get(self.next..self.next + line).unwrap_or_default();
        let place = str::from_utf8(before).map_or(self.position, |text| self.position.after(text));
        let reason = format!("the line is longer than {} bytes", self.line_limit);
        Err(ReadError::new(ReadErrorKind::LineSize, reason).with_position(Some(place)))
    }

    fn error_here(&self, kind: ReadErrorKind, reason: &str) -> ReadError {
        ReadError::new(kind, reason).with_position(Some(self.position))
    }
}

#[derive(Debug)]
struct Cut {
    range: Range<usize>,
    notation: Notation,
}

/// Whether a line begins with the marker and then ends or goes on with white space.
fn begins_with_marker(line: &[u8], marker: &[u8]) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b'\t' | b'\n' | b'\r')))
}

/// Whether a line before any content is more than white space, a comment or a directive.
fn is_content(line: &[u8]) -> bool {
    if line.first() == Some(&b'%') {
        return false;
    }
    let first = line.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    !matches!(first, None | Some(b'#'))
}

/// The byte-order mark, U+FEFF.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Its first byte, which few other characters begin with.
const MARK_LEAD: u8 = 0xef;

/// The length of `---` and of `...`.
const MARKER: usize = 3;

/// Bytes read at a time; few in tests, so that the seams between two reads are everywhere.
const READ: u64 = if cfg!(test) { 61 } else { 64 << 10 };
