//! Objects, and how they are taken out of a document.

use alloc::sync::Arc;
use core::fmt;
use core::ops::ControlFlow;

use portcullis_k8s::{Kind, Relevance};
use serde::Deserialize;

use crate::de;
use crate::error::{ReadError, ReadErrorKind};
use crate::other::{self, Others};
use crate::position::Position;
use crate::tree::build::repeated_reason;
use crate::tree::{Node, NodeKind, Tree};

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

/// Gives out the objects of a document: itself, or the items if it is a list. Documents that are no Kubernetes
/// objects are counted instead.
pub(crate) fn objects(
    tree: Tree,
    file: &Arc<str>,
    others: &mut Others,
    sink: &mut Sink<'_>,
) -> ControlFlow<()> {
    if let Some(what) = other::recognise(tree.node(0), file) {
        if let Some(object) = other::held_object(what, tree.node(0)) {
            let reason = "the document holds objects, and is none of `v1` `List` itself; put `apiVersion: v1`, `kind: List` \
                          and `items` around them, or `---` between them";
            let error = ReadError::new(ReadErrorKind::Object, reason).with_file(Arc::clone(file));
            return sink(Err(error.with_position(Some(object.position())).with_object(object.identity())));
        }
        others.add(what, tree.node(0), file);
        return ControlFlow::Continue(());
    }
    if let Some(problem) = tree.problem() {
        return sink(Err(problem.clone().with_file(Arc::clone(file))));
    }
    let conflicts = tree.repeats().iter().filter(|repeat| !repeat.is_same);
    let refused = conflicts.map(|repeat| repeat.first).collect();
    let tree = Arc::new(tree);
    let mut objects = Objects { tree: &tree, file, refused, sink };
    let root = tree.node(0);
    match root.kind() {
        NodeKind::Null => {}
        NodeKind::Sequence => {
            for (number, item) in root.items().enumerate() {
                objects.visit(item.index(), &format!("[{number}]"), None)?;
            }
        }
        _ => objects.visit(0, "", None)?,
    }
    ControlFlow::Continue(())
}

struct Objects<'o, 's> {
    tree: &'o Arc<Tree>,
    file: &'o Arc<str>,
    refused: Arc<[u32]>,
    sink: &'o mut Sink<'s>,
}

impl Objects<'_, '_> {
    /// Gives out what is at `index`. Lists in lists are rare but legal; their depth is that of the tree, which is
    /// limited.
    fn visit(&mut self, index: u32, path: &str, inherited: Option<&TypeMeta>) -> ControlFlow<()> {
        let tree = Arc::clone(self.tree);
        let node = tree.node(index);
        if node.kind() != NodeKind::Mapping {
            let reason = format!("expected an object, found {}", de::describe(node));
            return self.refuse(node, node, path, reason);
        }
        if let Some(error) = self.doubtful_head(node) {
            return (self.sink)(Err(error));
        }
        let mut names = [None; 2];
        let parents = [inherited.map(|it| &*it.api_version), inherited.map(|it| &*it.kind)];
        for ((name, parent), key) in names.iter_mut().zip(parents).zip(["apiVersion", "kind"]) {
            let value = node.get(key).filter(|value| !value.is_null());
            let text = match value {
                Some(value) if value.as_str().is_none() => {
                    let reason = format!("expected text, found {}", de::describe(value));
                    return self.refuse(node, value, key, reason);
                }
                Some(value) => value.as_str(),
                None => parent,
            };
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                return self.refuse(node, node, path, format!("missing field `{key}`"));
            };
            *name = Some(text);
        }
        let [Some(api_version), Some(kind)] = names else { return ControlFlow::Continue(()) };
        let Some(item_kind) = list_of(api_version, kind, node) else {
            let document = Document {
                file: Arc::clone(self.file),
                tree: Arc::clone(self.tree),
                root: index,
                inherited: inherited.cloned(),
                refused: Arc::clone(&self.refused),
                overlooked: Vec::new(),
            };
            return (self.sink)(Ok(document));
        };
        let items = match node.get("items") {
            Some(items) if items.kind() == NodeKind::Sequence => items.items(),
            None => return ControlFlow::Continue(()),
            Some(items) if items.is_null() => return ControlFlow::Continue(()),
            Some(items) => {
                let reason = format!("expected a list, found {}", de::describe(items));
                return self.refuse(node, items, "items", reason);
            }
        };
        let type_meta = (!item_kind.is_empty())
            .then(|| TypeMeta { api_version: api_version.into(), kind: item_kind.into() });
        for (number, item) in items.enumerate() {
            self.visit(item.index(), &format!("items[{number}]"), type_meta.as_ref())?;
        }
        ControlFlow::Continue(())
    }

    /// The kind of an object must be beyond doubt.
    fn doubtful_head(&self, object: Node<'_>) -> Option<ReadError> {
        let is_doubtful = |key: u32| self.refused.binary_search(&key).is_ok();
        let head = ["apiVersion", "kind", "items"];
        let entry = object
            .entries()
            .take_while(|_| !self.refused.is_empty())
            .find(|entry| head.contains(&entry.key()) && is_doubtful(entry.key_cell()))?;
        let repeats = self.tree.repeats_inside(entry.key_cell());
        let second = repeats.iter().find(|repeat| !repeat.is_same)?.second;
        let error =
            ReadError::new(ReadErrorKind::DuplicateKey, repeated_reason(entry.key(), entry.key_position()))
                .with_file(Arc::clone(self.file))
                .with_position(Some(self.tree.key_position(second)))
                .with_object(object.identity())
                .with_field(entry.key());
        Some(error)
    }

    fn refuse(&mut self, object: Node<'_>, node: Node<'_>, field: &str, reason: String) -> ControlFlow<()> {
        let error = ReadError::new(ReadErrorKind::Object, reason)
            .with_file(Arc::clone(self.file))
            .with_position(Some(node.position()))
            .with_object(object.identity())
            .with_field(field);
        (self.sink)(Err(error))
    }
}

/// For a list, the kind of its items, empty if each has its own.
///
/// A custom kind may end in `List` as well, but lists have no name. A list of a kind that matters is one all the same.
fn list_of<'k>(api_version: &str, kind: &'k str, node: Node<'_>) -> Option<&'k str> {
    let item_kind = kind.strip_suffix("List")?;
    if item_kind.is_empty() {
        return Some(item_kind);
    }
    let matters = || matches!(Kind::of(api_version, item_kind), Relevance::Relevant(_) | Relevance::Foreign);
    let metadata = node.get("metadata");
    let has_name = || {
        ["name", "generateName"]
            .iter()
            .any(|key| metadata.and_then(|metadata| metadata.get(key)).is_some_and(|name| !name.is_null()))
    };
    (node.get("items").is_some() && (matters() || !has_name())).then_some(item_kind)
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
