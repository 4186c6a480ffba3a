//! One document as a tree of values with positions.

use core::fmt;

use crate::error::ReadError;
use crate::position::Position;
use crate::scalar;

pub(crate) mod build;
mod path;

pub(crate) use path::{Segment, push};

/// A document: all cells in source order, all scalars in one text.
///
/// Flat, so that it is small (20 bytes a cell), quick to make, and dropped without recursion whatever its depth.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Tree {
    text: String,
    cells: Vec<Cell>,
    repeats: Vec<Repeat>,
    /// The first thing wrong with the content. It is told when the document turns out to be one that matters.
    problem: Option<ReadError>,
}

/// A key that an earlier entry of its mapping has as well.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Repeat {
    /// The cell of the key that is kept.
    pub(crate) first: u32,
    /// The cell of the key that is left out of the mapping.
    pub(crate) second: u32,
    /// Whether both have the same value, so that nothing is lost.
    pub(crate) is_same: bool,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq))]
struct Cell {
    line: u32,
    column: u32,
    kind: CellKind,
    /// Scalars: offset in the text. Collections: the index after the last cell inside. Aliases: the target.
    a: u32,
    /// Scalars: length in the text. Collections: how many items or entries, merged ones included.
    b: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CellKind {
    Null,
    False,
    True,
    Int,
    Float,
    String,
    Sequence,
    /// Cells alternate between keys, which are strings or `Merge`, and values.
    Mapping,
    // INVARIANT: `a` is the index of a complete cell that is not an alias and does not contain this one.
    Alias,
    /// The key `<<`. What it brings in is appended to the mapping as further entries.
    Merge,
    /// A key that an earlier entry has as well: this entry is left out.
    Repeated,
}

impl Tree {
    /// The value at `index`, aliases followed.
    pub(crate) fn node(&self, index: u32) -> Node<'_> {
        let cell = self.cell(index);
        let index = if cell.kind == CellKind::Alias { cell.a } else { index };
        Node { tree: self, index }
    }

    fn cell(&self, index: u32) -> Cell {
        self.cells.get(index as usize).copied().unwrap_or(Cell::NOTHING)
    }

    fn cell_text(&self, cell: Cell) -> &str {
        self.text.get(cell.a as usize..cell.a as usize + cell.b as usize).unwrap_or_default()
    }

    /// Every key that occurs twice in one mapping, in order.
    pub(crate) fn repeats(&self) -> &[Repeat] {
        &self.repeats
    }

    /// Those of them inside the value at `index`.
    pub(crate) fn repeats_inside(&self, index: u32) -> &[Repeat] {
        let place = |cell| self.repeats.partition_point(|repeat| repeat.first < cell);
        self.repeats.get(place(index)..place(self.after(index))).unwrap_or_default()
    }

    /// Where the key at `cell` stands.
    pub(crate) fn key_position(&self, cell: u32) -> Position {
        self.cell(cell).position()
    }

    /// The key at `cell`.
    pub(crate) fn key_text(&self, cell: u32) -> &str {
        self.cell_text(self.cell(cell))
    }

    /// The first thing wrong with the content, if anything is.
    pub(crate) const fn problem(&self) -> Option<&ReadError> {
        self.problem.as_ref()
    }

    /// The index of the cell after the one at `index` and all that is inside it.
    pub(crate) fn after(&self, index: u32) -> u32 {
        let cell = self.cell(index);
        match cell.kind {
            CellKind::Sequence | CellKind::Mapping => cell.a.max(index.saturating_add(1)),
            _ => index.saturating_add(1),
        }
    }
}

impl Cell {
    const NOTHING: Self = Self { line: 1, column: 1, kind: CellKind::Null, a: 0, b: 0 };

    const fn position(self) -> Position {
        Position::new(self.line, self.column)
    }
}

/// One value of a document: a scalar, a list or a mapping.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tree: &'a Tree,
    index: u32,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeKind {
    /// `null`, `~` or nothing at all.
    Null,
    /// A truth value; in YAML also `yes`, `no`, `on`, `off`, `y` and `n`.
    Bool,
    /// An integer.
    Int,
    /// Any other number.
    Float,
    /// Text.
    String,
    /// A list.
    Sequence,
    /// A mapping with text keys.
    Mapping,
}

/// One entry of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    key: &'a str,
    key_cell: u32,
    key_position: Position,
    value: Node<'a>,
}

impl<'a> Node<'a> {
    /// The type of the value.
    #[must_use]
    pub fn kind(self) -> NodeKind {
        match self.cell().kind {
            CellKind::Null | CellKind::Alias => NodeKind::Null,
            CellKind::False | CellKind::True => NodeKind::Bool,
            CellKind::Int => NodeKind::Int,
            CellKind::Float => NodeKind::Float,
            CellKind::String | CellKind::Merge | CellKind::Repeated => NodeKind::String,
            CellKind::Sequence => NodeKind::Sequence,
            CellKind::Mapping => NodeKind::Mapping,
        }
    }

    /// Where it begins. A list or mapping in block style begins at its first item or key.
    #[must_use]
    pub fn position(self) -> Position {
        self.cell().position()
    }

    /// Whether it is null.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.kind() == NodeKind::Null
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.cell().kind {
            CellKind::True => Some(true),
            CellKind::False => Some(false),
            _ => None,
        }
    }

    /// The integer, if it is one: at least the smallest `i64`, at most the largest `u64`.
    #[must_use]
    pub fn as_int(self) -> Option<i128> {
        let cell = self.cell();
        (cell.kind == CellKind::Int).then(|| scalar::int_value(self.tree.cell_text(cell))).flatten()
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_float(self) -> Option<f64> {
        let cell = self.cell();
        match cell.kind {
            #[expect(clippy::cast_precision_loss, reason = "a float is what the caller asked for")]
            CellKind::Int => self.as_int().map(|value| value as f64),
            CellKind::Float => Some(scalar::float_value(self.tree.cell_text(cell))),
            _ => None,
        }
    }

    /// The text, if the value is text. A number or truth value is not, however it is written.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        let cell = self.cell();
        (cell.kind == CellKind::String).then(|| self.tree.cell_text(cell))
    }

    /// A scalar as it is written, quotes and escapes resolved; empty for lists and mappings.
    #[must_use]
    pub fn source(self) -> &'a str {
        match self.kind() {
            NodeKind::Sequence | NodeKind::Mapping => "",
            _ => self.tree.cell_text(self.cell()),
        }
    }

    /// How many items or entries; 0 for a scalar.
    #[must_use]
    pub fn len(self) -> usize {
        match self.kind() {
            NodeKind::Sequence | NodeKind::Mapping => self.cell().b as usize,
            _ => 0,
        }
    }

    /// Whether there are no items or entries.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The items of a list, in order; nothing for other values.
    #[must_use]
    pub fn items(self) -> Items<'a> {
        let (next, end) = self.inside(CellKind::Sequence);
        Items { tree: self.tree, next, end }
    }

    /// The entries of a mapping in source order, merged ones last; nothing for other values.
    #[must_use]
    pub fn entries(self) -> Entries<'a> {
        let (next, end) = self.inside(CellKind::Mapping);
        Entries { tree: self.tree, next, end }
    }

    /// The value of `key` in a mapping.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        self.entries().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    /// The value of `key` in a mapping, if it is text.
    #[must_use]
    pub fn get_str(self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    /// Whether both values are equal, however they are written; the order of entries does not matter.
    ///
    /// Recurses to the depth of the tree, which is limited.
    pub(crate) fn is_same_as(self, other: Node<'_>) -> bool {
        let kind = self.kind();
        if kind != other.kind() || self.len() != other.len() {
            return false;
        }
        match kind {
            NodeKind::Sequence => self.items().zip(other.items()).all(|(one, other)| one.is_same_as(other)),
            NodeKind::Mapping => {
                let (mut ours, mut theirs): (Vec<_>, Vec<_>) =
                    (self.entries().collect(), other.entries().collect());
                ours.sort_by_key(|entry| entry.key);
                theirs.sort_by_key(|entry| entry.key);
                let is_same = |(one, other): (&Entry<'_>, &Entry<'_>)| {
                    one.key == other.key && one.value.is_same_as(other.value)
                };
                ours.iter().zip(&theirs).all(is_same)
            }
            NodeKind::Null => true,
            NodeKind::Bool => self.as_bool() == other.as_bool(),
            NodeKind::Int => self.as_int() == other.as_int(),
            NodeKind::Float | NodeKind::String => self.source() == other.source(),
        }
    }

    pub(crate) const fn index(self) -> u32 {
        self.index
    }

    pub(crate) const fn tree(self) -> &'a Tree {
        self.tree
    }

    fn cell(self) -> Cell {
        self.tree.cell(self.index)
    }

    fn inside(self, kind: CellKind) -> (u32, u32) {
        let cell = self.cell();
        if cell.kind == kind { (self.index + 1, cell.a) } else { (0, 0) }
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            NodeKind::Sequence => f.debug_list().entries(self.items()).finish(),
            NodeKind::Mapping => {
                f.debug_map().entries(self.entries().map(|entry| (entry.key, entry.value))).finish()
            }
            NodeKind::String => write!(f, "{:?}", self.source()),
            NodeKind::Null => f.write_str("null"),
            NodeKind::Bool => write!(f, "{}", self.as_bool().unwrap_or_default()),
            NodeKind::Int | NodeKind::Float => f.write_str(self.source()),
        }
    }
}

impl<'a> Entry<'a> {
    /// The key. A number or truth value in key position is the text the API server makes of it.
    #[must_use]
    pub const fn key(&self) -> &'a str {
        self.key
    }

    /// The cell of the key.
    pub(crate) const fn key_cell(&self) -> u32 {
        self.key_cell
    }

    /// Where the key begins.
    #[must_use]
    pub const fn key_position(&self) -> Position {
        self.key_position
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> Node<'a> {
        self.value
    }
}

/// The items of a list.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    tree: &'a Tree,
    next: u32,
    end: u32,
}

impl<'a> Iterator for Items<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        if self.next >= self.end {
            return None;
        }
        let item = self.tree.node(self.next);
        self.next = self.tree.after(self.next);
        Some(item)
    }
}

/// The entries of a mapping.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    tree: &'a Tree,
    next: u32,
    end: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        while self.next < self.end {
            let key_cell = self.next;
            let cell = self.tree.cell(key_cell);
            let value = key_cell.saturating_add(1);
            self.next = self.tree.after(value);
            if !matches!(cell.kind, CellKind::Merge | CellKind::Repeated) {
                let (key, key_position) = (self.tree.cell_text(cell), cell.position());
                return Some(Entry { key, key_cell, key_position, value: self.tree.node(value) });
            }
        }
        None
    }
}
