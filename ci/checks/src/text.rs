//! Project files name no path of one machine and no registry but the public one.

use std::fs;

use crate::files::Files;

/// Directories of machines that the project was built on. Written in two parts, or this file would break its rule.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk"), concat!("/ro", "ot"), concat!("/tmp", "/wt")];

/// The only package source that a lock file may name.
const PUBLIC_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every violation in the files that git tracks, one line each.
pub(crate) fn violations() -> Result<Vec<String>, String> {
    let files = Files::tracked()?;
    let mut found = Vec::new();
    for file in &files.names {
        // A file that is gone from the working tree, or is not text, names nothing.
        if let Ok(content) = fs::read_to_string(files.root.join(file)) {
            found.extend(in_file(file, &content));
        }
    }
    Ok(found)
}

fn in_file(file: &str, content: &str) -> Vec<String> {
    let is_lock = file.ends_with("Cargo.lock");
    let mut found = Vec::new();
    if file.contains(".cargo/") {
        found.push(format!("{file}: cargo settings belong to a machine, not to the project"));
    }
    for (number, line) in (1..).zip(content.lines()) {
        for path in MACHINE_PATHS {
            if names(line, path) {
                found.push(format!("{file}:{number}: names the machine path `{path}`"));
            }
        }
        let source = line.strip_prefix("source = \"").and_then(|rest| rest.strip_suffix('"'));
        if is_lock && source.is_some_and(|source| source != PUBLIC_REGISTRY) {
            found.push(format!("{file}:{number}: a package does not come from the public registry"));
        }
    }
    found
}

/// Whether `line` holds `path` as the start of an absolute path: not inside a longer word or a relative path.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + path.len()..).and_then(|text| text.chars().next());
        let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        !before.is_some_and(in_word) && !after.is_some_and(|c| in_word(c) && c != '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_are_found() {
        for path in MACHINE_PATHS {
            for line in [format!("see {path}/x"), format!("`{path}`"), format!("cd {path}"), (*path).into()] {
                assert_eq!(in_file("a.md", &line).len(), 1, "{line}");
            }
            for line in
                [format!("{path}space"), format!("a{path}/x"), format!("..{path}"), format!("{path}-x")]
            {
                assert!(in_file("a.md", &line).is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn other_registries_are_found() {
        let lock = |source: &str| in_file("Cargo.lock", &format!("source = \"{source}\""));
        assert!(lock(PUBLIC_REGISTRY).is_empty());
        assert_eq!(lock("registry+https://mirror.example/index").len(), 1);
        assert_eq!(in_file("crates/.cargo/config.toml", "").len(), 1);
    }

    #[test]
    fn the_project_is_clean() {
        // Outside a git checkout (an unpacked archive) there is no list of files to read.
        if let Ok(found) = violations() {
            assert_eq!(found, Vec::<String>::new());
        }
    }
}
