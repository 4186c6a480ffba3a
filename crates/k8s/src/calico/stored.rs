//! Metadata of objects as they are stored in the cluster.

use alloc::format;
use alloc::string::String;
use core::fmt::Display;

use crate::meta::ObjectMeta;

/// The annotation in which an object of `crd.projectcalico.org` keeps the metadata that its author gave it.
pub(crate) const ANNOTATION: &str = "projectcalico.org/metadata";

/// Gives an object of `crd.projectcalico.org` the metadata that Calico reads from it: the labels and annotations in the
/// annotation `projectcalico.org/metadata` are added to its own and win over them, and a name there is its name.
///
/// Network sets and host endpoints are selected by such labels, and newer versions of Calico store them nowhere else.
/// Source: Calico `libcalico-go/lib/backend/k8s/resources/resources.go`, `ConvertK8sResourceToCalicoResource`.
///
/// # Errors
/// When the annotation is not the JSON of metadata.
pub(super) fn restore(meta: &mut ObjectMeta) -> Result<(), String> {
    let Some(text) = meta.annotations.as_mut().and_then(|annotations| annotations.remove(ANNOTATION)) else {
        return Ok(());
    };
    let refuse =
        |reason: &dyn Display| format!("the annotation `{ANNOTATION}` does not hold metadata: {reason}");
    // A list would pass for an object whose fields are given by position.
    if !text.trim_start().starts_with('{') {
        return Err(refuse(&"it is not a JSON object"));
    }
    let given: ObjectMeta = serde_json::from_str(&text).map_err(|error| refuse(&error))?;
    for (own, given) in [(&mut meta.labels, given.labels), (&mut meta.annotations, given.annotations)] {
        own.get_or_insert_default().extend(given.into_iter().flatten());
    }
    if let Some(name) = given.name.filter(|name| !name.is_empty()) {
        meta.name = Some(name);
    }
    Ok(())
}
