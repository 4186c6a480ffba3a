//! From text to the model.

use portcullis_core::model::Update;
use portcullis_k8s::ImportOptions;

use crate::{Limits, LoadError, Loaded, Loader, ReadErrorKind};

fn load(text: &str) -> Result<Loaded, LoadError> {
    let mut loader = Loader::new(Limits::default(), ImportOptions::new());
    loader.add_stream("a.yaml", text.as_bytes());
    loader.finish()
}

fn errors(text: &str) -> Vec<String> {
    let error = load(text).unwrap_err();
    let printed = error.to_string();
    let lines: Vec<String> = printed.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), error.errors().len() + usize::from(error.is_cut_off()));
    lines
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n";

#[test]
fn objects_become_updates_and_others_are_counted() {
    let loaded = load(&format!(
        "{NAMESPACE}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\n---\napiVersion: v1\nkind: List\nitems:\n\
         - {{apiVersion: v1, kind: Secret}}\n- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: a, namespace: demo}}}}\n\
         - {{apiVersion: v1, kind: Secret}}\n"
    ))
    .unwrap();
    assert!(loaded.updates.iter().any(|update| matches!(update, Update::Namespace(_))));
    assert!(loaded.updates.iter().any(|update| matches!(update, Update::ServiceAccount(_))));
    let skipped: Vec<_> = loaded.skipped.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(skipped, [("ConfigMap", 1), ("Secret", 2)]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn all_errors_are_collected_with_their_places() {
    let lines = errors(&format!(
        "{NAMESPACE}---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: other\n  labels:\n    app: a b\n---\n\
         x: [\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: demo, labels: {{a: b}}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: 1}}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: demo}}\nspec:\n  ingres: []\n\
         ---\napiVersion: networking.k8s.io/v9\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: demo}}\n---\nkind: Pod\n"
    ));
    let expected = [
        "a.yaml:10:10: Namespace other: metadata.labels",
        "a.yaml:12:4: malformed YAML: ",
        "a.yaml:16:18: Namespace demo: metadata.name: an object of this name was given before, with other content; another one of this name is at a.yaml:1:1",
        "a.yaml:20:18: Pod: metadata.name: expected text, found the integer `1`; put it in quotes",
        "a.yaml:26:3: NetworkPolicy demo/p: spec.ingres: unknown field `ingres`",
        "a.yaml:28:13: NetworkPolicy demo/p: apiVersion: version `v9` ",
        "a.yaml:32:1: Pod: missing field `apiVersion`",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nshould begin with\n{expected}");
    }
}

#[test]
fn errors_have_their_kind() {
    let error = load("apiVersion: v1\nkind: Namespace\nmetadata: {name: A}\n").unwrap_err();
    assert_eq!(error.errors()[0].kind(), ReadErrorKind::Meaning);
    assert_eq!(error.errors()[0].field(), Some("metadata.name"));
    let error = load("apiVersion: v1\nkind: Namespace\nmetadata: 1\n").unwrap_err();
    assert_eq!(error.errors()[0].kind(), ReadErrorKind::Object);
}

#[test]
fn many_errors_stop_the_reading() {
    let error = load(&"kind: b\n---\n".repeat(1000)).unwrap_err();
    assert_eq!(error.errors().len(), 100);
    assert!(error.is_cut_off());
    assert!(error.to_string().ends_with("\nstopped after 100 errors"));
    // Later input is not touched.
    let mut loader = Loader::new(Limits::default(), ImportOptions::new());
    loader.add_stream("a.yaml", "kind: b\n---\n".repeat(1000).as_bytes());
    loader.add_path(std::path::Path::new("/nowhere/at/all"));
    assert_eq!(loader.finish().unwrap_err().errors().len(), 100);
}

#[test]
fn warnings_have_a_place() {
    // The namespace of a namespace means nothing.
    let loaded =
        load("---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: demo, namespace: other}\n")
            .unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    let warning = &loaded.warnings[0];
    assert_eq!((warning.file(), warning.position().unwrap().line()), (Some("a.yaml"), 3));
    assert!(warning.to_string().starts_with("a.yaml:3:1: Namespace demo: metadata.namespace: "), "{warning}");
}
