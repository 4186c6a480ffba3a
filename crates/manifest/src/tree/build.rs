//! Making a tree from the events of a parser, with every check that does not depend on the notation.

mod merge;
mod repeats;

use alloc::collections::BTreeSet;
use std::collections::HashMap;

use portcullis_core::quote::quoted;

use super::path::{Segment, push};
use super::{Cell, CellKind, Tree};
use crate::error::{ReadError, ReadErrorKind};
use crate::limits::Limits;
use crate::position::Position;
use crate::scalar::{self, Scalar};

pub(crate) use repeats::repeated_reason;

/// A tree under construction.
///
/// Never recurses. The first thing wrong with the content (as opposed to a limit, which stops at once) is kept until
/// the document is complete, so that the error can name the object it is in.
#[derive(Debug)]
pub(crate) struct Builder<'l> {
    limits: &'l Limits,
    tree: Tree,
    frames: Vec<Frame>,
    /// The keys of all open mappings; each frame knows where its own begin.
    keys: Vec<u32>,
    anchors: HashMap<usize, Anchor>,
    /// Cells so far, with what aliases stand for counted each time.
    expanded: u64,
    /// The keys that were left out although their value differs.
    conflicts: BTreeSet<u32>,
    /// The keys that were kept in their place, each with the last one that was left out.
    doubtful: HashMap<u32, u32>,
    problem: Option<(ReadError, u32)>,
}

/// An open list or mapping.
#[derive(Debug)]
struct Frame {
    cell: u32,
    is_mapping: bool,
    /// A mapping whose last key has no value yet.
    has_key: bool,
    has_merge: bool,
    first_key: usize,
    count: u32,
    /// Levels of lists and mappings inside, this one included.
    height: u32,
    expanded_before: u64,
    anchor: usize,
}

/// What an anchor names.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    cell: u32,
    expanded: u64,
    height: u32,
    is_complete: bool,
}

/// What encloses the next value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// Nothing: the document itself.
    Document,
    Sequence,
    Mapping,
}

impl<'l> Builder<'l> {
    /// A tree for a document of about `bytes` bytes.
    pub(crate) fn new(limits: &'l Limits, bytes: usize) -> Self {
        let tree = Tree {
            text: String::with_capacity(bytes / 2),
            cells: Vec::with_capacity(bytes / 10),
            ..Tree::default()
        };
        Self {
            limits,
            tree,
            frames: Vec::new(),
            keys: Vec::new(),
            anchors: HashMap::new(),
            expanded: 0,
            conflicts: BTreeSet::new(),
            doubtful: HashMap::new(),
            problem: None,
        }
    }

    /// What the next value will be part of.
    pub(crate) fn container(&self) -> Container {
        match self.frames.last() {
            None => Container::Document,
            Some(frame) if frame.is_mapping => Container::Mapping,
            Some(_) => Container::Sequence,
        }
    }

    /// Adds a scalar of the given type; in key position, a key. `anchor` is 0 for none.
    pub(crate) fn scalar(
        &mut self,
        kind: Scalar,
        text: &str,
        position: Position,
        anchor: usize,
    ) -> Result<(), ReadError> {
        let is_key = self.expects_key();
        let kind = match kind {
            Scalar::Null => CellKind::Null,
            Scalar::Bool(true) => CellKind::True,
            Scalar::Bool(false) => CellKind::False,
            Scalar::Int => CellKind::Int,
            Scalar::Float => CellKind::Float,
            Scalar::Merge if is_key => CellKind::Merge,
            Scalar::String | Scalar::Merge => CellKind::String,
        };
        let cell = if is_key { self.key(kind, text, position)? } else { self.add(kind, text, position)? };
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor { cell, expanded: 1, height: 0, is_complete: true });
        }
        self.value_done(is_key, cell, 0);
        Ok(())
    }

    /// Opens a list.
    pub(crate) fn start_sequence(&mut self, position: Position, anchor: usize) -> Result<(), ReadError> {
        self.start(CellKind::Sequence, position, anchor)
    }

    /// Opens a mapping.
    pub(crate) fn start_mapping(&mut self, position: Position, anchor: usize) -> Result<(), ReadError> {
        self.start(CellKind::Mapping, position, anchor)
    }

    /// Closes the innermost list or mapping.
    pub(crate) fn end(&mut self) -> Result<(), ReadError> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        if frame.is_mapping {
            self.note_repeats();
            self.merge()?;
        }
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        self.keys.truncate(frame.first_key);
        let end = self.next_index()?;
        if let Some(cell) = self.tree.cells.get_mut(frame.cell as usize) {
            cell.a = end;
            cell.b = frame.count;
        }
        if frame.anchor != 0 {
            let expanded = self.expanded - frame.expanded_before;
            let anchor = Anchor { cell: frame.cell, expanded, height: frame.height, is_complete: true };
            self.anchors.insert(frame.anchor, anchor);
        }
        let is_key = self.expects_key();
        self.value_done(is_key, frame.cell, frame.height);
        Ok(())
    }

    /// Adds a reference to an anchored value.
    pub(crate) fn alias(&mut self, anchor: usize, position: Position) -> Result<(), ReadError> {
        let target = self.anchors.get(&anchor).copied();
        let Some(target) = target.filter(|target| target.is_complete) else {
            let reason = "an alias inside the value that it names";
            return Err(ReadError::new(ReadErrorKind::Syntax, reason).with_position(Some(position)));
        };
        let is_key = self.expects_key();
        let cell = self.tree.cell(target.cell);
        if is_key {
            if target.height > 0 {
                self.refuse_key(position);
            }
            let text = self.tree.cell_text(cell).to_owned();
            let kind = if target.height > 0 { CellKind::String } else { cell.kind };
            let key = self.key(kind, &text, position)?;
            self.value_done(true, key, 0);
            return Ok(());
        }
        // What an alias stands for counts each time: a few lines could otherwise stand for billions of nodes.
        self.expanded = self.expanded.saturating_add(target.expanded);
        self.check_nodes(position)?;
        if self.depth().saturating_add(target.height) > self.limits.depth() {
            return Err(self.depth_error(position));
        }
        let index = self.push(Cell {
            line: position.line(),
            column: position.column(),
            kind: CellKind::Alias,
            a: target.cell,
            b: 0,
        })?;
        self.value_done(false, index, target.height);
        Ok(())
    }

    /// Notes something wrong with the content at `position`, unless something was noted already.
    pub(crate) fn refuse(&mut self, kind: ReadErrorKind, position: Position, reason: impl Into<Box<str>>) {
        if self.problem.is_none() {
            let error = ReadError::new(kind, reason).with_position(Some(position)).with_field(self.path());
            self.problem = Some((error, self.object_cell()));
        }
    }

    /// The finished tree, with what was wrong with it.
    pub(crate) fn finish(mut self) -> Tree {
        if let Some((error, object)) = self.problem.take() {
            self.tree.problem = Some(error.with_object(self.tree.node(object).identity()));
        }
        self.tree.repeats.sort_unstable_by_key(|repeat| (repeat.first, repeat.second));
        self.tree
    }

    /// Adds to `error`, which ended the document early, the object that it is in, as far as that was read.
    pub(crate) fn explain(mut self, error: ReadError) -> ReadError {
        let object = self.object_cell();
        let mut is_innermost = true;
        while let Some(frame) = self.frames.pop() {
            if is_innermost && frame.has_key {
                // A key without a value is left out.
                self.tree.cells.pop();
            }
            is_innermost = false;
            let end = u32::try_from(self.tree.cells.len()).unwrap_or(u32::MAX);
            if let Some(cell) = self.tree.cells.get_mut(frame.cell as usize) {
                cell.a = end;
            }
        }
        error.with_object(self.tree.node(object).identity())
    }

    /// The error for a document that nests too deeply.
    pub(crate) fn depth_error(&self, position: Position) -> ReadError {
        let reason = format!("nested deeper than {} levels", self.limits.depth());
        ReadError::new(ReadErrorKind::Depth, reason).with_position(Some(position))
    }

    fn start(&mut self, kind: CellKind, position: Position, anchor: usize) -> Result<(), ReadError> {
        if self.depth() >= self.limits.depth() {
            return Err(self.depth_error(position));
        }
        if self.expects_key() {
            self.refuse_key(position);
        }
        let expanded_before = self.expanded;
        let cell = self.add(kind, "", position)?;
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor { cell, expanded: 0, height: 0, is_complete: false });
        }
        self.frames.push(Frame {
            cell,
            is_mapping: kind == CellKind::Mapping,
            has_key: false,
            has_merge: false,
            first_key: self.keys.len(),
            count: 0,
            height: 1,
            expanded_before,
            anchor,
        });
        Ok(())
    }

    /// Adds a key. Whatever its notation, it becomes text: the text that the API server makes of it when it turns
    /// YAML into JSON (source: kubernetes-sigs/yaml yaml.go, convertToJSONableObject).
    fn key(&mut self, kind: CellKind, text: &str, position: Position) -> Result<u32, ReadError> {
        match kind {
            CellKind::True => self.add(CellKind::String, "true", position),
            CellKind::False => self.add(CellKind::String, "false", position),
            CellKind::Int => match scalar::int_value(text) {
                Some(value) => self.add(CellKind::String, &value.to_string(), position),
                None => self.add(CellKind::String, text, position),
            },
            CellKind::Null => {
                let reason = "a key must be text, this one is null";
                self.refuse(ReadErrorKind::Object, position, reason);
                self.add(CellKind::String, text, position)
            }
            CellKind::Float if float_key(text).is_some() => {
                self.add(CellKind::String, &float_key(text).unwrap_or_default(), position)
            }
            CellKind::Float => {
                let reason = format!("a key must be text, put {} in quotes", quoted(text));
                self.refuse(ReadErrorKind::Object, position, reason);
                self.add(CellKind::String, text, position)
            }
            other => self.add(other, text, position),
        }
    }

    fn refuse_key(&mut self, position: Position) {
        self.refuse(ReadErrorKind::Object, position, "a key must be text, not a list or a mapping");
    }

    fn expects_key(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.is_mapping && !frame.has_key)
    }

    fn value_done(&mut self, is_key: bool, cell: u32, height: u32) {
        let is_merge = self.tree.cell(cell).kind == CellKind::Merge;
        let Some(frame) = self.frames.last_mut() else { return };
        frame.height = frame.height.max(height.saturating_add(1));
        if is_key {
            frame.has_key = true;
            frame.has_merge |= is_merge;
            self.keys.push(cell);
        } else {
            frame.has_key = false;
            frame.count = frame.count.saturating_add(1);
        }
    }

    fn add(&mut self, kind: CellKind, text: &str, position: Position) -> Result<u32, ReadError> {
        self.expanded = self.expanded.saturating_add(1);
        self.check_nodes(position)?;
        let offset = self.tree.text.len();
        self.tree.text.push_str(text);
        let (Ok(a), Ok(b), Ok(_)) =
            (u32::try_from(offset), u32::try_from(text.len()), u32::try_from(self.tree.text.len()))
        else {
            let reason = "the text of the document is longer than 4 GiB";
            return Err(ReadError::new(ReadErrorKind::DocumentSize, reason).with_position(Some(position)));
        };
        self.push(Cell { line: position.line(), column: position.column(), kind, a, b })
    }

    fn push(&mut self, cell: Cell) -> Result<u32, ReadError> {
        let index = self.next_index()?;
        self.tree.cells.push(cell);
        Ok(index)
    }

    fn next_index(&self) -> Result<u32, ReadError> {
        u32::try_from(self.tree.cells.len())
            .map_err(|_| ReadError::new(ReadErrorKind::Nodes, "more keys and values than can be counted"))
    }

    fn check_nodes(&self, position: Position) -> Result<(), ReadError> {
        if self.expanded <= u64::from(self.limits.nodes()) {
            return Ok(());
        }
        let reason = format!("more than {} keys and values, aliases expanded", self.limits.nodes());
        Err(ReadError::new(ReadErrorKind::Nodes, reason).with_position(Some(position)))
    }

    fn depth(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    /// The path of the value that comes next; in key position, the path of the mapping.
    fn path(&self) -> String {
        let mut path = String::new();
        let base = usize::from(self.object_depth() == 2) * 2;
        for (depth, frame) in self.frames.iter().enumerate().skip(base) {
            if !frame.is_mapping {
                push(&mut path, &Segment::Index(frame.count as usize));
                continue;
            }
            if depth + 1 == self.frames.len() && !frame.has_key {
                break;
            }
            let end = self.frames.get(depth + 1).map_or(self.keys.len(), |inner| inner.first_key);
            if let Some(key) = end.checked_sub(1).filter(|last| *last >= frame.first_key)
                && let Some(key) = self.keys.get(key)
            {
                push(&mut path, &Segment::Key(self.tree.cell_text(self.tree.cell(*key)).into()));
            }
        }
        path
    }

    /// How many levels below the root the object begins: 2 for an item of a `List`, otherwise 0.
    fn object_depth(&self) -> usize {
        let [root, list, ..] = self.frames.as_slice() else { return 0 };
        let key = self.keys.get(list.first_key.saturating_sub(1));
        let in_items = root.is_mapping
            && !list.is_mapping
            && key.is_some_and(|key| self.tree.cell_text(self.tree.cell(*key)) == "items");
        if in_items && self.frames.len() > 2 { 2 } else { 0 }
    }

    fn object_cell(&self) -> u32 {
        self.frames.get(self.object_depth()).map_or(0, |frame| frame.cell)
    }
}

/// The text that the API server makes of a number with a fraction in key position, where it writes it without an
/// exponent (source: kubernetes-sigs/yaml yaml.go, convertToJSONableObject: the shortest text with 32 bits).
fn float_key(text: &str) -> Option<String> {
    let value = text.parse::<f32>().ok().filter(|value| (1e-4..1e20).contains(&value.abs()))?;
    Some(value.to_string())
}
