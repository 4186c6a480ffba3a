//! From L4 tables to nodes: leaves, lists of runs, and pages.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use portcullis_core::backend::{Inspected, LoggedEvents, LowerError};
use portcullis_core::ir::{DecisionId, L4Table, L4TableId, PortMap, Snapshot};
use portcullis_core::verdict::Verdict;

use super::Image;
use crate::layout::{Action, Event, Index, Node, PAGE_WORDS, Page, RUNS, Runs};
use crate::write::Write;

/// What a list of lists holds.
const MOST_RUNS: usize = RUNS * RUNS;

/// A table as the maps have it, and what it uses.
#[derive(Clone, Debug)]
pub(super) struct LoadedTable {
    pub(super) node: Node,
    runs: Vec<u32>,
    pages: Vec<u32>,
    pub(super) decisions: BTreeMap<DecisionId, u32>,
}

/// A function of a value: each node is that of values up to and including the number beside it. No two neighbours are the
/// same, and the last number is the greatest value.
#[derive(Clone, Debug, Default)]
struct Ranges(Vec<(u32, Node)>);

impl Ranges {
    fn push(&mut self, last: u32, node: Node) {
        match self.0.last_mut() {
            Some(before) if before.1 == node => before.0 = last,
            _ => self.0.push((last, node)),
        }
    }

    /// The part from `first` to `last`.
    fn part(&self, first: u32, last: u32) -> Self {
        let begin = self.0.partition_point(|(end, _)| *end < first);
        let mut part = Self::default();
        for (end, node) in self.0.iter().skip(begin) {
            part.push(last.min(*end), *node);
            if *end >= last {
                break;
            }
        }
        part
    }
}

impl Image {
    /// The number of a table for one user more.
    pub(super) fn table(&mut self, id: L4TableId, snapshot: &Snapshot) -> Result<u32, LowerError> {
        if let Some(number) = self.tables.share(id) {
            return Ok(number);
        }
        let table = snapshot.tables.lookup(id).ok_or(LowerError::invalid())?;
        let mut loaded =
            LoadedTable { node: Node(0), runs: Vec::new(), pages: Vec::new(), decisions: BTreeMap::new() };
        loaded.node = self.table_node(table, &mut loaded, snapshot)?;
        let number = self.next_table;
        self.next_table = number.wrapping_add(1);
        self.tables.insert(id, number, loaded);
        Ok(number)
    }

    /// One user of a table less.
    pub(super) fn release_table(&mut self, number: u32) {
        let Some(table) = self.tables.release(number) else { return };
        for slot in table.runs {
            if self.runs.release(slot) {
                self.arrays.runs.give_back(slot, 1);
            }
        }
        for slot in table.pages {
            if self.pages.release(slot) {
                self.arrays.pages.give_back(slot, 1);
            }
        }
        for slot in table.decisions.into_values() {
            if self.decisions.release(slot).is_some() {
                self.arrays.decisions.give_back(slot, 1);
            }
        }
    }

    /// A list by protocol and key where that is enough. Otherwise first by protocol, then by source port, then by key.
    fn table_node(
        &mut self,
        table: &L4Table,
        loaded: &mut LoadedTable,
        snapshot: &Snapshot,
    ) -> Result<Node, LowerError> {
        let other = self.leaf(table.other, loaded, snapshot)?;
        let mut maps: BTreeMap<&PortMap, Ranges> = BTreeMap::new();
        for map in table.port_maps() {
            let mut keys = Ranges::default();
            for interval in map.intervals() {
                keys.push(interval.last.into(), self.leaf(interval.decision, loaded, snapshot)?);
            }
            maps.insert(map, keys);
        }
        if let Some(flat) = flattened(table, &maps, other)
            && flat.0.len() <= MOST_RUNS
        {
            return self.few(&flat, Index::Protocol, loaded);
        }
        let mut nodes: BTreeMap<&PortMap, Node> = BTreeMap::new();
        for (map, keys) in &maps {
            nodes.insert(map, self.by_halves(keys, Index::Key, loaded)?);
        }
        let mut by_protocol = Ranges::default();
        for (protocol, by_source) in &table.protocols {
            let protocol = u32::from(protocol.0);
            let mut sources = Ranges::default();
            for source in by_source {
                sources.push(source.last.into(), *nodes.get(&source.keys).ok_or(LowerError::invalid())?);
            }
            let node = self.by_halves(&sources, Index::Source, loaded)?;
            push_before(&mut by_protocol, protocol, other);
            by_protocol.push(last_of(protocol), node);
        }
        push_before(&mut by_protocol, PROTOCOLS, other);
        if by_protocol.0.len() <= MOST_RUNS {
            return self.few(&by_protocol, Index::Protocol, loaded);
        }
        let mut page = [0; PAGE_WORDS];
        for (protocol, word) in (0..).zip(&mut page) {
            let at = by_protocol.part(last_of(protocol), last_of(protocol));
            *word = at.0.first().ok_or(LowerError::invalid())?.1.0;
        }
        self.page(page, Index::Protocol, loaded)
    }

    /// Ranges of 16 bits: a list, or a page by the upper byte of lists and pages by the lower one.
    fn by_halves(
        &mut self,
        ranges: &Ranges,
        by: Index,
        loaded: &mut LoadedTable,
    ) -> Result<Node, LowerError> {
        if ranges.0.len() <= MOST_RUNS {
            return self.few(ranges, by, loaded);
        }
        let mut upper = [0; PAGE_WORDS];
        for (high, word) in (0..).zip(&mut upper) {
            let first = high << 8;
            let part = ranges.part(first, first | 0xff);
            if part.0.len() <= MOST_RUNS {
                *word = self.few(&part, by, loaded)?.0;
                continue;
            }
            let mut lower = [0; PAGE_WORDS];
            let mut rest = part.0.iter();
            let mut run = rest.next().ok_or(LowerError::invalid())?;
            for (value, word) in (first..).zip(&mut lower) {
                if run.0 < value {
                    run = rest.next().ok_or(LowerError::invalid())?;
                }
                *word = run.1.0;
            }
            *word = self.page(lower, by, loaded)?.0;
        }
        self.page(upper, by, loaded)
    }

    /// A leaf, a list, or a list of lists, for at most [`MOST_RUNS`] ranges.
    fn few(&mut self, ranges: &Ranges, by: Index, loaded: &mut LoadedTable) -> Result<Node, LowerError> {
        if let [(_, only)] = ranges.0[..] {
            return Ok(only);
        }
        if ranges.0.len() <= RUNS {
            return self.list(ranges, by, loaded);
        }
        let lists = ranges.0.len().div_ceil(RUNS);
        let mut upper = Ranges::default();
        for chunk in ranges.0.chunks(ranges.0.len().div_ceil(lists)) {
            let last = chunk.last().ok_or(LowerError::invalid())?.0;
            let node = self.few(&Ranges(chunk.to_vec()), by, loaded)?;
            upper.push(last, node);
        }
        self.list(&upper, by, loaded)
    }

    fn list(&mut self, ranges: &Ranges, by: Index, loaded: &mut LoadedTable) -> Result<Node, LowerError> {
        let mut runs: Runs = [0; 2 * RUNS];
        let (starts, nodes) = runs.split_at_mut(RUNS);
        // No value reaches a start that is not used.
        starts.fill(u32::MAX);
        for (start, (last, _)) in starts.iter_mut().zip(&ranges.0) {
            *start = last.saturating_add(1);
        }
        if let Some(unused) = starts.get_mut(ranges.0.len().saturating_sub(1)) {
            *unused = u32::MAX;
        }
        for (place, (_, node)) in nodes.iter_mut().zip(&ranges.0) {
            *place = node.0;
        }
        let slot = match self.runs.share(&runs) {
            Some(slot) => slot,
            None => {
                let slot = self.take(|arrays| &mut arrays.runs, 1)?;
                self.writes.push(Write::Runs(slot, Box::new(runs)));
                self.runs.insert(slot, runs);
                slot
            }
        };
        loaded.runs.push(slot);
        Ok(Node::runs(by, slot))
    }

    fn page(&mut self, page: Page, by: Index, loaded: &mut LoadedTable) -> Result<Node, LowerError> {
        let slot = match self.pages.share(&page) {
            Some(slot) => slot,
            None => {
                let slot = self.take(|arrays| &mut arrays.pages, 1)?;
                self.writes.push(Write::Page(slot, Box::new(page)));
                self.pages.insert(slot, page);
                slot
            }
        };
        loaded.pages.push(slot);
        Ok(Node::page(by, slot))
    }

    fn leaf(
        &mut self,
        id: DecisionId,
        loaded: &mut LoadedTable,
        snapshot: &Snapshot,
    ) -> Result<Node, LowerError> {
        let slot = match loaded.decisions.get(&id) {
            Some(slot) => *slot,
            None => {
                let slot = match self.decisions.share(id) {
                    Some(slot) => slot,
                    None => self.new_decision(id, snapshot)?,
                };
                loaded.decisions.insert(id, slot);
                slot
            }
        };
        self.decisions.get(slot).map(|(node, _)| *node).ok_or(LowerError::invalid())
    }

    fn new_decision(&mut self, id: DecisionId, snapshot: &Snapshot) -> Result<u32, LowerError> {
        let decision = snapshot.decisions.lookup(id).ok_or(LowerError::invalid())?;
        let slot = self.take(|arrays| &mut arrays.decisions, 1)?;
        let action = match (decision.verdict, self.inspected) {
            (Verdict::Deny, _) | (Verdict::Inspect, Inspected::Drop) => Action::Deny,
            (Verdict::Continue, _) => Action::Continue,
            // An exemption is good for its own hook only (Calico `felix/rules/static.go`).
            _ if decision.cause.is_exemption() => Action::AllowHere,
            _ => Action::Allow,
        };
        let sent = !decision.logs.is_empty()
            || match self.events {
                LoggedEvents::LogRules => false,
                LoggedEvents::Denied => action == Action::Deny,
                // All, and what this version does not know.
                _ => true,
            };
        let event = if sent { Event::Sent } else { Event::Silent };
        let decision = Arc::new(decision.clone());
        self.writes.push(Write::Decision(slot, Arc::clone(&decision)));
        self.decisions.insert(id, slot, (Node::leaf(action, event, slot), decision));
        Ok(slot)
    }
}

/// How many there are.
const PROTOCOLS: u32 = 256;

/// The last value of a protocol in a list by protocol and key.
const fn last_of(protocol: u32) -> u32 {
    (protocol << 16) | 0xffff
}

/// Adds `other` for the protocols before this one that are not there yet.
fn push_before(ranges: &mut Ranges, protocol: u32, other: Node) {
    let next = ranges.0.last().map_or(0, |(last, _)| last.saturating_add(1));
    if let Some(before) = (protocol << 16).checked_sub(1)
        && next <= before
    {
        ranges.push(before, other);
    }
}

/// The whole table by protocol and key, unless it asks for source ports.
fn flattened(table: &L4Table, maps: &BTreeMap<&PortMap, Ranges>, other: Node) -> Option<Ranges> {
    let mut flat = Ranges::default();
    for (protocol, by_source) in &table.protocols {
        let [only] = &by_source[..] else { return None };
        let protocol = u32::from(protocol.0);
        push_before(&mut flat, protocol, other);
        maps.get(&only.keys)?.0.iter().for_each(|(last, node)| flat.push((protocol << 16) | last, *node));
    }
    push_before(&mut flat, PROTOCOLS, other);
    Some(flat)
}
