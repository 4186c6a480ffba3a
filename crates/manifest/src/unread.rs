//! What no policy depends on.

/// What no policy depends on in an object of a kind that policy does depend on. Two different values of a key there
/// change no answer. In a policy, every field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nothing.
    Nothing,
    Annotations,
    AnnotationsAndOwnLabels,
}

impl Unread {
    /// By kind.
    pub(crate) fn of(kind: &str) -> Self {
        match kind {
            "Namespace" | "ServiceAccount" | "Node" | "Pod" | "EndpointSlice" => Self::Annotations,
            // The labels of their pods are those of the template.
            "Service"
            | "Deployment"
            | "StatefulSet"
            | "DaemonSet"
            | "ReplicaSet"
            | "ReplicationController"
            | "Job"
            | "CronJob" => Self::AnnotationsAndOwnLabels,
            _ => Self::Nothing,
        }
    }

    /// Whether the field at `path` is part of it.
    pub(crate) fn contains(self, path: &str) -> bool {
        let is_inside = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        let is_annotation =
            || ANNOTATIONS.iter().any(|place| path.strip_prefix(place).is_some_and(is_inside));
        let is_own_label = || path.strip_prefix("metadata.labels").is_some_and(is_inside);
        match self {
            Self::Nothing => false,
            Self::Annotations => is_annotation(),
            Self::AnnotationsAndOwnLabels => is_annotation() || is_own_label(),
        }
    }
}

/// Where annotations are: those of the object, and of the pods that it makes.
const ANNOTATIONS: [&str; 3] = [
    "metadata.annotations",
    "spec.template.metadata.annotations",
    "spec.jobTemplate.spec.template.metadata.annotations",
];
