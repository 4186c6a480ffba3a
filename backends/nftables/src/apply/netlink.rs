//! Commands over netlink: the way for live updates. One element takes some microseconds, for any size of the
//! table.

mod attr;
mod encode;
mod events;
mod expr;
mod found;
mod links;
mod probe;
mod socket;
mod value;
mod watch;

use alloc::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{DefaultNla, Nla as _};
use nix::sys::socket::SockProtocol;

use portcullis_core::backend::Counter;
use portcullis_core::label::Name;

use crate::apply::faults;
use crate::apply::transport::{ApplyError, Transport};
use crate::command::{Command, Elements, Family, HookPoint, SetKind};
use crate::update::Existing;
use attr::{as_text, as_u32, as_u64, find, read};
pub(crate) use events::{Events, LogMessage};
pub(crate) use links::{Links, Master};
use socket::Socket;
pub(crate) use watch::Watch;

/// nf_tables of one network namespace: that of the thread which opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// `NFNL_SUBSYS_NFTABLES`.
const NF_TABLES: u8 = 10;
/// What became of a batch that the kernel did not refuse.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in force.
    Done,
    /// Others changed nf_tables since: nothing was changed.
    Overtaken,
    /// It may be in force, or not.
    Unknown(ApplyError),
}

const GET_TABLE: u8 = 1;
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
    pub(crate) fn open() -> Result<Self, ApplyError> {
        let mut netlink = Self { socket: Socket::open(SockProtocol::NetlinkNetFilter)?, sequence: 1 };
        netlink.generation()?;
        Ok(netlink)
    }

    /// The kernel's generation id: another after every transaction of anybody in the namespace.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn generation(&mut self) -> Result<u32, ApplyError> {
        let messages = self.ask(GET_GENERATION, Family::Inet, false, Vec::new())?;
        let id = messages.iter().find_map(|message| as_u32(find(&read(message), 1)?));
        id.ok_or_else(|| ApplyError::environment("the kernel does not tell the generation of its nf_tables"))
    }

    /// All named counters of the table; none when there is no table.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn counters(&mut self, table: &Name) -> Result<BTreeMap<Name, Counter>, ApplyError> {
        let mut counters = BTreeMap::new();
        for family in Family::ALL {
            let attributes = vec![attr::text(1, table), attr::number(3, 1)];
            let messages = self.ask(GET_OBJECT, family, true, attributes)?;
            counters.extend(messages.iter().filter_map(|message| counter(message)));
        }
        Ok(counters)
    }

    /// Some named counters of the table; those that are not there are left out.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn some_counters<'n>(
        &mut self,
        table: &Name,
        names: impl IntoIterator<Item = &'n Name>,
    ) -> Result<BTreeMap<Name, Counter>, ApplyError> {
        let mut counters = BTreeMap::new();
        for name in names {
            let attributes = vec![attr::text(1, table), attr::text(2, name), attr::number(3, 1)];
            let messages = self.ask(GET_OBJECT, Family::of(name), false, attributes)?;
            counters.extend(messages.iter().filter_map(|message| counter(message)));
        }
        Ok(counters)
    }

    /// What the tables of this name hold, by name; empty when there is none. Elements are not read.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn existing(&mut self, table: &Name) -> Result<Existing, ApplyError> {
        let mut existing = Existing::default();
        for family in Family::ALL {
            if self.dump(GET_TABLE, family, table)?.is_empty() {
                continue;
            }
            existing.tables.insert(family);
            for (kind, name, names) in [
                (GET_CHAIN, 3, &mut existing.chains),
                (GET_SET, 2, &mut existing.sets),
                (GET_OBJECT, 2, &mut existing.counters),
            ] {
                for attributes in self.dump(kind, family, table)? {
                    names.extend(find(&attributes, name).map(|name| Name::from(as_text(name).as_str())));
                }
            }
        }
        // Those that belong to rules go with them.
        existing.sets.retain(|name| !name.starts_with("__"));
        Ok(existing)
    }

    /// How many packets a set of [`SetKind::Budgets`] counted for each interface.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn budgets(&mut self, table: &Name, set: &Name) -> Result<BTreeMap<String, u64>, ApplyError> {
        let attributes = vec![attr::text(1, table), attr::text(2, set)];
        let mut budgets = BTreeMap::new();
        for message in self.ask(GET_ELEMENT, Family::of(set), true, attributes)? {
            let list = find(&read(&message), 3).map(read).unwrap_or_default();
            budgets.extend(list.iter().filter_map(|(_, element)| budget(element)));
        }
        Ok(budgets)
    }

    /// Whether a set holds `wanted`, as given to the commands, and nothing else.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn holds(&mut self, table: &Name, wanted: &Elements) -> Result<bool, ApplyError> {
        Ok(self.elements(table, &wanted.set, Family::of(&wanted.set))? == shapes(wanted))
    }

    /// Whether a set holds `wanted` among others.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn holds_all(&mut self, table: &Name, wanted: &Elements) -> Result<bool, ApplyError> {
        if wanted.elements.is_empty() {
            return Ok(true);
        }
        Ok(self.elements(table, &wanted.set, Family::of(&wanted.set))?.is_superset(&shapes(wanted)))
    }

    fn elements(&mut self, table: &Name, set: &Name, family: Family) -> Result<BTreeSet<Shape>, ApplyError> {
        let attributes = vec![attr::text(1, table), attr::text(2, set)];
        let messages = self.ask(GET_ELEMENT, family, true, attributes)?;
        let mut found = BTreeSet::new();
        for message in messages {
            let list = find(&read(&message), 3).map(read).unwrap_or_default();
            found.extend(list.iter().map(|(_, element)| shape(element)));
        }
        Ok(found)
    }

    /// Its address, see [`Watch::open`].
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn address(&self) -> Result<u32, ApplyError> {
        self.socket.address()
    }

    /// Carries out `batch` unless nf_tables changed since `generation`.
    ///
    /// # Errors
    /// When the kernel refuses. Then nothing changed.
    pub(crate) fn commit_at(
        &mut self,
        table: &Name,
        batch: &[Command],
        generation: u32,
    ) -> Result<Outcome, ApplyError> {
        match self.send(table, batch, Some(generation)) {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.errno() == Some(ERESTART) => Ok(Outcome::Overtaken),
            Err(error) if error.is_no_answer() => Ok(Outcome::Unknown(error)),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, table: &Name, batch: &[Command], generation: Option<u32>) -> Result<(), ApplyError> {
        if batch.is_empty() {
            return Ok(());
        }
        let batch = faults::sending(batch)?;
        let encoded = encode::batch(table, &batch, self.sequence, generation);
        self.sequence = encoded.last.wrapping_add(2);
        faults::answered(self.socket.commit(&encoded, &batch))
    }

    /// Asks for everything that tables of `families` are made of, in tables that do not outlive the question.
    ///
    /// # Errors
    /// When the kernel lacks something, or the right to change its tables is missing.
    pub(crate) fn probe(&mut self, families: &BTreeSet<Family>) -> Result<(), ApplyError> {
        self.send(&PROBE.into(), &probe::commands(), None)?;
        if families.contains(&Family::Arp) {
            self.send(&PROBE.into(), &probe::arp(), None).map_err(|error| {
                ApplyError::environment(&format!(
                    "{error}: the check of neighbour claims needs nf_tables for ARP (module nf_tables_arp); without it, switch \
                     the check off"
                ))
            })?;
        }
        Ok(())
    }

    /// The objects of one kind that belong to the table of one family.
    fn dump(&mut self, kind: u8, family: Family, table: &Name) -> Result<Vec<attr::Read>, ApplyError> {
        let messages = self.ask(kind, family, true, vec![attr::text(1, table)])?;
        let all = messages.iter().map(|message| read(message));
        Ok(all
            .filter(|found| find(found, NFTA_CHAIN_TABLE).is_some_and(|of| as_text(of) == **table))
            .collect())
    }

    fn ask(
        &mut self,
        kind: u8,
        family: Family,
        dump: bool,
        attributes: Vec<DefaultNla>,
    ) -> Result<Vec<Vec<u8>>, ApplyError> {
        let to = (encode::protocol_family(family), kind);
        self.socket.request(to, dump, attributes, &mut self.sequence)
    }
}

impl Transport for Netlink {
    fn commit(&mut self, table: &Name, batch: &[Command]) -> Result<(), ApplyError> {
        self.send(table, batch, None)
    }
}

/// The name and the count of a counter.
fn counter(message: &[u8]) -> Option<(Name, Counter)> {
    let attributes = read(message);
    let values = read(find(&attributes, 4)?);
    let value = |kind| find(&values, kind).and_then(as_u64).unwrap_or(0);
    let name = as_text(find(&attributes, 2)?).as_str().into();
    Some((name, Counter { packets: value(2), bytes: value(1) }))
}

/// The interface of an element, and how many packets it counted.
fn budget(element: &[u8]) -> Option<(String, u64)> {
    let attributes = read(element);
    let interface = as_text(find(&read(find(&attributes, 1)?), 1)?);
    let kept = read(find(&attributes, ELEMENT_EXPRESSIONS)?);
    let counter = kept
        .iter()
        .map(|(_, kept)| read(kept))
        .find(|kept| find(kept, 1).map(as_text).as_deref() == Some("counter"))?;
    Some((interface, find(&read(find(&counter, 2)?), 2).and_then(as_u64)?))
}

/// `NFTA_SET_ELEM_EXPRESSIONS`.
const ELEMENT_EXPRESSIONS: u16 = 11;
/// The kernel's `ERESTART`: the tables are of another generation.
const ERESTART: i32 = 85;
const PROBE: &str = "portcullis-probe";

/// What tells one element from another: key, flags, verdict and chain.
type Shape = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

fn shapes(elements: &Elements) -> BTreeSet<Shape> {
    let ranged = elements.kind == SetKind::Ranges;
    let all = elements.elements.iter().flat_map(|element| encode::element(&elements.key, element, ranged));
    all.map(|element| shape(&value(&element))).collect()
}

fn shape(element: &[u8]) -> Shape {
    let attributes = read(element);
    let inner = |attributes: &attr::Read, kind| find(attributes, kind).map(read).unwrap_or_default();
    let bytes =
        |attributes: &attr::Read, kind| find(attributes, kind).map(<[u8]>::to_vec).unwrap_or_default();
    let verdict = inner(&inner(&attributes, 2), 2);
    (bytes(&inner(&attributes, 1), 1), bytes(&attributes, 3), bytes(&verdict, 1), bytes(&verdict, 2))
}

/// The kernel's number of a hook: `enum nf_inet_hooks`, and `NF_ARP_IN`, `NF_ARP_OUT`.
const fn hook_number(family: Family, point: HookPoint) -> u32 {
    match (family, point) {
        (_, HookPoint::Prerouting) | (Family::Arp, HookPoint::Input) => 0,
        (Family::Inet, HookPoint::Input) | (Family::Arp, HookPoint::Output) => 1,
        (_, HookPoint::Forward) => 2,
        (Family::Inet, HookPoint::Output) => 3,
    }
}

/// The bytes of an attribute.
fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}
