//! Commands over netlink: the way for live updates. One element takes some microseconds, whatever the size of the
//! table.

mod attr;
mod encode;
mod events;
mod expr;
mod socket;

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::label::Name;

use crate::apply::{ApplyError, Counter, Transport};
use crate::command::Command;
use crate::update::Existing;
use attr::{as_text, as_u32, as_u64, find, read};
pub use events::{Event, Events};
use socket::Socket;

/// nf_tables of one network namespace: that of the thread which opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

const GET_CHAIN: u8 = 4;
const GET_RULE: u8 = 7;
const GET_SET: u8 = 10;
const GET_ELEMENT: u8 = 13;
const GET_GENERATION: u8 = 16;
const GET_OBJECT: u8 = 19;
const NFTA_CHAIN_TABLE: u16 = 1;

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or gives no socket.
    pub fn open() -> Result<Self, ApplyError> {
        let mut netlink = Self { socket: Socket::open()?, sequence: 1 };
        netlink.generation()?;
        Ok(netlink)
    }

    /// The kernel's generation id: another after every transaction of anybody in the namespace.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn generation(&mut self) -> Result<u32, ApplyError> {
        let messages = self.socket.request(GET_GENERATION, false, Vec::new(), &mut self.sequence)?;
        let id = messages.iter().find_map(|message| as_u32(find(&read(message), 1)?));
        id.ok_or_else(|| ApplyError::environment("the kernel does not tell the generation of its nf_tables"))
    }

    /// All named counters of the table; none when there is no table.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn counters(&mut self, table: &Name) -> Result<BTreeMap<Name, Counter>, ApplyError> {
        let attributes = vec![attr::text(1, table), attr::number(3, 1)];
        let messages = self.socket.request(GET_OBJECT, true, attributes, &mut self.sequence)?;
        let mut counters = BTreeMap::new();
        for message in messages {
            let attributes = read(&message);
            let (Some(name), Some(data)) = (find(&attributes, 2), find(&attributes, 4)) else { continue };
            let values = read(data);
            let value = |kind| find(&values, kind).and_then(as_u64).unwrap_or(0);
            let counter = Counter { packets: value(2), bytes: value(1) };
            counters.insert(as_text(name).as_str().into(), counter);
        }
        Ok(counters)
    }

    /// What the table holds, by name; empty when there is no table. Elements are not read.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn existing(&mut self, table: &Name) -> Result<Existing, ApplyError> {
        let mut existing = Existing::default();
        for (kind, name, names) in [
            (GET_CHAIN, 3, &mut existing.chains),
            (GET_SET, 2, &mut existing.sets),
            (GET_OBJECT, 2, &mut existing.counters),
        ] {
            for attributes in self.dump(kind, table)? {
                names.extend(find(&attributes, name).map(|name| Name::from(as_text(name).as_str())));
            }
        }
        // Those that belong to rules go with them.
        existing.sets.retain(|name| !name.starts_with("__"));
        Ok(existing)
    }

    /// The number of rules of each chain.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn rules(&mut self, table: &Name) -> Result<BTreeMap<Name, usize>, ApplyError> {
        let mut rules: BTreeMap<Name, usize> = BTreeMap::new();
        for attributes in self.dump(GET_RULE, table)? {
            if let Some(chain) = find(&attributes, 2) {
                let count = rules.entry(as_text(chain).as_str().into()).or_default();
                *count = count.saturating_add(1);
            }
        }
        Ok(rules)
    }

    /// The keys of a set's elements, as the kernel holds them.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn elements(&mut self, table: &Name, set: &Name) -> Result<BTreeSet<Vec<u8>>, ApplyError> {
        let attributes = vec![attr::text(1, table), attr::text(2, set)];
        let messages = self.socket.request(GET_ELEMENT, true, attributes, &mut self.sequence)?;
        let mut keys = BTreeSet::new();
        for message in messages {
            let attributes = read(&message);
            for (_, element) in find(&attributes, 3).map(read).unwrap_or_default() {
                keys.insert(element);
            }
        }
        Ok(keys)
    }

    /// The objects of one kind that belong to the table.
    fn dump(&mut self, kind: u8, table: &Name) -> Result<Vec<attr::Read>, ApplyError> {
        let messages = self.socket.request(kind, true, vec![attr::text(1, table)], &mut self.sequence)?;
        let all = messages.iter().map(|message| read(message));
        Ok(all
            .filter(|found| find(found, NFTA_CHAIN_TABLE).is_some_and(|of| as_text(of) == **table))
            .collect())
    }
}

impl Transport for Netlink {
    fn commit(&mut self, table: &Name, batch: &[Command]) -> Result<(), ApplyError> {
        if batch.is_empty() {
            return Ok(());
        }
        let encoded = encode::batch(table, batch, self.sequence);
        self.sequence = encoded.last.wrapping_add(2);
        self.socket.commit(&encoded, batch)
    }
}
