//! Object metadata: reading it, checking it, and giving the object its identity.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_core::label::{Labels, Name};
use portcullis_core::quote::quoted;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::context::Context;
use crate::error::ObjectRef;
use crate::path::Path;
use crate::validate::{self, Check};

/// The part of an object's metadata that matters to policy. Unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// The object's name.
    pub name: Option<String>,
    /// The beginning of a name that the API server completes when the object is created.
    pub generate_name: Option<String>,
    /// The namespace; missing means `default` for kinds that have one (decision D17).
    pub namespace: Option<String>,
    /// The labels.
    #[serde(deserialize_with = "texts")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The annotations. Only their spelling is checked.
    #[serde(deserialize_with = "texts")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The objects that this one belongs to.
    pub owner_references: Option<Vec<OwnerReference>>,
    /// The names of those who must agree to its deletion. Only their spelling is checked.
    pub finalizers: Option<Vec<String>>,
    /// When the object was or will be deleted, if that was asked for. Only read of objects that are not policies.
    pub deletion_timestamp: Option<String>,
    /// Which one it is of those whose names begin alike and are left to the server; 0 or 1 for the first.
    #[serde(skip)]
    pub(crate) ordinal: u32,
}

/// A reference to an object that owns another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version of the owner's kind.
    pub api_version: Option<String>,
    /// The owner's kind.
    pub kind: Option<String>,
    /// The owner's name, in the same namespace.
    pub name: Option<String>,
    /// The owner's unique id.
    pub uid: Option<String>,
    /// Whether this owner manages the object.
    pub controller: Option<bool>,
}

/// As [`ObjectMeta`], refusing what the API server does not know in strict mode.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "fields that only their type is checked of")]
struct StrictMeta {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "texts")]
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<StrictOwner>>,
    finalizers: Option<Vec<String>>,
    generation: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
    self_link: Option<String>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    deletion_grace_period_seconds: Option<i64>,
    managed_fields: Option<Vec<IgnoredAny>>,
    // Printed by servers before 1.24 and before 1.16.
    cluster_name: Option<String>,
    initializers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "fields that only their type is checked of")]
struct StrictOwner {
    api_version: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    controller: Option<bool>,
    block_owner_deletion: Option<bool>,
}

/// Reads labels or annotations. A value that is null counts as the empty text, which is how the server reads it: Go's
/// JSON decoder leaves the zero value of a string. Source: `encoding/json`, Unmarshal, on null.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let texts = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?;
    Ok(texts.map(|texts| texts.into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect()))
}

/// Reads metadata as the API server does in strict mode: unknown fields and wrong types are errors.
pub(crate) fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = Option::<StrictMeta>::deserialize(deserializer)?;
    Ok(meta.map(ObjectMeta::from).unwrap_or_default())
}

impl From<StrictMeta> for ObjectMeta {
    fn from(meta: StrictMeta) -> Self {
        Self {
            name: meta.name,
            generate_name: meta.generate_name,
            namespace: meta.namespace,
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: meta
                .owner_references
                .map(|owners| owners.into_iter().map(OwnerReference::from).collect()),
            finalizers: meta.finalizers,
            deletion_timestamp: None,
            ordinal: 0,
        }
    }
}

impl From<StrictOwner> for OwnerReference {
    fn from(owner: StrictOwner) -> Self {
        Self {
            api_version: owner.api_version,
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
            controller: owner.controller,
        }
    }
}

/// A point in time as the API writes it (RFC 3339). Only its spelling matters.
struct Timestamp;

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_timestamp(&text) {
            Ok(Self)
        } else {
            Err(serde::de::Error::custom(format!(
                "{} is not a time like `2024-01-31T12:00:00Z`",
                quoted(&text)
            )))
        }
    }
}

/// Whether `text` is an RFC 3339 time.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        let part = bytes.get(from..to)?;
        part.iter().try_fold(0u32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(*b - b'0')))
    };
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let within = |value: Option<u32>, low: u32, high: u32| value.is_some_and(|v| low <= v && v <= high);
    let days = match (number(0, 4), number(5, 7)) {
        (Some(_), Some(4 | 6 | 9 | 11)) => 30,
        (Some(y), Some(2)) if y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) => 29,
        (Some(_), Some(2)) => 28,
        (Some(_), Some(_)) => 31,
        _ => return false,
    };
    let fixed = is(4, b'-')
        && within(number(5, 7), 1, 12)
        && is(7, b'-')
        && within(number(8, 10), 1, days)
        && is(10, b'T')
        && within(number(11, 13), 0, 23)
        && is(13, b':')
        && within(number(14, 16), 0, 59)
        && is(16, b':')
        && within(number(17, 19), 0, 59);
    let mut at = 19;
    // The server's language reads a comma as well.
    if is(at, b'.') || is(at, b',') {
        let digits = bytes.iter().skip(20).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        at = 20 + digits;
    }
    let zone = if is(at, b'Z') {
        bytes.len() == at + 1
    } else {
        (is(at, b'+') || is(at, b'-'))
            && within(number(at + 1, at + 3), 0, 24)
            && is(at + 3, b':')
            && within(number(at + 4, at + 6), 0, 60)
            && bytes.len() == at + 6
    };
    fixed && zone
}

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placing {
    /// They do.
    Namespaced,
    /// They belong to the cluster.
    Cluster,
}

/// The checked identity of an object.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its namespace; `None` for objects of the cluster.
    pub(crate) namespace: Option<Name>,
    /// Its name.
    pub(crate) name: Name,
}

impl Identity {
    /// The namespace of a namespaced object.
    pub(crate) fn namespace(&self) -> Name {
        self.namespace.clone().unwrap_or_else(|| Name::new(DEFAULT_NAMESPACE))
    }
}

/// The namespace of namespaced objects that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

impl ObjectMeta {
    /// How messages call this object, right or wrong.
    pub(crate) fn reference(&self, kind: &str, placing: Placing) -> ObjectRef {
        let namespace = match placing {
            Placing::Namespaced => Some(self.namespace_or_default().into()),
            Placing::Cluster => None,
        };
        ObjectRef { kind: kind.into(), namespace, name: self.shown_name() }
    }

    fn namespace_or_default(&self) -> &str {
        self.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
    }

    /// The name, or for an object that leaves it to the server the given beginning and a `*`, which no real name
    /// contains, and the number of those that begin alike from the second on.
    fn shown_name(&self) -> String {
        match (self.name.as_deref(), self.generate_name.as_deref()) {
            (Some(name), _) if !name.is_empty() => name.into(),
            (_, Some(prefix)) if !prefix.is_empty() && self.ordinal > 1 => {
                format!("{prefix}*#{}", self.ordinal)
            }
            (_, Some(prefix)) if !prefix.is_empty() => format!("{prefix}*"),
            _ => String::new(),
        }
    }

    /// Whether the object leaves its name to the server.
    pub(crate) fn is_generated(&self) -> bool {
        self.name.as_deref().unwrap_or_default().is_empty()
            && !self.generate_name.as_deref().unwrap_or_default().is_empty()
    }

    /// Checks all metadata and returns the identity; `None` when an error was noted.
    ///
    /// `name_rule` is the spelling rule for names of the kind. An object with `generateName` and without `name` is
    /// accepted, as the server does, and is called by the given beginning and a `*`.
    /// Source: kubernetes `apimachinery/pkg/api/validation/objectmeta.go`.
    pub(crate) fn identify(
        &self,
        placing: Placing,
        name_rule: fn(&str) -> Check,
        cx: &mut Context<'_>,
    ) -> Option<Identity> {
        let before = cx.error_count();
        let metadata = Path::root("metadata");
        let shown = self.shown_name();
        if shown.is_empty() {
            cx.error(&metadata.field("name"), "a name is required");
        } else if !self.is_generated()
            && let Err(reason) = name_rule(&shown)
        {
            cx.error(&metadata.field("name"), format!("{} {reason}", quoted(&shown)));
        }
        if let Some(prefix) = self.generate_name.as_deref().filter(|p| !p.is_empty()) {
            // The server appends letters and digits, so one hyphen at the end is fine.
            let rest = prefix
                .strip_suffix('-')
                .filter(|r| !r.is_empty())
                .map_or_else(|| prefix.into(), |r| format!("{r}a"));
            if let Err(reason) = name_rule(&rest) {
                cx.error(&metadata.field("generateName"), format!("{} {reason}", quoted(prefix)));
            }
            if self.is_generated() {
                cx.warn(
                    &metadata.field("generateName"),
                    format!("the name is not known before the server makes it, shown as {}", quoted(&shown)),
                );
            }
        }
        let namespace = match placing {
            Placing::Namespaced => {
                let namespace = self.namespace_or_default();
                if let Err(reason) = validate::dns_label(namespace) {
                    cx.error(&metadata.field("namespace"), format!("{} {reason}", quoted(namespace)));
                }
                Some(cx.name(namespace))
            }
            Placing::Cluster => {
                if let Some(namespace) = self.namespace.as_deref().filter(|n| !n.is_empty()) {
                    cx.warn(
                        &metadata.field("namespace"),
                        format!("objects of this kind have no namespace, {} is ignored", quoted(namespace)),
                    );
                }
                None
            }
        };
        check_labels(self.labels.as_ref(), &metadata.field("labels"), cx);
        (cx.error_count() == before).then(|| Identity { namespace, name: cx.name(&shown) })
    }

    /// As [`ObjectMeta::identify`], and checks the parts that do not matter to policy as well. For policies, where
    /// what the API server refuses is refused here.
    pub(crate) fn identify_strict(
        &self,
        placing: Placing,
        name_rule: fn(&str) -> Check,
        cx: &mut Context<'_>,
    ) -> Option<Identity> {
        let before = cx.error_count();
        let identity = self.identify(placing, name_rule, cx);
        self.check_rest(&Path::root("metadata"), cx);
        identity.filter(|_| cx.error_count() == before)
    }

    fn check_rest(&self, metadata: &Path<'_>, cx: &mut Context<'_>) {
        /// The most that keys and values of annotations may take together, in bytes.
        const ANNOTATIONS_MAX: usize = 256 * 1024;
        if let Some(annotations) = &self.annotations {
            let path = metadata.field("annotations");
            for key in annotations.keys() {
                if let Err(reason) = validate::label_key(&key.to_lowercase()) {
                    cx.error(&path.key(key), reason);
                }
            }
            let size: usize = annotations.iter().map(|(k, v)| k.len().saturating_add(v.len())).sum();
            if size > ANNOTATIONS_MAX {
                cx.error(&path, format!("{size} bytes are more than the {ANNOTATIONS_MAX} allowed"));
            }
        }
        let mut controllers = 0usize;
        for (i, owner) in self.owner_references.iter().flatten().enumerate() {
            let path = metadata.field("ownerReferences");
            let path = path.index(i);
            let parts = [
                ("apiVersion", &owner.api_version),
                ("kind", &owner.kind),
                ("name", &owner.name),
                ("uid", &owner.uid),
            ];
            for (field, part) in parts {
                if part.as_deref().unwrap_or_default().is_empty() {
                    cx.error(&path.field(field), "must not be empty");
                }
            }
            if owner.controller == Some(true) {
                controllers = controllers.saturating_add(1);
                if controllers > 1 {
                    cx.error(&path.field("controller"), "only one owner can be the controller");
                }
            }
        }
        for (i, finalizer) in self.finalizers.iter().flatten().enumerate() {
            if let Err(reason) = validate::label_key(finalizer) {
                let path = metadata.field("finalizers");
                cx.error(&path.index(i), format!("{} {reason}", quoted(finalizer)));
            }
        }
    }

    /// The labels, with shared texts. Call [`ObjectMeta::identify`] first: it checks them.
    pub(crate) fn shared_labels(&self, cx: &mut Context<'_>) -> Labels {
        shared_labels(self.labels.as_ref(), cx)
    }
}

/// A label map with shared texts.
pub(crate) fn shared_labels(labels: Option<&BTreeMap<String, String>>, cx: &mut Context<'_>) -> Labels {
    labels.into_iter().flatten().map(|(k, v)| (cx.name(k), cx.name(v))).collect()
}

/// Checks the spelling of label keys and values.
pub(crate) fn check_labels(labels: Option<&BTreeMap<String, String>>, path: &Path<'_>, cx: &mut Context<'_>) {
    for (key, value) in labels.into_iter().flatten() {
        if let Err(reason) = validate::label_key(key) {
            cx.error(&path.key(key), format!("the label key {reason}"));
        }
        if let Err(reason) = validate::label_value(value) {
            cx.error(&path.key(key), format!("the label value {} {reason}", quoted(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::names::Names;

    fn identify(json: serde_json::Value, placing: Placing) -> Result<(String, usize), String> {
        let meta = strict(json).map_err(|e| e.to_string())?;
        let mut names = Names::default();
        let mut cx = Context::new(&mut names, meta.reference("Thing", placing));
        let identity = meta.identify_strict(placing, validate::dns_subdomain, &mut cx);
        let (identity, warnings) = cx
            .finish(identity)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let namespace = identity.namespace.as_deref().unwrap_or("-").to_string();
        Ok((format!("{namespace}/{}", identity.name), warnings.len()))
    }

    #[test]
    fn names_and_namespaces_have_defaults() {
        let ok = |v, p| identify(v, p).unwrap();
        assert_eq!(ok(serde_json::json!({"name": "a"}), Placing::Namespaced), ("default/a".into(), 0));
        assert_eq!(ok(serde_json::json!({"name": "a", "namespace": ""}), Placing::Namespaced).0, "default/a");
        assert_eq!(ok(serde_json::json!({"name": "a", "namespace": "n"}), Placing::Namespaced).0, "n/a");
        assert_eq!(
            ok(serde_json::json!({"name": "a", "namespace": "n"}), Placing::Cluster),
            ("-/a".into(), 1)
        );
        assert_eq!(ok(serde_json::json!({"generateName": "a-"}), Placing::Cluster), ("-/a-*".into(), 1));
    }

    #[test]
    fn wrong_metadata_is_refused() {
        for (json, part) in [
            (serde_json::json!({}), "metadata.name: a name is required"),
            (serde_json::json!({"name": ""}), "metadata.name"),
            (serde_json::json!({"name": "A"}), "metadata.name: `A` must be a DNS subdomain"),
            (serde_json::json!({"name": "a", "namespace": "a.b"}), "metadata.namespace: `a.b`"),
            (serde_json::json!({"generateName": "A-"}), "metadata.generateName"),
            (serde_json::json!({"name": "a", "labels": {"": "x"}}), "metadata.labels[]"),
            (
                serde_json::json!({"name": "a", "labels": {"a": "x y"}}),
                "metadata.labels[a]: the label value `x y`",
            ),
            (serde_json::json!({"name": "a", "labels": {"a": 1}}), "invalid type"),
            (serde_json::json!({"name": "a", "annotations": {"a b": "x"}}), "metadata.annotations[a b]"),
            (serde_json::json!({"name": "a", "annotations": {"a": "x".repeat(262_144)}}), "262145 bytes"),
            (serde_json::json!({"name": "a", "lables": {}}), "unknown field"),
            (serde_json::json!({"name": "a", "Labels": {}}), "unknown field"),
            (serde_json::json!({"name": 5}), "invalid type"),
            (serde_json::json!({"name": "a", "creationTimestamp": "yesterday"}), "is not a time"),
            (serde_json::json!({"name": "a", "finalizers": ["a b"]}), "metadata.finalizers[0]"),
            (serde_json::json!({"name": "a", "ownerReferences": [{}]}), "metadata.ownerReferences[0].uid"),
        ] {
            let error = identify(json.clone(), Placing::Namespaced).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn everything_a_server_returns_is_known() {
        let json = serde_json::json!({
            "name": "a", "namespace": "n", "uid": "1", "resourceVersion": "5", "generation": 1,
            "creationTimestamp": "2024-02-29T10:00:00Z", "deletionTimestamp": null, "selfLink": "/x",
            "deletionGracePeriodSeconds": 3, "managedFields": [{"manager": "kubectl"}],
            "annotations": {"Example.COM/x": null}, "finalizers": ["a/b"], "labels": null, "clusterName": "",
            "initializers": {"pending": [{"name": "x"}]},
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u",
                "controller": true, "blockOwnerDeletion": true}],
        });
        assert_eq!(identify(json, Placing::Namespaced).unwrap(), ("n/a".into(), 0));
    }

    #[test]
    fn null_in_labels_and_annotations_is_the_empty_text() {
        let json =
            serde_json::json!({"name": "a", "labels": {"a": null, "b": "c"}, "annotations": {"d": null}});
        for meta in [strict(json.clone()).unwrap(), ObjectMeta::deserialize(json).unwrap()] {
            let labels: Vec<_> = meta.labels.as_ref().unwrap().iter().collect();
            assert_eq!(labels, [(&"a".to_string(), &String::new()), (&"b".to_string(), &"c".to_string())]);
            assert_eq!(meta.annotations.unwrap()["d"], "");
        }
    }

    #[test]
    fn times() {
        for good in ["2024-01-31T12:00:00Z", "2024-02-29T00:00:00.123+01:00", "2024-12-31T23:59:59,5-11:30"] {
            assert!(is_timestamp(good), "{good}");
        }
        for bad in [
            "",
            "2024-01-31",
            "2023-02-29T00:00:00Z",
            "2024-01-31T12:00:00",
            "2024-13-01T00:00:00Z",
            "2024-01-31T24:00:00Z",
            "2024-01-31t12:00:00Z",
            "2024-01-31T12:00:00.Z",
            "2024-01-31T12:00:00Zx",
        ] {
            assert!(!is_timestamp(bad), "{bad}");
        }
    }
}
