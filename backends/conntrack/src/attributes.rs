//! Netlink attributes.

/// The attribute holds attributes.
pub(crate) const NESTED: u16 = 1 << 15;
/// Without the flags for nesting and byte order.
const KIND: u16 = 0x3fff;
const HEADER: usize = 4;

/// The content of the first attribute of this kind.
pub(crate) fn find(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let kind = u16::from_ne_bytes(*behind.first_chunk::<2>()?);
        let length = usize::from(u16::from_ne_bytes(*length));
        let content = rest.get(HEADER..length)?;
        if kind & KIND == wanted {
            return Some(content);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// Adds an attribute. What is longer than an attribute can be is cut off; keys of flows are not.
pub(crate) fn put(into: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let content = content.get(..usize::from(u16::MAX).saturating_sub(HEADER)).unwrap_or(content);
    let length = u16::try_from(content.len().saturating_add(HEADER)).unwrap_or(u16::MAX);
    into.extend(length.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(content);
    into.resize(into.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again() {
        let mut content = Vec::new();
        put(&mut content, 1, b"abc");
        put(&mut content, 2 | NESTED, b"");
        put(&mut content, 3, b"defgh");
        assert_eq!(
            [1, 2, 3, 4].map(|kind| find(&content, kind)),
            [Some(&b"abc"[..]), Some(&b""[..]), Some(&b"defgh"[..]), None]
        );
        // Whatever is cut off is not there, and nothing is read beyond it.
        for end in 0..content.len() {
            assert_eq!(find(&content[..end], 3).is_some(), end >= 21, "{end}");
        }
        assert_eq!(find(&[0, 0, 1, 0], 1), None);
    }
}
