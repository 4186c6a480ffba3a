//! Field paths: how messages name a value, and how to find it again.

use core::fmt::Write;

use super::Node;
use crate::position::Position;

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(Box<str>),
    Index(usize),
}

/// Appends a step to a path: `.key`, `[key]` for a key that is not a plain name, `[3]` for an index.
pub(crate) fn push(path: &mut String, segment: &Segment) {
    match segment {
        Segment::Key(key) if is_plain(key) => {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
        }
        Segment::Key(key) => {
            path.push('[');
            path.push_str(key);
            path.push(']');
        }
        Segment::Index(index) => {
            // Writing to a string cannot fail.
            let _ = write!(path, "[{index}]");
        }
    }
}

impl Node<'_> {
    /// Where the value at `path` begins, or where its deepest ancestor that exists does.
    ///
    /// A path looks like `spec.ingress[0].from[1].ipBlock.cidr`. Keys with dots are found both as
    /// `metadata.labels[app.kubernetes.io/name]` and as `metadata.labels.app.kubernetes.io/name`.
    #[must_use]
    pub fn locate(self, path: &str) -> Position {
        let mut node = self;
        let mut rest = path;
        while let Some((next, after)) = step(node, rest) {
            node = next;
            rest = after;
        }
        node.position()
    }

    /// The path from here to the key at `cell`, which stands somewhere inside.
    pub(crate) fn path_to(self, cell: u32) -> String {
        let mut path = String::new();
        let mut node = self;
        while let Some((segment, is_there, value)) = toward(node, cell) {
            push(&mut path, &segment);
            if is_there {
                break;
            }
            node = value;
        }
        path
    }
}

/// The step from `node` toward `cell`, whether that is all of the way, and the value that the step leads to. Entries
/// that are left out of the mapping count here.
fn toward(node: Node<'_>, cell: u32) -> Option<(Segment, bool, Node<'_>)> {
    let (tree, is_mapping) = (node.tree(), node.kind() == super::NodeKind::Mapping);
    let end = tree.after(node.index());
    let mut next = node.index().saturating_add(1);
    let mut index = 0;
    while next < end {
        let value = if is_mapping { next.saturating_add(1) } else { next };
        let after = tree.after(value);
        if cell < after {
            let segment = if is_mapping {
                Segment::Key(tree.cell_text(tree.cell(next)).into())
            } else {
                Segment::Index(index)
            };
            return Some((segment, is_mapping && cell == next, Node { tree, index: value }));
        }
        next = after;
        index += 1;
    }
    None
}

/// The value that the first step of `path` leads to, and the rest of the path.
fn step<'a, 'p>(node: Node<'a>, path: &'p str) -> Option<(Node<'a>, &'p str)> {
    if let Some(inside) = path.strip_prefix('[') {
        if let Some((index, rest)) = inside.split_once(']')
            && let Ok(index) = index.parse::<usize>()
            && let Some(item) = node.items().nth(index)
        {
            return Some((item, rest));
        }
        return longest_key(node, inside, |rest| rest.strip_prefix(']'));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    longest_key(node, path, |rest| {
        (rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')).then_some(rest)
    })
}

/// The entry with the longest key that `path` begins with, when `end` accepts what follows the key.
fn longest_key<'a, 'p>(
    node: Node<'a>,
    path: &'p str,
    end: impl Fn(&'p str) -> Option<&'p str>,
) -> Option<(Node<'a>, &'p str)> {
    node.entries()
        .filter(|entry| !entry.key().is_empty())
        .filter_map(|entry| {
            let rest = end(path.strip_prefix(entry.key())?)?;
            Some((entry.key().len(), entry.value(), rest))
        })
        .max_by_key(|(length, _, _)| *length)
        .map(|(_, value, rest)| (value, rest))
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$'))
}
