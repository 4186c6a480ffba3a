//! The text form: printer and parser.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write as _};

use crate::ir::Id;
use crate::ir::form::{Kind, Layout, ReadError, Sink, Source, Tagged};
use crate::label::Name;
use crate::net::Cidr;
use crate::quote::quoted;

/// Writes words with one blank between them, and breaks lines where lists say so.
pub(super) struct Printer<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    /// What must come before the next word.
    gap: Gap,
    /// The layouts of the open lists. Lists nest as deep as expressions.
    open: alloc::vec::Vec<Layout>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    None,
    Blank,
    Line,
}

impl<'a, 'f> Printer<'a, 'f> {
    pub(super) const fn new(to: &'a mut fmt::Formatter<'f>) -> Self {
        Self { to, gap: Gap::None, open: alloc::vec::Vec::new() }
    }

    fn gap(&mut self) -> fmt::Result {
        match self.gap {
            Gap::None => Ok(()),
            Gap::Blank => self.to.write_str(" "),
            Gap::Line => {
                let depth = self.open.iter().filter(|layout| **layout == Layout::Lines).count();
                self.to.write_str("\n")?;
                (0..depth).try_for_each(|_| self.to.write_str("  "))
            }
        }
    }

    fn word(&mut self, word: impl fmt::Display) -> fmt::Result {
        self.gap()?;
        self.gap = Gap::Blank;
        write!(self.to, "{word}")
    }

    /// Between two sections, and after the last.
    fn section(&mut self) -> fmt::Result {
        if self.open.is_empty() {
            self.gap = Gap::None;
            return self.to.write_str("\n");
        }
        Ok(())
    }
}

impl Sink for Printer<'_, '_> {
    fn label(&mut self, word: &'static str) -> fmt::Result {
        self.word(word)
    }

    fn choice(&mut self, words: &'static [&'static str], index: usize) -> fmt::Result {
        self.word(words.get(index).ok_or(fmt::Error)?)
    }

    fn number(&mut self, number: u64) -> fmt::Result {
        self.word(number)?;
        // The two numbers outside of lists end the lines of version and generation.
        self.section()
    }

    fn id(&mut self, id: impl Id) -> fmt::Result {
        self.word(id)
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        self.gap()?;
        self.gap = Gap::Blank;
        self.to.write_char('"')?;
        for c in name.chars() {
            match c {
                '"' | '\\' => {
                    self.to.write_char('\\')?;
                    self.to.write_char(c)?;
                }
                c if c.is_control() => write!(self.to, "\\u{{{:x}}}", u32::from(c))?,
                c => self.to.write_char(c)?,
            }
        }
        self.to.write_char('"')
    }

    fn net(&mut self, net: &Cidr) -> fmt::Result {
        self.word(net)
    }

    fn present(&mut self, present: bool) -> fmt::Result {
        if present { Ok(()) } else { self.word("-") }
    }

    fn open(&mut self, _: usize, layout: Layout) -> fmt::Result {
        self.word("[")?;
        self.gap = Gap::None;
        self.open.push(layout);
        Ok(())
    }

    fn item(&mut self) -> fmt::Result {
        if self.open.last() == Some(&Layout::Lines) {
            self.gap = Gap::Line;
        }
        Ok(())
    }

    fn close(&mut self) -> fmt::Result {
        let filled = self.gap != Gap::None;
        if self.open.pop() == Some(Layout::Lines) && filled {
            self.gap = Gap::Line;
            self.gap()?;
        }
        self.gap = Gap::Blank;
        self.to.write_str("]")?;
        self.section()
    }
}

/// Reads words from left to right.
pub(super) struct Parser<'a> {
    text: &'a str,
    /// Where the rest begins, in bytes.
    at: usize,
}

impl<'a> Parser<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Nothing but blanks may be left.
    pub(super) fn end(&mut self) -> Result<(), ReadError> {
        self.skip_blanks();
        if self.rest().is_empty() { Ok(()) } else { Err(self.fail("expected the end of the text")) }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.advance(rest.len().saturating_sub(rest.trim_start_matches([' ', '\n']).len()));
    }

    /// The next word without taking it: up to a blank, a bracket or a quote.
    fn peek(&mut self) -> &'a str {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.find([' ', '\n', '[', ']', '"']).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    fn expected(&mut self, what: &str) -> ReadError {
        let word = self.peek();
        let rest = self.rest();
        let found = match rest.chars().next() {
            Some(mark) if word.is_empty() => rest.get(..mark.len_utf8()),
            Some(_) => Some(word),
            None => None,
        };
        match found {
            Some(found) => self.fail(&format!("expected {what}, found {}", quoted(found))),
            None => self.fail(&format!("expected {what}, found the end")),
        }
    }

    fn take(&mut self, mark: char) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(mark);
        if found {
            self.advance(mark.len_utf8());
        }
        found
    }

    /// A decimal number as the printer writes it: digits only, no leading zero.
    fn decimal(digits: &str) -> Option<u64> {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let leading = digits.len() > 1 && digits.starts_with('0');
        if plain && !leading { digits.parse().ok() } else { None }
    }

    fn escape(&mut self) -> Result<char, ReadError> {
        let rest = self.rest();
        if let Some(plain) = rest.chars().next().filter(|c| matches!(c, '"' | '\\')) {
            self.advance(1);
            return Ok(plain);
        }
        let digits = rest.strip_prefix("u{").and_then(|rest| rest.split('}').next()).filter(|d| d.len() <= 6);
        let read = digits.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?));
        match (digits, read) {
            (Some(digits), Some(read)) => {
                self.advance(digits.len().saturating_add(3));
                Ok(read)
            }
            _ => Err(self.fail("unknown escape, only `\\\"`, `\\\\` and `\\u{...}`")),
        }
    }
}

impl Source for Parser<'_> {
    type List = ();

    fn label(&mut self, word: &'static str) -> Result<(), ReadError> {
        if self.peek() != word {
            return Err(self.expected(&format!("`{word}`")));
        }
        self.advance(word.len());
        Ok(())
    }

    fn choice(&mut self, words: &'static [&'static str]) -> Result<usize, ReadError> {
        let word = self.peek();
        let Some(index) = words.iter().position(|known| *known == word) else {
            return Err(self.expected(&format!("one of `{}`", words.join("`, `"))));
        };
        self.advance(word.len());
        Ok(index)
    }

    fn number(&mut self, most: u64) -> Result<u64, ReadError> {
        let word = self.peek();
        match Self::decimal(word).filter(|number| *number <= most) {
            Some(number) => {
                self.advance(word.len());
                Ok(number)
            }
            None => Err(self.expected(&format!("a number up to {most}"))),
        }
    }

    fn id<I: Tagged>(&mut self) -> Result<I, ReadError> {
        let word = self.peek();
        let number = word.strip_prefix(I::TAG).and_then(Self::decimal).and_then(|n| u32::try_from(n).ok());
        match number {
            Some(number) => {
                self.advance(word.len());
                Ok(I::new(number))
            }
            None => Err(self.expected(&format!("an id that starts with `{}`", I::TAG))),
        }
    }

    fn name(&mut self) -> Result<Name, ReadError> {
        if !self.take('"') {
            return Err(self.expected("a text in quotes"));
        }
        let mut name = String::new();
        loop {
            let Some(next) = self.rest().chars().next() else {
                return Err(self.fail("the text in quotes has no end"));
            };
            self.advance(next.len_utf8());
            match next {
                '"' => return Ok(Name::from(name)),
                '\\' => name.push(self.escape()?),
                next => name.push(next),
            }
        }
    }

    fn net(&mut self) -> Result<Cidr, ReadError> {
        let word = self.peek();
        // Only what the printer writes: no host bits, no other spelling.
        let read = word.parse::<Cidr>().ok().filter(|net| format!("{net}") == word);
        match read {
            Some(net) => {
                self.advance(word.len());
                Ok(net)
            }
            None => Err(self.expected("a network, as in `10.0.0.0/8`")),
        }
    }

    fn present(&mut self) -> Result<bool, ReadError> {
        let absent = self.peek() == "-";
        if absent {
            self.advance(1);
        }
        Ok(!absent)
    }

    fn open(&mut self) -> Result<(), ReadError> {
        if self.take('[') { Ok(()) } else { Err(self.expected("`[`")) }
    }

    fn more(&mut self, (): &mut ()) -> Result<bool, ReadError> {
        Ok(!self.take(']'))
    }

    fn fail(&self, reason: &str) -> ReadError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.matches('\n').count().saturating_add(1);
        let start = before.rfind('\n').map_or(0, |end| end.saturating_add(1));
        let column = before.get(start..).unwrap_or_default().chars().count().saturating_add(1);
        ReadError(Kind::Text { line, column, reason: reason.into() })
    }
}
