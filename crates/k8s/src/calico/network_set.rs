//! NetworkSet and GlobalNetworkSet.

use alloc::format;

use portcullis_core::label::{Labels, Name};
use portcullis_core::model::{NetworkSet, NetworkSetId};

use crate::calico::NAMESPACE_LABEL;
use crate::calico::list::{self, Limit};
use crate::calico::net;
use crate::calico::spec::NetworkSetSpec;
use crate::context::Context;
use crate::path::Path;

/// Converts a network set; without a namespace it is global.
///
/// A namespaced set answers to selectors of namespaces and carries the name of its namespace as a label.
/// Source: Calico `libcalico-go/lib/backend/syncersv1/updateprocessors/networksetprocessor.go`.
pub(super) fn convert(
    cx: &mut Context<'_>,
    namespace: Option<&Name>,
    name: &str,
    mut labels: Labels,
    spec: &NetworkSetSpec,
) -> NetworkSet {
    if labels.value(NAMESPACE_LABEL).is_some() {
        let metadata = Path::root("metadata");
        cx.error(&metadata.field("labels").key(NAMESPACE_LABEL), "is reserved for the real namespace");
    }
    if let Some(namespace) = namespace {
        let key = cx.name(NAMESPACE_LABEL);
        labels.insert(key, namespace.clone());
    }
    let path = Path::root("spec");
    let path = path.field("nets");
    let texts = list::set(cx, &path, spec.nets.as_deref(), Limit::None);
    let nets = texts
        .iter()
        .enumerate()
        .filter_map(|(index, text)| net::network_or_address(cx, &path.index(index), text))
        .collect();
    if texts.is_empty() {
        cx.warn(&path, format!("the set {name} has no networks and matches nothing"));
    }
    NetworkSet { id: NetworkSetId { namespace: namespace.cloned(), name: cx.name(name) }, labels, nets }
}
