//! Who may depend on whom. `ARCHITECTURE.md` draws the same arrows.

use std::fs;

use crate::metadata::{Metadata, Package};

/// Our crates, and which of our crates each may depend on, tests aside. A crate without a row is a violation, so
/// that a new crate gets its place on purpose.
const ARROWS: &[(&str, &[&str])] = &[
    ("portcullis-core", &[]),
    ("portcullis-k8s", &["portcullis-core"]),
    // The core is for its tests: it hands on what it reads.
    ("portcullis-kube", &["portcullis-core", "portcullis-k8s"]),
    ("portcullis-manifest", &["portcullis-core", "portcullis-k8s"]),
    (
        "portcullis",
        &[
            "portcullis-core",
            "portcullis-k8s",
            "portcullis-kube",
            "portcullis-manifest",
            "portcullis-matcher",
            "portcullis-nftables",
            "portcullis-ebpf",
        ],
    ),
    ("portcullis-cli", &["portcullis"]),
    ("portcullis-matcher", &["portcullis-core"]),
    ("portcullis-conntrack", &["portcullis-core"]),
    ("portcullis-nftables", &["portcullis-core", "portcullis-conntrack"]),
    ("portcullis-ebpf", &["portcullis-core", "portcullis-conntrack"]),
    ("portcullis-testkit", &["portcullis", "portcullis-matcher"]),
    ("portcullis-bench", &["portcullis", "portcullis-testkit"]),
    ("portcullis-checks", &[]),
];

/// What tests of any crate may use on top of its arrows.
const FOR_TESTS: &[&str] = &["portcullis-testkit"];

/// Crates that never leave this repository.
const UNPUBLISHED: &[&str] = &["portcullis-testkit", "portcullis-bench", "portcullis-checks"];

/// Dependencies that decide what kind of program something is, and the only crates of ours that may have them,
/// directly or through others.
const RESERVED: &[(&str, &[&str])] = &[
    ("tokio", WATCHES),
    ("hyper", WATCHES),
    ("kube", WATCHES),
    ("k8s-openapi", WATCHES),
    ("aya", &["portcullis-ebpf", "portcullis", "portcullis-cli", "portcullis-testkit", "portcullis-bench"]),
    (
        "nftables",
        &["portcullis-nftables", "portcullis", "portcullis-cli", "portcullis-testkit", "portcullis-bench"],
    ),
    ("clap", &["portcullis-cli", "portcullis-bench"]),
    ("granit-parser", READS_FILES),
    (
        "serde_json",
        &[
            // Stored objects of Calico keep JSON in an annotation.
            "portcullis-k8s",
            "portcullis-kube",
            "portcullis-manifest",
            // Of nft, on demand.
            "portcullis-nftables",
            "portcullis",
            "portcullis-cli",
            "portcullis-testkit",
            "portcullis-bench",
            "portcullis-checks",
        ],
    ),
    ("proptest", &["portcullis-testkit", "portcullis-bench"]),
];

/// With every feature on; the facade has it as a feature that is off by default, and nobody else turns it on.
const WATCHES: &[&str] =
    &["portcullis-kube", "portcullis", "portcullis-cli", "portcullis-testkit", "portcullis-bench"];

const READS_FILES: &[&str] = &[
    "portcullis-manifest",
    // Of kubeconfig files, through `kube`.
    "portcullis-kube",
    "portcullis",
    "portcullis-cli",
    "portcullis-testkit",
    "portcullis-bench",
];

/// Every violation, one line each.
pub(crate) fn violations(metadata: &Metadata) -> Vec<String> {
    let ours: Vec<&Package> = metadata.members().collect();
    let is_ours = |name: &str| ours.iter().any(|p| p.name == name);
    let mut found = Vec::new();
    for package in &ours {
        let name = &package.name;
        let Some(&(_, allowed)) = ARROWS.iter().find(|(row, _)| row == name) else {
            found.push(format!("`{name}` has no row in the table of arrows"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| is_ours(&d.name)) {
            let target = dependency.name.as_str();
            let for_test = dependency.kind.as_deref() == Some("dev") && FOR_TESTS.contains(&target);
            if !allowed.contains(&target) && !for_test {
                found.push(format!("`{name}` must not depend on `{target}`"));
            }
        }
        let closure = metadata.closure(package);
        for (reserved, owners) in RESERVED {
            if closure.contains(reserved) && !owners.contains(&name.as_str()) {
                found.push(format!("`{name}` must not pull in `{reserved}`"));
            }
        }
        let published = package.publish.as_ref().is_none_or(|to| !to.is_empty());
        if published == UNPUBLISHED.contains(&name.as_str()) {
            let wish = if published { "must say" } else { "must not say" };
            found.push(format!("`{name}` {wish} publish = false"));
        }
        match fs::read_to_string(&package.manifest_path) {
            Ok(manifest) if inherits_lints(&manifest) => {}
            Ok(_) => found.push(format!("`{name}` does not inherit the workspace lints")),
            Err(error) => found.push(format!("cannot read {}: {error}", package.manifest_path)),
        }
    }
    found
}

/// Whether a manifest has the table `[lints]` with `workspace = true`.
fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "[lints]")
        && lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The real graph with one edge added to it.
    fn with_edge(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
        let mut metadata = Metadata::load().unwrap();
        let package = metadata.packages.iter_mut().find(|p| p.name == from).unwrap();
        let kind = kind.map(String::from);
        package.dependencies.push(crate::metadata::Dependency { name: to.into(), kind });
        violations(&metadata)
    }

    #[test]
    fn the_workspace_as_it_is_keeps_the_arrows() {
        assert_eq!(violations(&Metadata::load().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn arrows_against_the_direction_are_found() {
        let wrong = [
            ("portcullis-core", "portcullis-k8s"),
            ("portcullis-k8s", "portcullis-manifest"),
            ("portcullis-manifest", "portcullis"),
            ("portcullis-cli", "portcullis-core"),
            ("portcullis", "portcullis-testkit"),
        ];
        for (from, to) in wrong {
            assert_eq!(with_edge(from, to, None), [format!("`{from}` must not depend on `{to}`")]);
        }
    }

    #[test]
    fn tests_may_use_the_testkit_and_nothing_else_more() {
        assert!(with_edge("portcullis-cli", "portcullis-testkit", Some("dev")).is_empty());
        assert_eq!(with_edge("portcullis-core", "portcullis-k8s", Some("dev")).len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        let mut metadata = Metadata::load().unwrap();
        let cli = metadata.packages.iter_mut().find(|p| p.name == "portcullis-cli").unwrap();
        cli.name = "portcullis-novel".into();
        assert_eq!(violations(&metadata), ["`portcullis-novel` has no row in the table of arrows"]);
    }

    #[test]
    fn a_reserved_dependency_is_found_through_others() {
        let mut metadata = Metadata::load().unwrap();
        // A package that core pulls in through others gets a reserved name.
        metadata.packages.iter_mut().find(|p| p.name == "ipnet").unwrap().name = "clap".into();
        let found = violations(&metadata);
        assert!(found.contains(&"`portcullis-core` must not pull in `clap`".into()), "{found:?}");
        assert!(found.contains(&"`portcullis-k8s` must not pull in `clap`".into()), "{found:?}");
    }

    #[test]
    fn publishing_what_is_internal_is_found() {
        let mut metadata = Metadata::load().unwrap();
        metadata.packages.iter_mut().find(|p| p.name == "portcullis-testkit").unwrap().publish = None;
        assert_eq!(violations(&metadata), ["`portcullis-testkit` must say publish = false"]);
    }

    #[test]
    fn lints_must_be_inherited() {
        assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nname = \"a\"\nversion.workspace = true\n"));
        assert!(!inherits_lints("[lints]\n[lints.rust]\nunsafe_code = \"warn\"\n[x]\nworkspace = true\n"));
    }
}
