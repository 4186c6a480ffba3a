//! Misspelt fields of metadata.

use crate::document::Document;
use crate::error::ReadError;
use crate::tree::Node;

/// A doubt for each field in the metadata of an object, or of the pods that it makes, that no object has.
///
/// Of objects other than policies only what policy depends on is read, so a misspelt `labels` would go unseen, and a policy
/// would not select what its author thinks. A server warns of such fields or refuses them, as `kubectl` asks it to.
pub(crate) fn unknown_fields(document: &Document) -> Vec<ReadError> {
    let mut doubts = Vec::new();
    let mut more = 0_usize;
    for path in PLACES {
        let root = Some(document.root());
        let metadata = path.split('.').fold(root, |node: Option<Node<'_>>, key| node?.get(key));
        for entry in metadata.into_iter().flat_map(Node::entries) {
            if KNOWN.contains(&entry.key()) {
                continue;
            }
            // Looking for a place is as costly as the mapping is long.
            if doubts.len() >= FIELDS {
                more = more.saturating_add(1);
            } else {
                let field = format!("{path}.{}", entry.key());
                doubts.push(document.refuse(&field, "metadata has no such field, it is passed over"));
            }
        }
    }
    if more > 0 {
        doubts.push(document.refuse("metadata", &format!("{more} more fields that metadata does not have")));
    }
    doubts
}

/// Unknown fields of one object that are told one by one.
const FIELDS: usize = 20;

/// Where objects have metadata.
const PLACES: [&str; 3] = ["metadata", "spec.template.metadata", "spec.jobTemplate.spec.template.metadata"];

/// The fields of metadata, those of older servers included. Source: Kubernetes
/// `staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go`, `ObjectMeta`.
const KNOWN: [&str; 17] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "ownerReferences",
    "managedFields",
    "generateName",
    "finalizers",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "clusterName",
    "initializers",
];

#[cfg(test)]
mod tests {
    use portcullis_k8s::ImportOptions;

    use crate::{Limits, Loader};

    fn warnings(text: &str) -> Vec<String> {
        let mut loader = Loader::new(Limits::default(), ImportOptions::new());
        loader.add_stream("a.yaml", text.as_bytes());
        loader.finish().unwrap().warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn misspelt_metadata_is_named_with_its_place() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  lables: {app: web}\n";
        let said = "a.yaml:5:11: Pod a: metadata.lables: metadata has no such field, it is passed over";
        assert_eq!(warnings(pod), [said]);
        let workload = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {metadata: {label: {}}}}\n";
        assert!(warnings(workload)[0].contains("Deployment a: spec.template.metadata.label: "));
    }

    #[test]
    fn everything_a_server_prints_is_known() {
        let fields: Vec<String> = super::KNOWN[3..].iter().map(|field| format!("{field}: null")).collect();
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: a, labels: {{app: web}}, {}}}\n",
            fields.join(", ")
        );
        assert_eq!(warnings(&text), Vec::<String>::new());
    }

    #[test]
    fn many_misspelt_fields_are_cut_short() {
        let fields: Vec<String> = (0..100).map(|number| format!("f{number}: a")).collect();
        let said =
            warnings(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: a, {}}}\n", fields.join(", ")));
        assert_eq!(said.len(), 21);
        assert!(said[20].ends_with("80 more fields that metadata does not have"), "{}", said[20]);
    }
}
