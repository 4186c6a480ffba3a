//! Objects other than policies: as much of each as can be read, and what is not known of it.
//!
//! Each part is read alone beside parts that are right, by the strict reading. A field that nobody knows may be any field that
//! is not given.

mod profile;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_core::label::Labels;
use portcullis_core::model::{Endpoint, EndpointId, EntityKinds};
use serde_json::{Map, Value, json};

use super::parts::strict;
use crate::calico::STORED_METADATA;
use crate::form::Form;
use crate::gap::{EntityGap, Gap, Whereabouts, mark};
use crate::importer::services::SERVICE_NAME_LABEL;
use crate::kind::{CalicoKind, Kind, Known};
use crate::names::Names;
use crate::world::ObjectKey;

/// What can be read of an object, and what is not known of it.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) form: Form,
    pub(super) gap: Option<Gap>,
}

/// As much of an object as can be read; `None` for kinds that are closed as a whole.
pub(super) fn read(kind: Kind, key: &ObjectKey, raw: Option<&Value>, names: &mut Names) -> Option<Partial> {
    let nothing = Value::Null;
    let mut reader = Reader { kind, key, raw: raw.unwrap_or(&nothing), names };
    match kind.known() {
        Known::Node => reader.node(),
        Known::EndpointSlice => reader.endpoint_slice(),
        Known::Endpoints => reader.endpoints(),
        Known::FelixConfiguration => reader.felix(),
        Known::Calico(CalicoKind::NetworkSet | CalicoKind::GlobalNetworkSet, _) => reader.network_set(),
        Known::Calico(CalicoKind::HostEndpoint, _) => reader.host_endpoint(),
        Known::Calico(CalicoKind::WorkloadEndpoint, _) => reader.workload_endpoint(),
        Known::Calico(CalicoKind::Profile, _) => reader.profile(),
        _ => None,
    }
}

/// What is not known of an object of which nothing is.
pub(super) fn gap(kind: Kind, key: &ObjectKey) -> Option<Gap> {
    match kind.known() {
        // Network sets of the namespace have its labels.
        Known::Namespace => Some(Gap::Entity(EntityGap {
            namespace: Whereabouts::Namespace(key.name().clone()),
            has_more_labels: true,
            ..EntityGap::none(EntityKinds::NETWORK_SET)
        })),
        Known::Service => Some(Gap::Service(key.namespace()?.clone(), Some(key.name().clone()))),
        _ => None,
    }
}

struct Reader<'a> {
    kind: Kind,
    key: &'a ObjectKey,
    raw: &'a Value,
    names: &'a mut Names,
}

/// The items of a list that can be read, or the fields of a map.
struct Parts<T> {
    read: T,
    /// Whether that is all.
    is_whole: bool,
}

impl Reader<'_> {
    /// The strict reading of an object with these fields, and this metadata beside its name.
    fn strict(&mut self, metadata: &Map<String, Value>, fields: &Value) -> Option<Form> {
        let mut meta = metadata.clone();
        meta.insert("name".into(), json!(self.key.name().as_str()));
        meta.insert("namespace".into(), json!(self.key.namespace().map(|name| name.as_str())));
        let mut object = fields.clone();
        object.as_object_mut()?.insert("metadata".into(), Value::Object(meta));
        strict(self.kind, self.key, &object, self.names).ok().map(|(form, _)| form)
    }

    fn is_read(&mut self, fields: &Value) -> bool {
        self.strict(&Map::new(), fields).is_some()
    }

    /// Metadata with the labels that can be read. `plain` is an object that is right without metadata.
    fn metadata(&mut self, plain: &Value) -> Parts<Map<String, Value>> {
        let given = self.raw.get("metadata").and_then(Value::as_object);
        let stored = given.and_then(|meta| meta.get("annotations")?.get(STORED_METADATA)).cloned();
        let mut whole = Map::new();
        for (field, value) in given.into_iter().flatten() {
            if !METADATA.contains(&field.as_str()) {
                whole.insert(field.clone(), value.clone());
            }
        }
        if let Some(stored) = &stored {
            whole.insert("annotations".into(), json!({STORED_METADATA: stored}));
        }
        if given.is_some() && self.strict(&whole, plain).is_some() {
            return Parts { read: whole, is_whole: true };
        }
        let stored = stored.as_ref().and_then(Value::as_str);
        let stored: Option<Value> = stored.and_then(|text| serde_json::from_str(text).ok());
        let maps =
            [given.and_then(|meta| meta.get("labels")), stored.as_ref().and_then(|meta| meta.get("labels"))];
        let mut labels = Map::new();
        for (key, value) in maps.into_iter().flatten().filter_map(Value::as_object).flatten() {
            let mut alone = Map::new();
            alone.insert("labels".into(), json!({key.as_str(): value}));
            if self.strict(&alone, plain).is_some() {
                labels.insert(key.clone(), value.clone());
            }
        }
        let mut read = Map::new();
        read.insert("labels".into(), Value::Object(labels));
        Parts { read, is_whole: false }
    }

    /// The items of a list that can be read, each in the object that `around` makes of it.
    fn items(&mut self, list: Option<&Value>, around: impl Fn(&Value) -> Value) -> Parts<Vec<Value>> {
        match list {
            None | Some(Value::Null) => Parts { read: Vec::new(), is_whole: true },
            Some(Value::Array(items)) => {
                let read: Vec<Value> =
                    items.iter().filter(|item| self.is_read(&around(item))).cloned().collect();
                let is_whole = read.len() == items.len();
                Parts { read, is_whole }
            }
            Some(_) => Parts { read: Vec::new(), is_whole: false },
        }
    }

    /// The spec, and whether it is an object of which every field is one of `known`.
    fn spec(&self, known: &[&str]) -> Parts<Map<String, Value>> {
        let top = ["apiVersion", "kind", "metadata", "spec", "status"];
        let fields = self.raw.as_object();
        let are_known = fields.is_some_and(|fields| fields.keys().all(|field| top.contains(&field.as_str())));
        match self.raw.get("spec").and_then(Value::as_object) {
            Some(spec) => {
                let is_whole = are_known && spec.keys().all(|field| known.contains(&field.as_str()));
                Parts { read: spec.clone(), is_whole }
            }
            None => Parts { read: Map::new(), is_whole: false },
        }
    }

    fn network_set(&mut self) -> Option<Partial> {
        let meta = self.metadata(&json!({"spec": {}}));
        let spec = self.spec(&["nets"]);
        let nets = self.items(spec.read.get("nets"), |net| json!({"spec": {"nets": [net]}}));
        let Form::NetworkSet(mut set) = self.strict(&meta.read, &json!({"spec": {"nets": nets.read}}))?
        else {
            return None;
        };
        let namespace = self.key.namespace().cloned().map_or(Whereabouts::Cluster, Whereabouts::Namespace);
        let gap = EntityGap {
            labels: set.labels.clone(),
            has_more_labels: !meta.is_whole,
            namespace,
            has_more_addresses: !nets.is_whole || !spec.is_whole,
            ..EntityGap::none(EntityKinds::NETWORK_SET)
        };
        mark_if(gap.has_more_labels, &mut set.labels);
        Some(Partial { form: Form::NetworkSet(set), gap: gap.into_gap() })
    }

    fn node(&mut self) -> Option<Partial> {
        let meta = self.metadata(&json!({}));
        let status = self.raw.get("status").unwrap_or(&Value::Null);
        let around = |address: &Value| json!({"status": {"addresses": [address]}});
        let addresses = self.items(status.get("addresses"), around);
        let is_status = self.raw.is_object() && (status.is_null() || status.is_object());
        let Form::Node(mut node) =
            self.strict(&meta.read, &json!({"status": {"addresses": addresses.read}}))?
        else {
            return None;
        };
        let gap = EntityGap {
            labels: node.labels.clone(),
            has_more_labels: !meta.is_whole,
            has_more_addresses: !addresses.is_whole || !is_status,
            ..EntityGap::none(EntityKinds::NODE)
        };
        mark_if(gap.has_more_labels, &mut node.labels);
        Some(Partial { form: Form::Node(node), gap: gap.into_gap() })
    }

    fn endpoint_slice(&mut self) -> Option<Partial> {
        let meta = self.metadata(&json!({}));
        let whole = json!({"addressType": self.raw.get("addressType"), "ports": self.raw.get("ports")});
        let endpoints = if self.is_read(&whole) {
            let around = |endpoint: &Value| beside(&whole, "endpoints", json!([endpoint]));
            self.items(self.raw.get("endpoints"), around).read
        } else {
            Vec::new()
        };
        let around =
            if endpoints.is_empty() { json!({}) } else { beside(&whole, "endpoints", json!(endpoints)) };
        let Form::EndpointSlice(slice) = self.strict(&meta.read, &around)? else { return None };
        let labels = meta.read.get("labels");
        let is_named = labels.is_some_and(|labels| labels.get(SERVICE_NAME_LABEL).is_some());
        let gap = match &slice.service {
            Some(service) => Some(Gap::Service(service.namespace.clone(), Some(service.name.clone()))),
            None if meta.is_whole && !is_named => None,
            None => self.key.namespace().map(|namespace| Gap::Service(namespace.clone(), None)),
        };
        Some(Partial { form: Form::EndpointSlice(slice), gap })
    }

    fn endpoints(&mut self) -> Option<Partial> {
        let subsets = self.items(self.raw.get("subsets"), |subset| json!({"subsets": [subset]}));
        let form = self.strict(&Map::new(), &json!({"subsets": subsets.read}))?;
        let gap = Gap::Service(self.key.namespace()?.clone(), Some(self.key.name().clone()));
        Some(Partial { form, gap: Some(gap) })
    }

    /// The settings that can be read, field by field; of a list of ports, those ports.
    fn felix(&mut self) -> Option<Partial> {
        let spec = self.raw.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut read = Map::new();
        for (field, value) in spec {
            if self.is_read(&json!({"spec": {field.as_str(): value.clone()}})) {
                read.insert(field, value);
            } else if value.is_array() {
                let around = |item: &Value| json!({"spec": {field.as_str(): [item]}});
                let items = self.items(Some(&value), around);
                read.insert(field, Value::Array(items.read));
            }
        }
        let form = self.strict(&Map::new(), &json!({"spec": read}))?;
        Some(Partial { form, gap: None })
    }

    /// A host endpoint without a node is one of no node's interfaces, and still a peer.
    fn host_endpoint(&mut self) -> Option<Partial> {
        let fields = ["node", "interfaceName", "expectedIPs", "profiles", "ports"];
        // Of these both something is right beside what is looked at.
        let right = json!({"node": "n", "interfaceName": "n"});
        let with = |field: &str, value: Value| json!({"spec": beside(&right, field, value)});
        let meta = self.metadata(&json!({"spec": right}));
        let mut spec = self.spec(&fields);
        // Where a field is missing that all have, others may be as well.
        let has = |field: &str| spec.read.get(field).is_some_and(|value| !value.is_null());
        spec.is_whole &= has("node") && (has("interfaceName") || has("expectedIPs"));
        let given = |field: &str| spec.read.get(field).filter(|value| !value.is_null());
        let mut alone =
            |field: &str| given(field).filter(|value| self.is_read(&with(field, (*value).clone()))).cloned();
        let (node, interface) = (alone("node"), alone("interfaceName"));
        // Their order counts, so that those beside one that cannot be read say little.
        let profiles = alone("profiles");
        let addresses = self.items(given("expectedIPs"), |address| with("expectedIPs", json!([address])));
        let ports = self.items(given("ports"), |port| with("ports", json!([port])));
        let mut read = right.clone();
        for (field, value) in [("node", &node), ("interfaceName", &interface), ("profiles", &profiles)] {
            if let Some(value) = value {
                read = beside(&read, field, value.clone());
            }
        }
        read = beside(&beside(&read, "expectedIPs", json!(addresses.read)), "ports", json!(ports.read));
        let Form::Endpoint(mut endpoint) = self.strict(&meta.read, &json!({"spec": read}))? else {
            return None;
        };
        if node.is_none() {
            endpoint.node = None;
        }
        if interface.is_none() {
            endpoint.interface = None;
        }
        let may_have = |field: &str, is_whole: bool| !is_whole || (given(field).is_none() && !spec.is_whole);
        let more_addresses = may_have("expectedIPs", addresses.is_whole);
        let gap = EntityGap {
            labels: endpoint.labels.clone(),
            has_more_labels: !meta.is_whole
                || may_have("profiles", profiles.is_some() || given("profiles").is_none()),
            inherits: !endpoint.profiles.is_empty(),
            has_more_addresses: more_addresses,
            has_more_ports: may_have("ports", ports.is_whole) || (more_addresses && !ports.read.is_empty()),
            ..EntityGap::none(EntityKinds::HOST)
        };
        mark_if(gap.has_more_labels, &mut endpoint.labels);
        Some(Partial { form: Form::Endpoint(endpoint), gap: gap.into_gap() })
    }

    /// Of which pod it is: the world closes that one. Where it is not known, it may be any of the namespace.
    fn workload_endpoint(&mut self) -> Option<Partial> {
        let pod = self.raw.get("spec")?.get("pod")?.as_str().filter(|pod| !pod.is_empty())?;
        if !self.is_read(&json!({"spec": {"pod": pod}})) {
            return None;
        }
        let endpoint = Endpoint::new(EndpointId::workload(self.key.namespace()?.clone(), pod));
        Some(Partial { form: Form::Endpoint(Box::new(endpoint)), gap: None })
    }
}

/// `object` with another field.
fn beside(object: &Value, field: &str, value: Value) -> Value {
    super::parts::with(object.clone(), field, value)
}

fn mark_if(is_on: bool, labels: &mut Labels) {
    if is_on {
        mark(labels);
    }
}

/// Fields of metadata that say nothing of labels.
const METADATA: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "annotations",
    "ownerReferences",
    "finalizers",
    "generation",
    "uid",
    "resourceVersion",
    "selfLink",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "clusterName",
];
