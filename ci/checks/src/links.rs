//! Links between documents lead somewhere.

use alloc::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::files::Files;

/// Every relative link in the Markdown files of the project that leads to no file or no heading, one line each.
pub(crate) fn violations() -> Result<Vec<String>, String> {
    let files = Files::tracked()?;
    let mut found = Vec::new();
    for file in files.names.iter().filter(|name| name.ends_with(".md")) {
        // A file that is gone from the working tree has no links.
        if let Ok(text) = fs::read_to_string(files.root.join(file)) {
            found.extend(in_file(&files.root, file, &text));
        }
    }
    Ok(found)
}

fn in_file(root: &Path, file: &str, text: &str) -> Vec<String> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for (number, target) in links(text) {
        // A scheme, as in `https:` or `mailto:`, leads out of the project; `crate::…` is rustdoc's, which checks it.
        if target.contains(':') {
            continue;
        }
        let (path, heading) = match target.split_once('#') {
            Some((path, heading)) => (path, Some(heading)),
            None => (target.as_str(), None),
        };
        let full = if path.is_empty() { root.join(file) } else { root.join(folder).join(path) };
        if !full.exists() {
            found.push(format!("{file}:{number}: there is no `{path}`"));
            continue;
        }
        let Some(heading) = heading else { continue };
        let has_heading = path_is_document(&full)
            && fs::read_to_string(&full).is_ok_and(|text| anchors(&text).contains(&heading.into()));
        if !has_heading {
            found.push(format!("{file}:{number}: `{path}` has no heading `#{heading}`"));
        }
    }
    found
}

fn path_is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The lines outside of code blocks, with their numbers and without code in them.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut in_block = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            // Every second part between backticks is code.
            lines.push((number, line.split('`').step_by(2).collect::<Vec<_>>().join("``")));
        }
    }
    lines
}

/// The target of each link `[…](target)`, with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number, target.into()));
            }
        }
    }
    found
}

/// The anchors that GitHub gives the headings of a document.
fn anchors(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        let heading = line.trim_start_matches('#');
        if in_block || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let times = used.entry(slug.clone()).or_default();
        found.push(if *times == 0 { slug } else { format!("{slug}-{times}") });
        *times += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_of_the_project_link_well() {
        // Outside a git checkout (an unpacked archive) there is no list of files to read.
        if let Ok(found) = violations() {
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn links_are_found_and_code_is_left_out() {
        let text = "see [a](b.md) and [`c`](d/e.md#f)\n```\n[no](no.md)\n```\n`[no](no.md)` [g](#h)\n";
        let all = links(text);
        assert_eq!(all, [(1, "b.md".into()), (1, "d/e.md#f".into()), (5, "#h".into())]);
    }

    #[test]
    fn headings_get_the_anchors_of_github() {
        let text = "# One, two\n## `load` / remove\n```\n# no\n```\n#no\n## One, two\n";
        assert_eq!(anchors(text), ["one-two", "load--remove", "one-two-1"]);
    }

    #[test]
    fn links_to_nothing_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = "# Here\n[1](Cargo.toml) [2](gone.md) [3](#here) [4](#there) [5](https://example.org/x) [6](Cargo.toml#a)";
        assert_eq!(
            in_file(root, "README.md", &format!("{text} [7](src/)")),
            [
                "README.md:2: there is no `gone.md`",
                // The file itself is not there in this test, so its headings are not either.
                "README.md:2: there is no ``",
                "README.md:2: there is no ``",
                "README.md:2: `Cargo.toml` has no heading `#a`",
            ]
        );
    }
}
