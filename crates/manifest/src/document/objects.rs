//! The objects of a document: itself, or the items of its lists.

use alloc::sync::Arc;
use core::ops::ControlFlow;

use portcullis_k8s::{Kind, Relevance};

use super::{Document, Sink, TypeMeta};
use crate::de;
use crate::error::{ReadError, ReadErrorKind};
use crate::other::{self, Others};
use crate::tree::build::repeated_reason;
use crate::tree::{Node, NodeKind, Tree};

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
