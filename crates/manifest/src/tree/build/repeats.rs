//! Keys that occur twice in one mapping.

use std::collections::HashMap;

use portcullis_core::quote::quoted;

use super::Builder;
use crate::error::{ReadError, ReadErrorKind};
use crate::position::Position;
use crate::tree::path::{Segment, push};
use crate::tree::{CellKind, Repeat, Tree};

impl Builder<'_> {
    /// Notes the keys that occur twice in the innermost mapping, and leaves all but the first of each out.
    ///
    /// The API server refuses them when it validates strictly, and keeping either one could lose a rule. So they are
    /// told: as errors where the values differ and are read, else as warnings.
    pub(super) fn note_repeats(&mut self) {
        let Some(frame) = self.frames.last() else { return };
        let keys = self.keys.get(frame.first_key..).unwrap_or_default();
        let found =
            if keys.len() <= 16 { few_repeats(&self.tree, keys) } else { many_repeats(&self.tree, keys) };
        for (first, second) in found {
            let (kept, left_out) = (self.tree.cell(first), self.tree.cell(second));
            if left_out.kind == CellKind::Merge {
                self.refuse_second_merge(kept.position(), left_out.position());
                continue;
            }
            let value = |key: u32| self.tree.node(key.saturating_add(1));
            // What is doubtful inside the value that goes makes all of it doubtful.
            let is_sound =
                |from: u32, value: u32| self.conflicts.range(from..self.tree.after(value)).next().is_none();
            let target = value(second).index();
            let is_same = is_sound(second, second.saturating_add(1))
                && is_sound(target, target)
                && value(first).is_same_as(value(second));
            if !is_same {
                self.conflicts.insert(second);
                self.doubtful.insert(first, second);
            }
            self.tree.repeats.push(Repeat { first, second, is_same });
            if let Some(cell) = self.tree.cells.get_mut(second as usize) {
                cell.kind = CellKind::Repeated;
            }
            if let Some(frame) = self.frames.last_mut() {
                frame.count = frame.count.saturating_sub(1);
            }
        }
    }

    /// YAML readers disagree on which of two merge keys wins.
    fn refuse_second_merge(&mut self, first: Position, second: Position) {
        if self.problem.is_some() {
            return;
        }
        let mut path = self.path();
        push(&mut path, &Segment::Key("<<".into()));
        let error = ReadError::new(ReadErrorKind::DuplicateKey, repeated_reason("<<", first))
            .with_position(Some(second))
            .with_field(path);
        self.problem = Some((error, self.object_cell()));
    }
}

/// What is said about a key that occurs twice.
pub(crate) fn repeated_reason(key: &str, first: Position) -> String {
    format!("duplicate key {}, first seen at {first}", quoted(key))
}

/// The keys that repeat an earlier one, each with the first of its name, by comparing all pairs.
fn few_repeats(tree: &Tree, keys: &[u32]) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for (index, second) in keys.iter().enumerate() {
        let cell = tree.cell(*second);
        let text = tree.cell_text(cell);
        let is_equal = |first: &&u32| {
            let first = tree.cell(**first);
            first.kind == cell.kind && tree.cell_text(first) == text
        };
        if let Some(first) = keys.iter().take(index).find(is_equal) {
            found.push((*first, *second));
        }
    }
    found
}

/// As [`few_repeats`], for large mappings.
fn many_repeats(tree: &Tree, keys: &[u32]) -> Vec<(u32, u32)> {
    let mut seen = HashMap::with_capacity(keys.len());
    let mut found = Vec::new();
    for key in keys {
        let cell = tree.cell(*key);
        let first = *seen.entry((cell.kind == CellKind::Merge, tree.cell_text(cell))).or_insert(*key);
        if first != *key {
            found.push((first, *key));
        }
    }
    found
}
