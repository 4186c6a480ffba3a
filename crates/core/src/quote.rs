//! User text inside one-line messages and tables.
//!
//! Names, paths and fields come from files that nobody has checked. Printed as they are, a line break in one forges a
//! second message, a control sequence redraws a terminal, and a mark of writing direction shows another name than the
//! one that was read. Every message of this project goes through here.
//!
//! ```
//! use portcullis_core::quote::{escaped, quoted};
//!
//! assert_eq!(quoted("a\nb\u{202e}").to_string(), "`a\\nb\\u{202e}`");
//! assert_eq!(escaped("\u{1b}[31mred").to_string(), "\\u{1b}[31mred");
//! ```

use core::fmt::{self, Write as _};

/// `text` in backticks for a message: escaped as by [`escaped`], cut with `…` after [`LIMIT`] characters.
#[must_use]
pub const fn quoted(text: &str) -> Quoted<'_> {
    Quoted(escaped(text).at_most(LIMIT))
}

/// `text` on one line: every character that a reader would not see as itself is an escape such as `\n` or `\u{202e}`.
///
/// Those are control characters, white space other than a space, marks of zero width or writing direction, marks that
/// combine with the character before, and code points without a meaning. Quotes and `\` stay, so that escaping a text
/// twice changes nothing more.
#[must_use]
pub const fn escaped(text: &str) -> Escaped<'_> {
    Escaped { text, limit: usize::MAX }
}

/// A text that prints in backticks, see [`quoted`].
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(Escaped<'a>);

/// A text that prints on one line, see [`escaped`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    text: &'a str,
    limit: usize,
}

impl Escaped<'_> {
    /// The same, cut with `…` after `limit` characters of the text.
    #[must_use]
    pub const fn at_most(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, c) in self.text.chars().enumerate() {
            if count == self.limit {
                return f.write_char('…');
            }
            match c {
                '"' | '\'' | '\\' => f.write_char(c)?,
                _ => c.escape_debug().try_for_each(|c| f.write_char(c))?,
            }
        }
        Ok(())
    }
}

/// Characters of a piece of user text that a message shows.
pub const LIMIT: usize = 100;

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn a_text_stays_on_one_line_and_shows_what_it_holds() {
        for (text, shown) in [
            ("", ""),
            ("shop/web", "shop/web"),
            ("say \"it's\" \\ `é`", "say \"it's\" \\ `é`"),
            ("a\r\n\tb\0", "a\\r\\n\\tb\\0"),
            ("\u{1b}[31m\u{7f}\u{9b}", "\\u{1b}[31m\\u{7f}\\u{9b}"),
            // What changes the writing direction, takes no room, or is a line break of Unicode.
            ("\u{202e}\u{2066}\u{61c}\u{200f}", "\\u{202e}\\u{2066}\\u{61c}\\u{200f}"),
            ("\u{200b}\u{200d}\u{ad}\u{feff}\u{2028}", "\\u{200b}\\u{200d}\\u{ad}\\u{feff}\\u{2028}"),
            ("\u{a0}\u{301}\u{e0041}\u{e000}", "\\u{a0}\\u{301}\\u{e0041}\\u{e000}"),
        ] {
            let once = escaped(text).to_string();
            assert_eq!(once, shown, "{text:?}");
            assert_eq!(escaped(&once).to_string(), once, "escaped twice");
            assert_eq!(quoted(text).to_string(), alloc::format!("`{shown}`"));
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let long = "é".repeat(LIMIT);
        assert_eq!(quoted(&long).to_string(), alloc::format!("`{long}`"));
        assert_eq!(quoted(&alloc::format!("{long}x")).to_string(), alloc::format!("`{long}…`"));
        assert_eq!(escaped("abc").at_most(2).to_string(), "ab…");
        assert_eq!(escaped(&long.repeat(9)).to_string(), long.repeat(9));
    }
}
