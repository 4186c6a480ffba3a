//! Licences of everything in the dependency graph.

use crate::metadata::Metadata;

/// Licences that a dependency may have. `deny.toml` holds the same list for cargo-deny.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    // Of data: the root certificates that TLS of the feature `kube` brings for platforms without their own.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Every package whose licence is not allowed, one line each.
pub(crate) fn violations(metadata: &Metadata) -> Vec<String> {
    let mut found: Vec<String> = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let name = &package.name;
            match package.license.as_deref() {
                None => Some(format!("`{name}` states no licence")),
                Some(text) if allowed(text) == Some(true) => None,
                Some(text) => Some(format!("`{name}` has the licence `{text}`")),
            }
        })
        .collect();
    found.sort();
    found
}

/// Whether an SPDX expression can be satisfied by allowed licences alone; `None` when it cannot be read.
fn allowed(expression: &str) -> Option<bool> {
    // A slash is how old manifests write OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (value, rest) = any_of(&words)?;
    rest.is_empty().then_some(value)
}

/// `a OR b OR …`
fn any_of<'w, 't>(words: &'w [&'t str]) -> Option<(bool, &'w [&'t str])> {
    let (mut value, mut words) = all_of(words)?;
    while let [first, rest @ ..] = words
        && *first == "OR"
    {
        let (next, rest) = all_of(rest)?;
        value |= next;
        words = rest;
    }
    Some((value, words))
}

/// `a AND b AND …`
fn all_of<'w, 't>(words: &'w [&'t str]) -> Option<(bool, &'w [&'t str])> {
    let (mut value, mut words) = one(words)?;
    while let [first, rest @ ..] = words
        && *first == "AND"
    {
        let (next, rest) = one(rest)?;
        value &= next;
        words = rest;
    }
    Some((value, words))
}

/// A licence, or an expression in parentheses.
fn one<'w, 't>(words: &'w [&'t str]) -> Option<(bool, &'w [&'t str])> {
    match words {
        ["(", rest @ ..] => match any_of(rest)? {
            (value, [")", rest @ ..]) => Some((value, rest)),
            _ => None,
        },
        // An exception only adds permissions to the licence before it.
        [licence, "WITH", _, rest @ ..] => Some((ALLOWED.contains(licence), rest)),
        [licence, rest @ ..] if !matches!(*licence, ")" | "OR" | "AND" | "WITH") => {
            Some((ALLOWED.contains(licence), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert_eq!(allowed(good), Some(true), "{good}");
        }
        for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR Zlib) AND MPL-2.0", "mit"] {
            assert_eq!(allowed(bad), Some(false), "{bad}");
        }
        for unreadable in ["", "MIT OR", "(MIT", "MIT)", "AND MIT", "MIT Zlib"] {
            assert_eq!(allowed(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn a_foreign_licence_is_found() {
        let mut metadata = Metadata::load().unwrap();
        assert_eq!(violations(&metadata), Vec::<String>::new());
        let package = metadata.packages.iter_mut().find(|p| p.name == "serde").unwrap();
        package.license = Some("AGPL-3.0-only".into());
        assert_eq!(violations(&metadata), ["`serde` has the licence `AGPL-3.0-only`"]);
    }

    #[test]
    fn deny_toml_says_the_same() {
        let text = include_str!("../../../deny.toml");
        let (_, after) = text.split_once("\n[licenses]\n").unwrap();
        let (_, after) = after.split_once("allow = [").unwrap();
        let (list, _) = after.split_once(']').unwrap();
        let mut listed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        listed.sort_unstable();
        assert_eq!(listed, ALLOWED);
    }
}
