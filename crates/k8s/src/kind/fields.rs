//! What policy does not depend on in objects of the kinds that it does depend on.

use super::{Kind, Known};

impl Kind {
    /// Whether policy depends on the field at `path` (such as `metadata.annotations[a/b]`) in objects of this kind. Where
    /// it does not, two different values of a key there change no answer. In a policy, every field counts.
    #[must_use]
    pub fn depends_on(self, path: &str) -> bool {
        let is_inside = |place: &str| {
            path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let is_annotation = || ANNOTATIONS.iter().any(|place| is_inside(place));
        match self.known() {
            Known::Namespace | Known::ServiceAccount | Known::Node | Known::Pod | Known::EndpointSlice => {
                !is_annotation()
            }
            // The labels of their pods are those of the template.
            Known::Service | Known::Workload(_) => !is_annotation() && !is_inside("metadata.labels"),
            _ => true,
        }
    }
}

/// Where annotations are: those of the object, and of the pods that it makes.
const ANNOTATIONS: [&str; 3] = [
    "metadata.annotations",
    "spec.template.metadata.annotations",
    "spec.jobTemplate.spec.template.metadata.annotations",
];
