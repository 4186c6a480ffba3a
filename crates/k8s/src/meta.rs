//! Object metadata: reading it, checking it, and giving the object its identity.

mod identity;
mod strict;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_core::label::Labels;
use portcullis_core::quote::quoted;
use serde::{Deserialize, Deserializer};

use crate::context::Context;
use crate::path::Path;
use crate::repeats::Texts;
use crate::validate;

pub(crate) use identity::Identity;
pub(crate) use strict::strict;

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
    /// The unique id that the server gave it: another one for an object that was deleted and made again.
    pub uid: Option<String>,
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

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placing {
    /// They do.
    Namespaced,
    /// They belong to the cluster.
    Cluster,
}

/// Reads labels or annotations. A value that is null counts as the empty text, which is how the server reads it: Go's
/// JSON decoder leaves the zero value of a string. Source: `encoding/json`, Unmarshal, on null.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let texts = Option::<Texts<Option<String>>>::deserialize(deserializer)?;
    Ok(texts.map(|texts| texts.0.into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect()))
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
