//! User text in messages.

use core::fmt;

/// `text` in backticks for a message: on one line, cut when long, nothing in it invisible.
pub(super) fn quoted(text: &str) -> Quoted<'_> {
    Quoted(text)
}

/// See [`quoted`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for (count, c) in self.0.chars().enumerate() {
            if count == MAX {
                f.write_str("…")?;
                break;
            }
            // Escapes control, format and separator characters; leaves quotes and visible text as they are.
            match c {
                '"' | '\'' | '\\' => write!(f, "{c}")?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        f.write_str("`")
    }
}

/// Characters that are shown.
const MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_text_stays_on_one_short_line() {
        assert_eq!(quoted("a\n\"b\"\u{202e}").to_string(), "`a\\n\"b\"\\u{202e}`");
        assert_eq!(quoted(&"x".repeat(500)).to_string().chars().count(), 83);
    }
}
