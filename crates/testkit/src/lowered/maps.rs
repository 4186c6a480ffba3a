//! The maps as plain Rust values, written to as the kernel is and no further: sizes are kept, and nobody is forgiven.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis::ebpf::{Capacity, Write};
use portcullis::ir::DecisionEntry;
use portcullis::net::Cidr;

/// Words of one side of an endpoint, and where its parts begin.
pub const SIDE: usize = 30;
/// Where the flags of a side are, behind the programs of its hooks.
pub const FLAGS: usize = 9;
/// The flag of a side that an endpoint is on.
pub const PRESENT: u32 = 1;
/// The host endpoint for all interfaces covers the interface.
pub const COVERED: u32 = 1 << 7;
/// Programs of a workload's own hooks; a packet of its asks one of them. Any number of others may be asked in one run.
const OWN: usize = 2;
/// A projection that all classes are on row 0 of.
pub const NO_PROJECTION: u32 = u32::MAX;
/// Of a node that is no decision: it names a list of runs, not a page.
pub const RUNS: u32 = 1 << 27;
/// The slot that a node names.
pub const REFERENCE: u32 = 0x7ff_ffff;

/// The maps that writes go to.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    capacity: Option<Capacity>,
    /// Which side packets read.
    pub phase: u32,
    /// Both sides of the endpoint at each interface.
    pub endpoints: BTreeMap<u32, Vec<u32>>,
    /// Exact entries.
    pub addresses: BTreeMap<IpAddr, [u32; 2]>,
    /// Entries of the LPM maps.
    pub networks: BTreeMap<Cidr, [u32; 2]>,
    programs: BTreeMap<u32, [u32; 8]>,
    rows: BTreeMap<u32, [u16; 256]>,
    cells: BTreeMap<u32, [u32; 16]>,
    runs: BTreeMap<u32, [u32; 16]>,
    pages: BTreeMap<u32, [u32; 256]>,
    /// What each counter counted.
    pub counters: BTreeMap<u32, u64>,
    /// What each decision meant when its counter was last set to zero.
    pub meanings: BTreeMap<u32, DecisionEntry>,
}

/// How many slots of each array can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    /// Programs.
    pub programs: u32,
    /// Projections.
    pub projections: u32,
    /// Lines of 16 cells.
    pub lines: u32,
    /// Lists of runs.
    pub runs: u32,
    /// Pages.
    pub pages: u32,
    /// Decisions.
    pub decisions: u32,
}

impl Maps {
    /// Empty maps of these sizes.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity: Some(capacity), ..Self::default() }
    }

    /// Their sizes.
    pub fn capacity(&self) -> Capacity {
        self.capacity.unwrap()
    }

    /// Carries out one write. Waiting is the caller's part.
    pub fn write(&mut self, write: &Write) {
        let capacity = self.capacity();
        let in_array = |slot: u32, size: u32, map: &str| assert!(slot < size, "{map} has no slot {slot}");
        match write {
            Write::GracePeriod => {}
            Write::Runs(slot, runs) => {
                in_array(*slot, capacity.runs, "runs");
                self.runs.insert(*slot, **runs);
            }
            Write::Page(slot, page) => {
                in_array(*slot, capacity.pages, "pages");
                self.pages.insert(*slot, **page);
            }
            Write::Rows(slot, rows) => {
                in_array(*slot, capacity.projections * capacity.classes.div_ceil(256), "rows");
                self.rows.insert(*slot, **rows);
            }
            Write::Cells(slot, cells) => {
                in_array(*slot, capacity.cells.div_ceil(16), "cells");
                self.cells.insert(*slot, **cells);
            }
            Write::Program(slot, words) => {
                in_array(*slot, capacity.programs, "programs");
                self.programs.insert(*slot, *words);
            }
            Write::Decision(slot, decision) => {
                in_array(*slot, capacity.decisions, "counters");
                self.counters.insert(*slot, 0);
                self.meanings.insert(*slot, DecisionEntry::clone(decision));
            }
            Write::Endpoint(interface, words) => {
                // An element that is there is written word by word, under packets that read more than one of them.
                if let (Some(old), Some(new)) = (self.endpoints.get(interface), words) {
                    let read = self.phase as usize * SIDE;
                    let [old, new] = [&old[read..read + SIDE], &new[read..read + SIDE]];
                    let is_there = old[FLAGS] & new[FLAGS] & PRESENT != 0;
                    assert!(!is_there || old[OWN..] == new[OWN..], "{interface}: {old:?} becomes {new:?}");
                }
                match words {
                    Some(words) => self.endpoints.insert(*interface, words.to_vec()),
                    None => self.endpoints.remove(interface),
                };
                in_hash(self.endpoints.len(), capacity.endpoints, "endpoints");
            }
            Write::Address(net, sides) => self.address(*net, *sides),
            Write::Flip(side) => {
                assert!(*side < 2);
                self.phase = *side;
            }
            other => panic!("{other:?} is not modelled"),
        }
    }

    fn address(&mut self, net: Cidr, sides: Option<[u32; 2]>) {
        let capacity = self.capacity();
        let v4 = net.address().is_ipv4();
        if net.prefix() == if v4 { 32 } else { 128 } {
            match sides {
                Some(sides) => self.addresses.insert(net.address(), sides),
                None => self.addresses.remove(&net.address()),
            };
            let held = self.addresses.keys().filter(|address| address.is_ipv4() == v4).count();
            let size = if v4 { capacity.addresses_v4 } else { capacity.addresses_v6 };
            in_hash(held, size, "addresses");
        } else {
            match sides {
                Some(sides) => self.networks.insert(net, sides),
                None => self.networks.remove(&net),
            };
            let held = self.networks.keys().filter(|net| net.address().is_ipv4() == v4).count();
            in_hash(held, if v4 { capacity.networks_v4 } else { capacity.networks_v6 }, "networks");
        }
    }

    /// All workloads that are covered are so by the same programs, at any time: those of one state. Whether there are several.
    pub fn check_cover(&self) -> u64 {
        let read = self.phase as usize * SIDE;
        let sides = self.endpoints.values().map(|words| &words[read..read + SIDE]);
        let covered: Vec<_> =
            sides.filter(|side| side[FLAGS] & (PRESENT | COVERED) == PRESENT | COVERED).collect();
        for pair in covered.windows(2) {
            assert_eq!(pair[0][OWN..FLAGS], pair[1][OWN..FLAGS]);
        }
        u64::from(covered.len() > 1)
    }

    /// The longest network around an address.
    pub fn longest(&self, address: &IpAddr) -> Option<[u32; 2]> {
        let around = self.networks.iter().filter(|(net, _)| net.contains(address));
        around.max_by_key(|(net, _)| net.prefix()).map(|(_, sides)| *sides)
    }

    /// The words of a program. What an array does not hold yet is zero.
    pub fn program(&self, slot: u32) -> [u32; 8] {
        self.programs.get(&slot).copied().unwrap_or_default()
    }

    /// The row of a class in a projection.
    pub fn row(&self, projection: u32, class: u32) -> u32 {
        let block = projection * self.capacity().classes.div_ceil(256) + (class >> 8);
        self.rows.get(&block).map_or(0, |rows| rows[(class & 0xff) as usize].into())
    }

    /// What a cell holds.
    pub fn cell(&self, cell: u32) -> u32 {
        self.cells.get(&(cell / 16)).map_or(0, |cells| cells[(cell % 16) as usize])
    }

    /// A word of a page.
    pub fn word(&self, page: u32, index: u8) -> u32 {
        self.pages.get(&page).map_or(0, |page| page[usize::from(index)])
    }

    /// The node of the last run that does not start behind `value`.
    pub fn run(&self, list: u32, value: u32) -> u32 {
        let Some(list) = self.runs.get(&list) else { return 0 };
        let (starts, nodes) = list.split_at(8);
        nodes[starts[..7].iter().filter(|start| **start <= value).count()]
    }

    /// How many lines of cells were ever written.
    pub fn lines(&self) -> u32 {
        self.cells.len() as u32
    }

    /// Everything that a packet could come to from any endpoint, on either side. Cells count up to the end of their line.
    pub fn reached(&self) -> Reached {
        let mut programs = BTreeSet::new();
        for words in self.endpoints.values() {
            for side in words.chunks(SIDE) {
                programs.extend(side[..FLAGS].iter().copied().filter(|slot| *slot != 0));
            }
        }
        // Rows of classes that no address has are left as they are.
        let sides = self.addresses.values().chain(self.networks.values()).flatten();
        let classes: BTreeSet<u32> = sides.map(|class| class & 0xffff).chain([0]).collect();
        let (mut projections, mut lines) = (BTreeSet::new(), BTreeSet::new());
        let mut nodes = Vec::new();
        for slot in &programs {
            for [source, destination, columns, cells] in self.program(*slot).as_chunks::<4>().0 {
                if *columns == 0 {
                    nodes.push(*cells);
                    continue;
                }
                projections.extend([*source, *destination].into_iter().filter(|p| *p != NO_PROJECTION));
                let rows = |projection: u32| match projection {
                    NO_PROJECTION => 1,
                    _ => classes.iter().map(|class| self.row(projection, *class)).max().unwrap() + 1,
                };
                for cell in *cells..cells + rows(*source) * columns {
                    lines.insert(cell / 16);
                    nodes.push(self.cell(cell));
                }
            }
        }
        let (mut runs, mut pages, mut decisions) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        while let Some(node) = nodes.pop() {
            let slot = node & REFERENCE;
            if node >> 30 == 0 {
                decisions.insert(slot);
            } else if node & RUNS != 0 {
                if runs.insert(slot) {
                    // The last of the starts is not used.
                    nodes.extend(self.runs.get(&slot).into_iter().flat_map(|list| &list[8..]));
                }
            } else if pages.insert(slot) {
                nodes.extend((0..=u8::MAX).map(|index| self.word(slot, index)));
            }
        }
        decisions.remove(&0);
        let count = |set: BTreeSet<u32>| set.len() as u32;
        Reached {
            programs: count(programs),
            projections: count(projections),
            lines: count(lines),
            runs: count(runs),
            pages: count(pages),
            decisions: count(decisions),
        }
    }
}

fn in_hash(held: usize, size: u32, map: &str) {
    assert!(held <= size as usize, "{map} holds {size}, the kernel refuses the {held}th");
}
