//! Where something stands in its file.

use core::fmt;

/// A place in a file: line and column, both counted from 1. Columns count characters, not bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    line: u32,
    column: u32,
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };

    /// A place by line and column, both counted from 1.
    #[must_use]
    pub const fn new(line: u32, column: u32) -> Self {
        Self { line, column }
    }

    /// The line, counted from 1.
    #[must_use]
    pub const fn line(self) -> u32 {
        self.line
    }

    /// The column in characters, counted from 1.
    #[must_use]
    pub const fn column(self) -> u32 {
        self.column
    }

    /// The place right after `text`, when `text` begins here.
    ///
    /// `\n`, `\r` and `\r\n` end a line, as in YAML.
    pub(crate) fn after(self, text: &str) -> Self {
        let mut place = self;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\r' if characters.peek() == Some(&'\n') => {}
                '\n' | '\r' => {
                    place.line = place.line.saturating_add(1);
                    place.column = 1;
                }
                _ => place.column = place.column.saturating_add(1),
            }
        }
        place
    }
}

/// `line:column`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_every_kind_of_line_break() {
        assert_eq!(Position::START.after("ab"), Position::new(1, 3));
        assert_eq!(Position::START.after("a\nb\r\nc\rd"), Position::new(4, 2));
        assert_eq!(Position::new(7, 3).after("é"), Position::new(7, 4));
        assert_eq!(Position::new(7, 3).to_string(), "7:3");
    }
}
