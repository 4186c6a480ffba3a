//! Which modules may use which, and that no files use each other in a circle.

mod scan;
mod tree;

use alloc::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::metadata::Metadata;
use tree::{Tree, Use};

/// Modules of `portcullis-core`, and which of its modules each must not use.
///
/// Nothing is shared between the reference evaluator and the compiler with its IR but the model and the settings, so that
/// one can judge the other. The contract of dataplanes stands on the IR, and knows neither of the two that decide.
const WALLS: &[(&str, &[&str])] = &[
    ("model", &["reference", "compile", "ir", "path", "backend"]),
    ("selector", &["model", "reference", "compile", "ir", "path", "backend"]),
    ("reference", &["compile", "ir", "path", "backend"]),
    ("ir", &["reference", "compile", "path", "backend"]),
    ("compile", &["reference", "path", "backend"]),
    ("path", &["reference", "compile", "ir", "backend"]),
    ("backend", &["reference", "compile"]),
];

/// Crates in which files still use each other in a circle. A crate that has none any more must leave the list.
const CIRCLES_LEFT: &[&str] = &[];

/// The crate with the walls.
const WALLED: &str = "portcullis-core";

/// Every violation in the workspace, one line each.
pub(crate) fn violations(metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    for package in metadata.members() {
        let mut circles = Vec::new();
        for target in package.targets.iter().filter(|target| target.is_shipped()) {
            match Tree::read(Path::new(&target.src_path)) {
                Ok(tree) => {
                    let uses = tree.uses();
                    let walls = if package.name == WALLED { WALLS } else { &[] };
                    found.extend(
                        breaches(&tree, &uses, walls)
                            .into_iter()
                            .map(|line| format!("`{}`: {line}", target.name)),
                    );
                    circles.extend(
                        self::circles(&uses).into_iter().map(|line| format!("`{}`: {line}", target.name)),
                    );
                }
                Err(error) => found.push(error),
            }
        }
        match (circles.is_empty(), CIRCLES_LEFT.contains(&package.name.as_str())) {
            (true, true) => {
                found.push(format!("`{}` has no circle any more: take it off the list", package.name))
            }
            (false, false) => found.append(&mut circles),
            _ => {}
        }
    }
    found
}

/// Uses of one crate that go through its walls.
fn breaches(tree: &Tree, uses: &[Use], walls: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    let top = |module: &[String]| module.first().cloned().unwrap_or_default();
    for (room, forbidden) in walls {
        if !tree.files().any(|(_, module)| top(module) == *room) {
            found.push(format!("there is no module `{room}`, which the walls name"));
        }
        for (file, _) in tree.files().filter(|(_, module)| top(module) == *room) {
            let mut told = BTreeSet::new();
            for (target, path) in tree.mentions(file) {
                if forbidden.contains(&target.as_str()) && told.insert(target.clone()) {
                    found.push(format!("{file} must not use `{target}`: `{path}`"));
                }
            }
            // Re-exports hide where a thing comes from.
            for used in uses.iter().filter(|used| used.from == file) {
                let target = tree.files().find(|(name, _)| *name == used.to).map(|(_, module)| top(module));
                if let Some(target) = target.filter(|target| forbidden.contains(&target.as_str()))
                    && told.insert(target.clone())
                {
                    found.push(format!("{file} must not use `{target}`: `{}`", used.path));
                }
            }
        }
    }
    found
}

/// One circle for each group of files that use each other, as a line.
fn circles(uses: &[Use]) -> Vec<String> {
    let mut next: BTreeMap<&str, Vec<&Use>> = BTreeMap::new();
    for used in uses {
        next.entry(&used.from).or_default().push(used);
    }
    let mut found = Vec::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for &start in next.keys() {
        if told.contains(start) {
            continue;
        }
        if let Some(circle) = shortest_circle(start, &next) {
            // All files that lead to each other are one group, which this circle stands for.
            let group = reachable(start, &next);
            told.extend(group.into_iter().filter(|file| reachable(file, &next).contains(start)));
            let mut line = format!("files use each other in a circle: {start}");
            for used in circle {
                line.push_str(&format!(" -> {} (`{}`)", used.to, used.path));
            }
            found.push(line);
        }
    }
    found
}

/// The files that `start` uses, and that those use.
fn reachable<'u>(start: &str, next: &BTreeMap<&str, Vec<&'u Use>>) -> BTreeSet<&'u str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = vec![start];
    while let Some(file) = open.pop() {
        for used in next.get(file).into_iter().flatten() {
            if seen.insert(used.to.as_str()) {
                open.push(&used.to);
            }
        }
    }
    seen
}

/// The shortest way from `start` back to it.
fn shortest_circle<'u>(start: &str, next: &BTreeMap<&str, Vec<&'u Use>>) -> Option<Vec<&'u Use>> {
    let mut reached: BTreeMap<&str, &'u Use> = BTreeMap::new();
    let mut open = vec![start];
    while !open.is_empty() {
        let mut later = Vec::new();
        for used in open.iter().filter_map(|file| next.get(file)).flatten() {
            if reached.contains_key(used.to.as_str()) {
                continue;
            }
            reached.insert(&used.to, used);
            if used.to == start {
                let mut circle = Vec::new();
                let mut at = start;
                while let Some(used) = reached.remove(at) {
                    circle.push(used);
                    at = &used.from;
                }
                circle.reverse();
                return Some(circle);
            }
            later.push(used.to.as_str());
        }
        open = later;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Violations in a crate of these files.
    fn check(name: &str, walls: &[(&str, &[&str])], files: &[(&str, &str)]) -> Vec<String> {
        let folder = std::env::temp_dir().join(format!("portcullis-checks-{}-{name}", std::process::id()));
        for (file, text) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::read(&folder.join("lib.rs")).unwrap();
        let uses = tree.uses();
        let found = [breaches(&tree, &uses, walls), circles(&uses)].concat();
        fs::remove_dir_all(folder).unwrap();
        found
    }

    #[test]
    fn the_project_keeps_its_walls() {
        assert_eq!(violations(&Metadata::load().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn a_forbidden_module_is_found_however_it_is_named() {
        let walls: &[(&str, &[&str])] = &[("ir", &["reference"])];
        let lib = ("lib.rs", "mod ir; mod reference; mod model;");
        let others = [("model.rs", "pub struct M;"), ("reference.rs", "pub struct R;")];
        for bad in [
            "use crate::reference::R;",
            "use crate::{model::M, reference};",
            "use super::reference::R as Other;",
            "fn f() -> crate::reference::R { todo!() }",
            "mod inner { use super::super::reference::R; }",
            "#[cfg(feature = \"x\")] use crate::reference::*;",
        ] {
            let found = check("wall", walls, &[lib, others[0], others[1], ("ir.rs", bad)]);
            assert_eq!(found.len(), 1, "{bad}: {found:?}");
            assert!(found[0].starts_with("ir.rs must not use `reference`"), "{bad}: {found:?}");
        }
        for good in [
            "use crate::model::M;",
            "#[cfg(test)] mod tests { use crate::reference::R; }",
            "// crate::reference",
        ] {
            assert!(check("good", walls, &[lib, others[0], others[1], ("ir.rs", good)]).is_empty(), "{good}");
        }
    }

    #[test]
    fn a_forbidden_module_is_found_below_and_behind_a_re_export() {
        let found = check(
            "below",
            &[("ir", &["reference"])],
            &[
                ("lib.rs", "mod ir; mod reference; mod model;"),
                ("reference.rs", "pub struct R;"),
                ("model.rs", "pub use crate::reference::R;"),
                ("ir.rs", "mod deep;"),
                ("ir/deep.rs", "use crate::model::R;"),
            ],
        );
        assert_eq!(found, ["ir/deep.rs must not use `reference`: `crate::model::R`"]);
    }

    #[test]
    fn a_wall_around_nothing_is_found() {
        assert_eq!(
            check("gone", &[("ir", &[])], &[("lib.rs", "")]),
            ["there is no module `ir`, which the walls name"]
        );
    }

    #[test]
    fn circles_are_found_and_printed() {
        let found = check(
            "circle",
            &[],
            &[
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "use crate::b::B; pub struct A;"),
                // A module as a whole is used where its name begins a path.
                ("b.rs", "use crate::c; pub struct B(c::C);"),
                ("c.rs", "mod below; pub use below::C;"),
                ("c/below.rs", "pub struct C(crate::a::A);"),
            ],
        );
        assert_eq!(
            found,
            [
                "files use each other in a circle: a.rs -> b.rs (`crate::b::B`) -> c/below.rs (`c::C`) -> a.rs (`crate::a::A`)"
            ]
        );
    }

    #[test]
    fn parents_and_children_are_no_circle_and_siblings_are() {
        let lib = ("lib.rs", "mod a; pub use a::One;");
        let parent = ("a.rs", "mod one; mod two; pub use one::One; use self::two::Two; pub struct P(Two);");
        let fine = [
            lib,
            parent,
            ("a/one.rs", "use super::P; pub struct One(P);"),
            ("a/two.rs", "use crate::a::One; pub struct Two;"),
        ];
        assert_eq!(check("fine", &[], &fine), Vec::<String>::new());
        let bad = [lib, parent, ("a/one.rs", "use super::two::Two; pub struct One(Two);"), fine[3]];
        assert_eq!(
            check("bad", &[], &bad),
            [
                "files use each other in a circle: a/one.rs -> a/two.rs (`super::two::Two`) -> a/one.rs (`crate::a::One`)"
            ]
        );
    }
}
