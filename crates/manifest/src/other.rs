//! Documents that are no Kubernetes objects: what else lies in a folder of manifests.
//!
//! A document with neither `apiVersion` nor `kind` is none. Such documents are passed over, but counted by what they
//! are, so that a policy which lost its head does not go unseen.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use std::path::{Path, PathBuf};

use portcullis_k8s::{Kind, Relevance};

use crate::error::{ReadError, ReadErrorKind};
use crate::shell;
use crate::tree::{Node, NodeKind};

/// Counts of documents that are no objects, and doubts about them.
#[derive(Debug, Default)]
pub(crate) struct Others {
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) warnings: Vec<ReadError>,
    /// Folders that are kustomizations, and may build something else than what is in them.
    pub(crate) kustomizations: Vec<PathBuf>,
}

impl Others {
    /// Counts a document.
    pub(crate) fn add(&mut self, what: &'static str, root: Node<'_>, file: &Arc<str>) {
        self.count(what);
        let has_dependencies = || root.get("dependencies").is_some_and(|list| !list.is_empty());
        let reason = if what == "Helm chart" && has_dependencies() {
            let folder = shell::quoted(Path::new(&**file).parent().unwrap_or(Path::new("")));
            format!(
                "the dependencies of this chart are not read; read what it renders to: `helm template RELEASE {folder} \
                 | portcullis eval -f - ...`"
            )
        } else if looks_like_an_object(root)
            || (what != "JSON patch" && root.items().any(looks_like_an_object))
        {
            "passed over, because it has neither `apiVersion` nor `kind`".into()
        } else {
            return;
        };
        let warning = ReadError::new(ReadErrorKind::Object, reason)
            .with_file(Arc::clone(file))
            .with_position(Some(root.position()));
        self.warnings.push(warning);
    }

    /// Counts one of something.
    pub(crate) fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    /// Counts some of something.
    pub(crate) fn count_many(&mut self, what: &'static str, more: u64) {
        let count = self.counts.entry(what).or_default();
        *count = count.saturating_add(more);
    }
}

/// What a document is that is no Kubernetes object; `None` when it is one, or should be.
pub(crate) fn recognise(root: Node<'_>, file: &str) -> Option<&'static str> {
    let path = Path::new(file);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match root.kind() {
        NodeKind::Mapping => mapping(root, path, name),
        NodeKind::Sequence => sequence(root, path, name),
        _ => None,
    }
}

fn mapping(root: Node<'_>, path: &Path, name: &str) -> Option<&'static str> {
    let has = |key: &str| root.get(key).is_some_and(|value| !value.is_null());
    match (has("apiVersion"), has("kind")) {
        (true, true) => None,
        (false, false) if is_misspelt(root) => None,
        (false, false) => Some(by_name(path, name).unwrap_or_else(|| by_content(root))),
        // Formats that share one of the two keys with Kubernetes.
        (true, false) if root.get("apiVersion").is_some_and(|version| version.as_int().is_some()) => {
            let has_object = has("metadata") || has("spec");
            (!has_object).then_some("Grafana provisioning")
        }
        // An object that lost half of its head is none of them, whatever its file is called.
        (true, false) | (false, true) if looks_like_an_object(root) => None,
        (true, false) | (false, true) => by_name(path, name).filter(|what| HEADLESS.contains(what)),
    }
}

/// An object that policy depends on in the list of a document that is no object itself: `items` without a head, or a list
/// in a list.
pub(crate) fn held_object<'a>(what: &str, root: Node<'a>) -> Option<Node<'a>> {
    if matches!(what, "JSON patch" | "Helm values") {
        return None;
    }
    let mut waiting = vec![root];
    waiting.extend(["items", "objects"].iter().filter_map(|key| root.get(key)));
    // The tree bounds how many there are.
    while let Some(list) = waiting.pop() {
        for item in list.items() {
            let [version, kind] = ["apiVersion", "kind"].map(|key| item.get_str(key).unwrap_or_default());
            let matters = || !matches!(Kind::of(version, kind), Relevance::Ignored);
            if !version.is_empty() && !kind.is_empty() && matters() {
                return Some(item);
            }
            if item.kind() == NodeKind::Sequence {
                waiting.push(item);
            }
        }
    }
    None
}

/// What can have one of `apiVersion` and `kind` for reasons of its own.
const HEADLESS: &[&str] = &["Kustomization", "Helm chart", "Helm values", "CI workflow"];

fn sequence(root: Node<'_>, path: &Path, name: &str) -> Option<&'static str> {
    let has_head = |item: Node<'_>| item.get("apiVersion").is_some() || item.get("kind").is_some();
    if root.items().any(has_head) || (!root.is_empty() && root.items().all(|item| item.is_null())) {
        return None;
    }
    let all = |keys: &[&str]| {
        !root.is_empty() && root.items().all(|item| keys.iter().all(|key| item.get(key).is_some()))
    };
    let any = |key: &str| root.items().any(|item| item.get(key).is_some());
    if all(&["op", "path"]) {
        return Some("JSON patch");
    }
    if let Some(what) = by_name(path, name) {
        return Some(what);
    }
    if any("hosts") || any("import_playbook") || any("tasks") {
        return Some("Ansible playbook");
    }
    Some("other list")
}

/// Formats that go by the name of their file.
fn by_name(path: &Path, name: &str) -> Option<&'static str> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let (stem, _) = name.rsplit_once('.').unwrap_or((name, ""));
    Some(match name {
        "kustomization.yaml" | "kustomization.yml" | "Kustomization" => "Kustomization",
        "Chart.yaml" | "Chart.yml" => "Helm chart",
        ".gitlab-ci.yml"
        | ".gitlab-ci.yaml"
        | ".travis.yml"
        | ".drone.yml"
        | ".drone.yaml"
        | ".cirrus.yml"
        | ".woodpecker.yml"
        | ".woodpecker.yaml"
        | "azure-pipelines.yml"
        | "azure-pipelines.yaml"
        | "bitbucket-pipelines.yml"
        | "cloudbuild.yaml"
        | "cloudbuild.yml"
        | "buildspec.yml"
        | "buildspec.yaml"
        | "appveyor.yml"
        | ".appveyor.yml" => "CI workflow",
        _ if parent.ends_with(".github/workflows")
            || parent.ends_with(".gitea/workflows")
            || parent.ends_with(".forgejo/workflows") =>
        {
            "CI workflow"
        }
        _ if parent.ends_with(".circleci") || parent.ends_with(".buildkite") => "CI workflow",
        _ if is_values(stem) => "Helm values",
        _ => return None,
    })
}

/// `values`, `values-prod`, `values.prod`, `prod-values`, `prod.values`, `my_values`.
fn is_values(stem: &str) -> bool {
    let is_separator = |character: char| matches!(character, '-' | '_' | '.');
    let after =
        stem.strip_prefix("values").is_some_and(|rest| rest.is_empty() || rest.starts_with(is_separator));
    after || stem.strip_suffix("values").is_some_and(|rest| rest.ends_with(is_separator))
}

/// Formats that go by their keys.
fn by_content(root: Node<'_>) -> &'static str {
    let has = |key: &str| root.get(key).is_some();
    let is_mapping = |key: &str| root.get(key).is_some_and(|value| value.kind() == NodeKind::Mapping);
    let is_list = |key: &str| root.get(key).is_some_and(|value| value.kind() == NodeKind::Sequence);
    if has("openapi") || has("swagger") {
        return "OpenAPI specification";
    }
    if has("$schema") || has("$id") {
        return "JSON schema";
    }
    if has("AWSTemplateFormatVersion") {
        return "CloudFormation template";
    }
    // `on` is a truth value in YAML 1.1.
    if is_mapping("jobs") && (has("on") || has("true")) {
        return "CI workflow";
    }
    if is_list("stages") {
        return "CI workflow";
    }
    let of_service = |key: &str| {
        let services = root.get("services").into_iter().flat_map(Node::entries);
        services.into_iter().any(|service| service.value().get(key).is_some())
    };
    if of_service("image") || of_service("build") {
        return "Compose file";
    }
    if is_list("releases") || is_list("helmfiles") {
        return "helmfile";
    }
    if is_list("scrape_configs") || is_list("rule_files") {
        return "Prometheus configuration";
    }
    if is_list("groups") {
        return "Prometheus rules";
    }
    if is_list("resources") || is_list("patches") || is_list("patchesStrategicMerge") || is_list("bases") {
        return "Kustomization";
    }
    "other document"
}

/// An object whose head was written in other capitals: `apiversion` and `Kind`.
fn is_misspelt(root: Node<'_>) -> bool {
    let has = |name: &str| root.entries().any(|entry| entry.key().eq_ignore_ascii_case(name));
    has("apiVersion") && has("kind")
}

fn looks_like_an_object(root: Node<'_>) -> bool {
    let is_mapping = |key: &str| root.get(key).is_some_and(|value| value.kind() == NodeKind::Mapping);
    is_mapping("metadata") && is_mapping("spec")
}
