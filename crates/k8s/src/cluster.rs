//! Namespaces, service accounts and nodes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::model;
use portcullis_core::net::canonical;
use portcullis_core::quote::quoted;
use serde::Deserialize;

use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::meta::{ObjectMeta, Placing};
use crate::names::Names;
use crate::path::Path;
use crate::validate;

/// The label that the API server puts on every namespace: the namespace's name.
pub(crate) const METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// A `Namespace`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// The metadata.
    pub metadata: ObjectMeta,
}

impl Namespace {
    /// The namespace in the model, with the label `kubernetes.io/metadata.name` that the server would set.
    ///
    /// # Errors
    /// When its metadata is not valid.
    pub fn convert(&self) -> Result<(model::Namespace, Vec<Warning>), ConvertErrors> {
        self.convert_with(&mut Names::default())
    }

    pub(crate) fn convert_with(
        &self,
        names: &mut Names,
    ) -> Result<(model::Namespace, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, self.metadata.reference("Namespace", Placing::Cluster));
        let identity = self.metadata.identify(Placing::Cluster, validate::dns_label, &mut cx);
        let namespace = identity.map(|identity| {
            let mut labels = self.metadata.shared_labels(&mut cx);
            let old = labels.insert(cx.name(METADATA_NAME), identity.name.clone());
            if old.is_some_and(|old| old != identity.name) {
                let metadata = Path::root("metadata");
                let path = metadata.field("labels");
                cx.warn(
                    &path.key(METADATA_NAME),
                    format!("the API server sets this label to {}", quoted(&identity.name)),
                );
            }
            model::Namespace { name: identity.name, labels }
        });
        cx.finish(namespace)
    }
}

/// A `ServiceAccount`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    /// The metadata.
    pub metadata: ObjectMeta,
}

impl ServiceAccount {
    /// The service account in the model.
    ///
    /// # Errors
    /// When its metadata is not valid.
    pub fn convert(&self) -> Result<(model::ServiceAccount, Vec<Warning>), ConvertErrors> {
        self.convert_with(&mut Names::default())
    }

    pub(crate) fn convert_with(
        &self,
        names: &mut Names,
    ) -> Result<(model::ServiceAccount, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, self.metadata.reference("ServiceAccount", Placing::Namespaced));
        let identity = self.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
        let account = identity.map(|identity| model::ServiceAccount {
            namespace: identity.namespace(),
            labels: self.metadata.shared_labels(&mut cx),
            name: identity.name,
        });
        cx.finish(account)
    }
}

/// A `Node`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The state, of which the addresses matter.
    pub status: Option<NodeStatus>,
}

/// The state of a [`Node`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// The node's addresses and names.
    pub addresses: Option<Vec<NodeAddress>>,
}

/// One address of a [`Node`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP` and `ExternalIP` are addresses; other types may be names.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The address or name.
    pub address: Option<String>,
}

impl Node {
    /// The node in the model, with every address that its status has, whatever its type: internal ones first, then
    /// external ones. Entries of other types that are no address are names.
    ///
    /// Source: network policy API `apis/v1alpha2/shared_types.go`, on `nodes`: the addresses in
    /// `node.status.addresses` are meant.
    ///
    /// # Errors
    /// When its metadata or one of its addresses is not valid.
    pub fn convert(&self) -> Result<(model::Node, Vec<Warning>), ConvertErrors> {
        self.convert_with(&mut Names::default())
    }

    pub(crate) fn convert_with(
        &self,
        names: &mut Names,
    ) -> Result<(model::Node, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, self.metadata.reference("Node", Placing::Cluster));
        let identity = self.metadata.identify(Placing::Cluster, validate::dns_subdomain, &mut cx);
        let status = Path::root("status");
        let list = status.field("addresses");
        let mut addresses: Vec<IpAddr> = Vec::new();
        let given = self.status.iter().filter_map(|s| s.addresses.as_deref()).flatten();
        let mut add = |address| {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        };
        let typed = ["InternalIP", "ExternalIP"];
        for wanted in typed {
            for (i, entry) in given.clone().enumerate().filter(|(_, e)| e.kind.as_deref() == Some(wanted)) {
                let text = entry.address.as_deref().unwrap_or_default();
                let item = list.index(i);
                ip(text, &item.field("address"), &mut cx).map(&mut add);
            }
        }
        given
            .filter(|entry| !entry.kind.as_deref().is_some_and(|kind| typed.contains(&kind)))
            .filter_map(|entry| entry.address.as_deref()?.parse().ok())
            .map(canonical)
            .for_each(add);
        let node = identity.map(|identity| model::Node {
            labels: self.metadata.shared_labels(&mut cx),
            name: identity.name,
            addresses,
        });
        cx.finish(node)
    }
}

/// `text` as a [canonical] address; notes an error when it is none.
pub(crate) fn ip(text: &str, path: &Path<'_>, cx: &mut Context<'_>) -> Option<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(canonical(address)),
        Err(_) => {
            cx.error(path, format!("{} is not an IP address", quoted(text)));
            None
        }
    }
}
