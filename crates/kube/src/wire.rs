//! The parts of answers that are about the answer, not about an object.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) object: &'a RawValue,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(default)]
    pub(crate) metadata: ListMeta,
    #[serde(borrow, default)]
    pub(crate) items: Option<Vec<&'a RawValue>>,
}

/// The metadata of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ListMeta {
    pub(crate) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(crate) next: Option<String>,
}

/// What following an object needs of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Head {
    pub(crate) metadata: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Meta {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// What a bookmark needs beside its version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Bookmark {
    /// Whether it ends the objects that a streaming list begins with. Source: kubernetes
    /// `staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go`, `InitialEventsAnnotationKey`.
    pub(crate) fn ends_list(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        let ends = annotations.and_then(|annotations| annotations.get("k8s.io/initial-events-end"));
        ends.is_some_and(|value| value == "true")
    }

    pub(crate) fn version(self) -> Option<String> {
        self.metadata.resource_version.filter(|version| !version.is_empty())
    }
}

/// A refusal of the server, in an answer of its own or in a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) code: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Option<Vec<Cause>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: Option<String>,
}

impl Status {
    /// The most precise machine-readable reason.
    pub(crate) fn cause(&self) -> String {
        let causes = self.details.iter().flat_map(|details| details.causes.iter().flatten());
        let precise = causes.filter_map(|cause| cause.reason.clone()).next();
        precise.or_else(|| self.reason.clone()).unwrap_or_default()
    }
}

/// The groups of a server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GroupList {
    pub(crate) groups: Option<Vec<Group>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) versions: Option<Vec<GroupVersion>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct GroupVersion {
    pub(crate) group_version: String,
}

/// The kinds of a version of a group.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResourceList {
    pub(crate) resources: Option<Vec<Resource>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Resource {
    /// The plural, in paths; with a `/` for a part of an object.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) verbs: Option<Vec<String>>,
}
