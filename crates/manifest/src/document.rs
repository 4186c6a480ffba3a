//! Objects, and how they are taken out of a document.

use alloc::sync::Arc;
use core::fmt;
use core::ops::ControlFlow;

use serde::Deserialize;

use crate::de;
use crate::error::{ReadError, ReadErrorKind};
use crate::position::Position;
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
        de::with_node(self.root(), read).map_err(|error| {
            let (position, field, reason) = error.into_parts();
            ReadError::new(ReadErrorKind::Object, reason)
                .with_file(self.shared_file())
                .with_position(Some(position.unwrap_or_else(|| self.position())))
                .with_object(Some(self.identity()))
                .with_field(field)
        })
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

/// Gives out the objects of a document: itself, or the items if it is a list.
pub(crate) fn objects(tree: Tree, file: &Arc<str>, sink: &mut Sink<'_>) -> ControlFlow<()> {
    let tree = Arc::new(tree);
    if tree.node(0).is_null() {
        return ControlFlow::Continue(());
    }
    Objects { tree: &tree, file, sink }.visit(0, "", None)
}

struct Objects<'o, 's> {
    tree: &'o Arc<Tree>,
    file: &'o Arc<str>,
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
        let Some(item_kind) = list_of(kind, node) else {
            let document = Document {
                file: Arc::clone(self.file),
                tree: Arc::clone(self.tree),
                root: index,
                inherited: inherited.cloned(),
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
/// A custom kind may end in `List` as well, but lists have no name.
fn list_of<'k>(kind: &'k str, node: Node<'_>) -> Option<&'k str> {
    let item_kind = kind.strip_suffix("List")?;
    if item_kind.is_empty() {
        return Some(item_kind);
    }
    let metadata = node.get("metadata");
    let has_name = ["name", "generateName"]
        .iter()
        .any(|key| metadata.and_then(|metadata| metadata.get(key)).is_some_and(|name| !name.is_null()));
    (!has_name && node.get("items").is_some()).then_some(item_kind)
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
