//! Metadata as the API server reads it in strict mode.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_core::quote::quoted;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::{ObjectMeta, OwnerReference, texts};

/// Reads metadata as the API server does in strict mode: unknown fields and wrong types are errors.
pub(crate) fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = Option::<StrictMeta>::deserialize(deserializer)?;
    Ok(meta.map(ObjectMeta::from).unwrap_or_default())
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
            uid: meta.uid,
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
pub(super) fn is_timestamp(text: &str) -> bool {
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
