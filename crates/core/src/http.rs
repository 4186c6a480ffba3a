//! HTTP matches: method and normalised path.
//!
//! Source of the rules: Calico `app-policy/checker` (path normalisation and HTTP match).

use alloc::string::String;
use alloc::vec::Vec;

use crate::model::{HttpMatch, PathMatch};
use crate::packet::HttpRequest;

/// Brings a request path into the one form that is compared: query and fragment cut, percent-escapes decoded once,
/// `\` turned into `/`, `;parameters` cut from each segment, `.`, `..`, repeated and trailing slashes resolved.
///
/// `None` when the path could be read in two ways, and so must match nothing: it does not start with `/`, has a
/// broken escape, is not UTF-8 after decoding, hides a dot or slash behind a second encoding (`%252e`), or holds a
/// NUL.
#[must_use]
pub fn normalise_path(raw: &str) -> Option<String> {
    if !raw.starts_with('/') {
        return None;
    }
    let cut = raw.find(['?', '#']).unwrap_or(raw.len());
    let decoded = percent_decode(raw.get(..cut)?)?;
    let lower = decoded.to_ascii_lowercase();
    if ["%2e", "%2f", "%5c"].iter().any(|hidden| lower.contains(hidden)) || decoded.contains('\0') {
        return None;
    }
    let slashed = decoded.replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in slashed.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let mut path = String::from("/");
    path.push_str(&segments.join("/"));
    Some(path)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

impl HttpMatch {
    /// Whether `request` has one of the methods and one of the paths.
    ///
    /// A path that [`normalise_path`] refuses matches no path condition. A request whose target does not begin with
    /// `/` is malformed and matches nothing at all.
    #[must_use]
    pub fn matches(&self, request: &HttpRequest) -> bool {
        let method = self.methods.is_empty()
            || self.methods.iter().any(|m| m.as_str() == "*" || m.as_str() == request.method.as_str());
        method
            && request.path.starts_with('/')
            && (self.paths.is_empty() || self.matches_path(request.path.as_str()))
    }

    fn matches_path(&self, raw: &str) -> bool {
        let Some(path) = normalise_path(raw) else { return false };
        self.paths.iter().any(|condition| match condition {
            PathMatch::Exact(want) => normalise_path(want).is_some_and(|want| want == path),
            PathMatch::Prefix(want) => normalise_path(want).is_some_and(|want| has_prefix(&path, &want)),
        })
    }
}

/// Whether the segments of `prefix` lead those of `path`; both normalised.
fn has_prefix(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix == "/" || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Name;
    use alloc::vec;

    #[test]
    fn paths_are_normalised() {
        for (raw, want) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a//b/", Some("/a/b")),
            ("/a/./b/../c", Some("/a/c")),
            ("/../../a", Some("/a")),
            ("/a;x=1/b;y", Some("/a/b")),
            ("/a%2Fb", Some("/a/b")),
            ("/a/%2e%2e/b", Some("/b")),
            ("/a\\b", Some("/a/b")),
            ("\\a", None),
            ("/a?b=/../c", Some("/a")),
            ("/a#f", Some("/a")),
            ("/%41", Some("/A")),
            ("/a/..;/b", Some("/b")),
            ("a", None),
            ("", None),
            ("*", None),
            ("/%", None),
            ("/%4", None),
            ("/%zz", None),
            ("/%252e", None),
            ("/%252F", None),
            ("/%255c", None),
            ("/%00", None),
            ("/%ff", None),
        ] {
            assert_eq!(normalise_path(raw).as_deref(), want, "{raw}");
        }
    }

    fn request(method: &str, path: &str) -> HttpRequest {
        HttpRequest { method: Name::from(method), path: Name::from(path) }
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        let rule = HttpMatch { methods: vec![], paths: vec![PathMatch::Prefix("/foo".into())] };
        assert!(rule.matches(&request("GET", "/foo")));
        assert!(rule.matches(&request("GET", "/foo/bar")));
        assert!(!rule.matches(&request("GET", "/foobar")));
        assert!(!rule.matches(&request("GET", "/foo/../bar")));
        let root = HttpMatch { methods: vec![], paths: vec![PathMatch::Prefix("/".into())] };
        assert!(root.matches(&request("GET", "/anything")));
        assert!(!root.matches(&request("GET", "/%")), "an ambiguous path matches no path condition");
    }

    #[test]
    fn methods_are_exact() {
        let rule = HttpMatch { methods: vec!["GET".into()], paths: vec![] };
        assert!(rule.matches(&request("GET", "/%")), "no path condition, so the path is not read");
        assert!(!rule.matches(&request("get", "/")));
        assert!(HttpMatch { methods: vec!["*".into()], paths: vec![] }.matches(&request("PUT", "/")));
        assert!(HttpMatch::default().matches(&request("PUT", "/")));
    }
}
