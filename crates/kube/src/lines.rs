//! Lines of an answer that comes in parts.

/// Cuts what comes in into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    waiting: Vec<u8>,
    /// The rest of a line that was too long is passed over.
    skips: bool,
}

/// A line, or that there was one of too many bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Line(Vec<u8>),
    TooLong,
}

impl Lines {
    /// Takes the next bytes, and gives the lines that they end, in order. What follows the last end of a line waits for the
    /// next bytes: when none come, it was cut off and is nothing.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut then: impl FnMut(Cut)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            self.add(line, &mut then);
            // Not kept for the next line: it may have been a very long one.
            let line = core::mem::take(&mut self.waiting);
            if core::mem::take(&mut self.skips) || line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            then(Cut::Line(line));
        }
        self.add(bytes, &mut then);
    }

    fn add(&mut self, bytes: &[u8], then: &mut impl FnMut(Cut)) {
        if self.skips {
            return;
        }
        if self.waiting.len().saturating_add(bytes.len()) > LONGEST {
            self.waiting = Vec::new();
            self.skips = true;
            return then(Cut::TooLong);
        }
        self.waiting.extend_from_slice(bytes);
    }
}

/// Bytes of a line. Servers take objects of 1.5 MB at most; this is many times that.
const LONGEST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(parts: &[&[u8]]) -> Vec<Cut> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for part in parts {
            lines.take(part, |cut| all.push(cut));
        }
        all
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let text = b"one\n\ntwo\r\nthree\nfour";
        let whole = cut(&[text]);
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0], Cut::Line(b"one".to_vec()));
        for size in 1..text.len() {
            let parts: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(cut(&parts), whole, "parts of {size}");
        }
    }

    #[test]
    fn a_line_too_long_is_one_line_that_cannot_be_read() {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        let part = vec![b'x'; 1 << 20];
        for _ in 0..80 {
            lines.take(&part, |cut| all.push(cut));
        }
        lines.take(b"x\nnext\n", |cut| all.push(cut));
        assert_eq!(all, [Cut::TooLong, Cut::Line(b"next".to_vec())]);
        assert!(lines.waiting.capacity() <= LONGEST);
    }
}
