//! Merge keys: what `<<` brings into a mapping.

use std::collections::{HashMap, HashSet};

use portcullis_core::quote::quoted;

use super::Builder;
use crate::error::{ReadError, ReadErrorKind};
use crate::position::Position;
use crate::tree::{Cell, CellKind, Repeat};

impl Builder<'_> {
    /// Appends what the merge keys of the innermost mapping bring in.
    ///
    /// A merged entry gives way to the mapping's own entry of that name when that one comes after the merge key. When
    /// it comes before, YAML readers disagree on which of the two wins (source: goyaml.v2/decode.go lets the later
    /// one win, the YAML 1.1 merge type the mapping's own), so that is refused.
    pub(super) fn merge(&mut self) -> Result<(), ReadError> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        if !frame.has_merge {
            return Ok(());
        }
        let own: Vec<u32> = self.keys.get(frame.first_key..).unwrap_or_default().to_vec();
        let order_of: HashMap<String, usize> = own
            .iter()
            .enumerate()
            .map(|(order, key)| (order, self.tree.cell(*key)))
            .filter(|(_, cell)| cell.kind == CellKind::String)
            .map(|(order, cell)| (self.tree.cell_text(cell).to_owned(), order))
            .collect();
        let mut taken: HashSet<String> = HashSet::new();
        let mut count = frame.count;
        let mut added: Vec<(Cell, u32, Option<u32>)> = Vec::new();
        for (order, key) in own.iter().enumerate() {
            let key_cell = self.tree.cell(*key);
            if key_cell.kind != CellKind::Merge {
                continue;
            }
            count = count.saturating_sub(1);
            for source in self.merge_sources(*key, key_cell.position()) {
                let entries: Vec<(u32, u32)> = self.entry_cells(source);
                for (entry_key, entry_value) in entries {
                    let name_cell = self.tree.cell(entry_key);
                    let name = self.tree.cell_text(name_cell);
                    let rival = order_of.get(name);
                    if rival.is_some_and(|rival| *rival < order) {
                        let reason =
                            format!("the merged key {} is set before the merge as well", quoted(name));
                        self.refuse(ReadErrorKind::DuplicateKey, key_cell.position(), reason);
                    } else if rival.is_none() && taken.insert(name.to_owned()) {
                        let second = self.doubtful.get(&entry_key).copied();
                        added.push((name_cell, self.tree.node(entry_value).index(), second));
                    }
                }
            }
        }
        for (key, target, second) in added {
            self.expanded = self.expanded.saturating_add(1);
            self.check_nodes(key.position())?;
            let first = self.push(key)?;
            // What is doubtful where it comes from is doubtful here.
            if let Some(second) = second {
                self.conflicts.insert(first);
                self.doubtful.insert(first, second);
                self.tree.repeats.push(Repeat { first, second, is_same: false });
            }
            self.push(Cell { kind: CellKind::Alias, a: target, b: 0, ..key })?;
            count = count.saturating_add(1);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.count = count;
        }
        Ok(())
    }

    /// The mappings that the merge key at `key` names: its value, or the items of its value.
    fn merge_sources(&mut self, key: u32, position: Position) -> Vec<u32> {
        let value = self.tree.node(key.saturating_add(1));
        let index = value.index();
        let candidates = match self.tree.cell(index).kind {
            CellKind::Sequence => value.items().map(|item| item.index()).collect(),
            _ => vec![index],
        };
        if candidates.iter().any(|candidate| self.tree.cell(*candidate).kind != CellKind::Mapping) {
            self.refuse(
                ReadErrorKind::Object,
                position,
                "the merge key `<<` needs a mapping or a list of mappings",
            );
            return Vec::new();
        }
        candidates
    }

    /// The key and value cells of a complete mapping, merge keys left out.
    fn entry_cells(&self, mapping: u32) -> Vec<(u32, u32)> {
        let mut cells = Vec::new();
        let mut next = mapping.saturating_add(1);
        while next < self.tree.cell(mapping).a {
            let value = next.saturating_add(1);
            if !matches!(self.tree.cell(next).kind, CellKind::Merge | CellKind::Repeated) {
                cells.push((next, value));
            }
            next = self.tree.after(value);
        }
        cells
    }
}
