//! What is left out of folders.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use portcullis_core::quote::quoted;

use crate::error::{ReadError, ReadErrorKind};

/// Patterns for files and folders that are not read.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    text: String,
    matcher: GlobMatcher,
    /// It has no `/`, so it is about names at any depth.
    is_name: bool,
    is_used: bool,
}

impl Patterns {
    /// Adds a pattern.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), ReadError> {
        let trimmed = text.trim_start_matches("./").trim_end_matches('/');
        let refused = |reason: String| ReadError::new(ReadErrorKind::Pattern, reason);
        if trimmed.is_empty() {
            return Err(refused(format!("the pattern {} names nothing", quoted(text))));
        }
        let glob = GlobBuilder::new(trimmed).literal_separator(true).backslash_escape(true).build();
        let glob =
            glob.map_err(|error| refused(format!("the pattern {}: {}", quoted(text), error.kind())))?;
        self.0.push(Pattern {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
            is_name: !trimmed.contains('/'),
            is_used: false,
        });
        Ok(())
    }

    /// Whether `path`, which is below `root`, is left out: by its name, its path below `root`, or all of it as given.
    pub(crate) fn match_path(&mut self, path: &Path, root: &Path) -> bool {
        let below = path.strip_prefix(root).unwrap_or(path);
        let name = path.file_name().map(Path::new).unwrap_or(path);
        let mut is_match = false;
        for pattern in &mut self.0 {
            let matches = if pattern.is_name {
                pattern.matcher.is_match(name)
            } else {
                pattern.matcher.is_match(below) || pattern.matcher.is_match(path)
            };
            pattern.is_used |= matches;
            is_match |= matches;
        }
        is_match
    }

    /// A doubt about each pattern that left nothing out.
    pub(crate) fn unused(&self) -> impl Iterator<Item = ReadError> {
        self.0.iter().filter(|pattern| !pattern.is_used).map(|pattern| {
            let reason = format!("the pattern {} leaves nothing out", quoted(&pattern.text));
            ReadError::new(ReadErrorKind::Pattern, reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_any_depth_and_paths_from_the_folder() {
        for (pattern, path, expected) in [
            ("charts", "k8s/charts", true),
            ("charts/", "k8s/a/charts", true),
            ("*.json", "k8s/a/b.json", true),
            ("*.json", "k8s/a/b.yaml", false),
            ("test-*", "k8s/a/test-b.yaml", true),
            ("a/charts", "k8s/a/charts", true),
            ("./a/charts", "k8s/a/charts", true),
            ("a/charts", "k8s/b/a/charts", false),
            ("a/*", "k8s/a/b/c", false),
            ("**/charts/x", "k8s/b/a/charts/x", true),
            ("k8s/a", "k8s/a", true),
            ("{a,b}.yaml", "k8s/b.yaml", true),
            ("[ab]", "k8s/c", false),
        ] {
            let mut patterns = Patterns::default();
            patterns.add(pattern).unwrap();
            assert_eq!(patterns.match_path(Path::new(path), Path::new("k8s")), expected, "{pattern} {path}");
            assert_eq!(patterns.unused().count(), usize::from(!expected));
        }
        let mut here = Patterns::default();
        here.add("a/b").unwrap();
        assert!(here.match_path(Path::new("./a/b"), Path::new(".")));
        for bad in ["", "/", "a[", "{a"] {
            assert!(Patterns::default().add(bad).is_err(), "{bad}");
        }
    }
}
