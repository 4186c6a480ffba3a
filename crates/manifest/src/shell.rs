//! Names of files in the commands that messages propose.

use std::path::Path;

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = if text.is_empty() { ".".into() } else { text };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+,:@%".contains(&byte) || byte >= 0x80;
    if text.bytes().all(is_plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_quotes_has_them() {
        for (path, expected) in [("a/b-1.x", "a/b-1.x"), ("", "."), ("a b", "'a b'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
