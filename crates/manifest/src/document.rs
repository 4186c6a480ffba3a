//! Objects, and how they are taken out of a document.

mod objects;

use alloc::sync::Arc;
use core::fmt;
use core::ops::ControlFlow;

use serde::Deserialize;

use crate::de;
use crate::error::{ReadError, ReadErrorKind};
use crate::position::Position;
use crate::tree::build::repeated_reason;
use crate::tree::{Node, Tree};

pub(crate) use objects::objects;

/// One object of a manifest: a document, or an item of a list.
///
/// It has a kind and an API version; those of an item of a typed list (`PodList`) may come from the list.
#[derive(Clone)]
pub struct Document {
    file: Arc<str>,
    tree: Arc<Tree>,
    root: u32,
    inherited: Option<TypeMeta>,
    /// Keys whose value is doubtful, because they occur twice with different ones; by cell, in order.
    refused: Arc<[u32]>,
    /// Those of them that are of no account; in order.
    overlooked: Vec<u32>,
}

/// What receives objects and errors, and says whether to go on.
pub(crate) type Sink<'s> = dyn FnMut(Result<Document, ReadError>) -> ControlFlow<()> + 's;

/// API version and kind, for items of typed lists.
#[derive(Clone)]
struct TypeMeta {
    api_version: Arc<str>,
    kind: Arc<str>,
}

impl Document {
    /// The file as the caller named it, or `stdin`.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The file, shared.
    #[must_use]
    pub fn shared_file(&self) -> Arc<str> {
        Arc::clone(&self.file)
    }

    /// Where the object begins.
    #[must_use]
    pub fn position(&self) -> Position {
        self.root().position()
    }

    /// The object.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        self.tree.node(self.root)
    }

    /// The API version, for example `networking.k8s.io/v1`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        let inherited = self.inherited.as_ref().map(|inherited| &*inherited.api_version);
        self.root().get_str("apiVersion").or(inherited).unwrap_or_default()
    }

    /// The kind, for example `NetworkPolicy`.
    #[must_use]
    pub fn kind(&self) -> &str {
        let inherited = self.inherited.as_ref().map(|inherited| &*inherited.kind);
        self.root().get_str("kind").or(inherited).unwrap_or_default()
    }

    /// The name, if the object has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.root().get("metadata")?.get_str("name")
    }

    /// The namespace, if the object names one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.root().get("metadata")?.get_str("namespace")
    }

    /// The object as messages name it: `kind namespace/name`.
    #[must_use]
    pub fn identity(&self) -> String {
        identity(self.kind(), self.root())
    }

    /// Where the value at `path` begins, or where its deepest ancestor that exists does; see [`Node::locate`].
    #[must_use]
    pub fn locate(&self, path: &str) -> Position {
        self.root().locate(path)
    }

    /// Reads the object into a type.
    ///
    /// Types are strict: no number becomes text, no text a number, no float an integer. A field that is null counts as
    /// absent; null is an error inside a list (source: the API server takes it for a zero value there, which in a rule
    /// list allows everything), and as a value of a map whose type has no word for it. `#[serde(flatten)]` and untagged enums work, but lose
    /// the position of what is wrong inside them.
    ///
    /// # Errors
    /// The first value that does not fit the type, with its path and position.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ReadError> {
        self.deserialize_with(T::deserialize)
    }

    /// As [`Document::deserialize`], by a function that takes a deserializer.
    pub(crate) fn deserialize_with<'a, T>(
        &'a self,
        read: impl FnOnce(de::Value<'a>) -> Result<T, de::Error>,
    ) -> Result<T, ReadError> {
        let refused = de::Refused { keys: &self.refused, overlooked: &self.overlooked };
        de::with_node(self.root(), refused, read).map_err(|error| {
            let (kind, position, field, reason) = error.into_parts();
            ReadError::new(kind, reason)
                .with_file(self.shared_file())
                .with_position(Some(position.unwrap_or_else(|| self.position())))
                .with_object(Some(self.identity()))
                .with_field(field)
        })
    }

    /// That no key occurs twice with different values: for callers that read [`Document::root`], which has only the
    /// first of them. [`Document::deserialize`] refuses them where they are read.
    ///
    /// # Errors
    /// The first of them, with both places.
    pub fn check_keys(&self) -> Result<(), ReadError> {
        let repeats = self.tree.repeats_inside(self.root);
        let Some(repeat) = repeats.iter().find(|repeat| !repeat.is_same) else { return Ok(()) };
        let first = self.tree.key_position(repeat.first);
        let reason = repeated_reason(self.tree.key_text(repeat.first), first);
        Err(self.repeat_error(reason, repeat.second).with_field(self.root().path_to(repeat.first)))
    }

    /// Whether any mapping of the object has a key twice.
    pub(crate) fn has_repeated_keys(&self) -> bool {
        !self.tree.repeats_inside(self.root).is_empty()
    }

    /// Takes the first of two different values where a key with a path like these occurs twice: they are of no account.
    pub(crate) fn overlook(&mut self, is_of_no_account: impl Fn(&str) -> bool) {
        let conflicts = || self.tree.repeats_inside(self.root).iter().filter(|repeat| !repeat.is_same);
        // A path is as costly as the mapping is long; with so many, nobody meant any of them.
        if conflicts().count() > CONFLICTS {
            return;
        }
        self.overlooked = conflicts()
            .map(|repeat| repeat.first)
            .filter(|first| is_of_no_account(&self.root().path_to(*first)))
            .collect();
    }

    /// What there is to say about keys that occur twice, once the object itself was accepted or passed over.
    pub(crate) fn repeated_keys(&self) -> Vec<ReadError> {
        let repeats = self.tree.repeats_inside(self.root);
        let say = |repeat: &crate::tree::Repeat| {
            let path = self.root().path_to(repeat.first);
            let name = self.tree.key_text(repeat.first);
            let mut reason = repeated_reason(name, self.tree.key_position(repeat.first));
            reason.push_str(if repeat.is_same {
                ", with the same value"
            } else {
                ", with another value; policy does not depend on it"
            });
            self.repeat_error(reason, repeat.second).with_field(path)
        };
        let mut said: Vec<ReadError> = repeats.iter().take(REPEATS).map(say).collect();
        if let Some(next) = repeats.get(REPEATS) {
            let more = repeats.len().saturating_sub(REPEATS);
            said.push(self.repeat_error(format!("{more} more duplicate keys"), next.second));
        }
        said
    }

    fn repeat_error(&self, reason: String, cell: u32) -> ReadError {
        ReadError::new(ReadErrorKind::DuplicateKey, reason)
            .with_file(self.shared_file())
            .with_position(Some(self.tree.key_position(cell)))
            .with_object(Some(self.identity()))
    }

    /// The error that says why the meaning of `field` is refused, with the position of that field. The field may be
    /// empty, for the object as a whole.
    #[must_use]
    pub fn refuse(&self, field: &str, reason: &str) -> ReadError {
        ReadError::new(ReadErrorKind::Meaning, reason)
            .with_file(self.shared_file())
            .with_position(Some(self.locate(field)))
            .with_object(Some(self.identity()))
            .with_field(field)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({}:{} {:?})", self.file, self.position(), self.root())
    }
}

impl Node<'_> {
    /// The object at this node as messages name it, as far as it can be told.
    pub(crate) fn identity(self) -> Option<String> {
        let kind = self.get_str("kind").filter(|kind| !kind.is_empty())?;
        Some(identity(kind, self))
    }
}

fn identity(kind: &str, node: Node<'_>) -> String {
    let metadata = node.get("metadata");
    let text = |key| metadata.and_then(|metadata| metadata.get_str(key)).filter(|text| !text.is_empty());
    let Some(name) = text("name") else { return kind.to_owned() };
    match text("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Conflicting keys of one object beyond which none is overlooked.
const CONFLICTS: usize = 1000;

/// Repeated keys of one object that are told one by one.
const REPEATS: usize = 20;
