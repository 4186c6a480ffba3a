//! User text inside one-line messages.

use core::fmt::{self, Write};

/// `text` in backticks: control characters escaped, long text shortened.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(QUOTED) + 2);
    out.push('`');
    // Writing to a string cannot fail.
    let _ = escape(&mut out, text, QUOTED);
    out.push('`');
    out
}

/// Writes at most `limit` characters of `text`, the invisible ones escaped, so that the result stays on one line
/// and cannot redraw a terminal.
pub(crate) fn escape(out: &mut dyn Write, text: &str, limit: usize) -> fmt::Result {
    for (count, character) in text.chars().enumerate() {
        if count == limit {
            return out.write_str("...");
        }
        if is_visible(character) {
            out.write_char(character)?;
        } else {
            write!(out, "{}", character.escape_default())?;
        }
    }
    Ok(())
}

/// Neither a control character, nor a line break, nor one that changes the direction of its neighbours.
fn is_visible(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Characters of one piece of user text that a message shows.
const QUOTED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_messages_on_one_line() {
        assert_eq!(quote("a\nb\u{1b}[31m\u{202e}é"), "`a\\nb\\u{1b}[31m\\u{202e}é`");
        assert_eq!(quote(&"x".repeat(1000)).len(), QUOTED + 2 + 3);
    }
}
