//! From snapshots and deltas to writes.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use portcullis_core::ir::{ClassId, DecisionEntry, Delta, ProjectionChange, ProjectionId, Snapshot};
use portcullis_core::model::EndpointId;
use portcullis_core::net::{Cidr, IpVersion, canonical};
use portcullis_core::verdict::Hook;

use crate::addresses::{Addresses, Entry};
use crate::binding::{Binding, Bindings};
use crate::error::{Kind, LowerError};
use crate::layout::{
    ANY_ADDRESS, BOUND_ADDRESSES, COVERED, EndpointWords, HAS_V4, HAS_V6, HOST, PRESENT, SIDE_WORDS,
    TRACKED_ONLY, UNGUARDED, hook_index,
};
use crate::options::{Capacity, Options};
use crate::store::{Changed, Store};
use crate::write::{Update, Write};

/// The maps, as they follow from a snapshot, the endpoints of this node, and [`Options`].
///
/// It notes what it told the kernel, so that a [`Delta`] becomes the few writes that lead on from there. Only what
/// programs of bound endpoints use is loaded.
#[derive(Clone, Debug)]
pub struct Lowering {
    options: Options,
    generation: u64,
    store: Store,
    addresses: Addresses,
    bindings: Bindings,
    bound: BTreeMap<u32, Bound>,
    /// The side that is read.
    phase: usize,
    /// Entries whose other side is not what it should be.
    unsettled: Unsettled,
    /// Whether packets may be on their way that read the other side.
    turned: bool,
    /// What took effect at once, so that packets on their way may have met it or what was before.
    recent: Recent,
    /// Whether elements of hash maps were given back since the last wait. The kernel uses them again at once, so that packets
    /// on their way would take what comes for what was.
    removed: bool,
    /// Classes that packets on their way may still have, though no address has.
    retired: BTreeSet<ClassId>,
}

/// What an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    words: Side,
    programs: Vec<u32>,
}

type Side = [u32; SIDE_WORDS];

#[derive(Clone, Debug, Default)]
struct Recent {
    endpoints: bool,
    addresses: BTreeSet<Cidr>,
}

#[derive(Clone, Debug, Default)]
struct Unsettled {
    addresses: BTreeMap<Cidr, Option<[u32; 2]>>,
    endpoints: BTreeSet<u32>,
}

/// What is different from the state that the maps are in.
struct Change<'a> {
    addresses: &'a [(Cidr, Option<ClassId>)],
    changed: Changed,
    projections: &'a [(ProjectionId, Option<ProjectionChange>)],
    /// Endpoints with other programs.
    endpoints: BTreeSet<&'a EndpointId>,
}

/// What the maps are when writes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Empty, and not looked at.
    Empty,
    Live,
}

impl Lowering {
    /// Lowers a whole snapshot for the endpoints that `bindings` names, into maps that are empty and that no packet is
    /// looked up in yet.
    ///
    /// # Errors
    /// When the snapshot breaks an invariant or does not fit the capacity, or two endpoints have one interface.
    pub fn load(
        options: Options,
        snapshot: &Snapshot,
        bindings: &Bindings,
    ) -> Result<(Self, Update), LowerError> {
        options.check_mark()?;
        let mut lowering = Self {
            generation: snapshot.generation,
            store: Store::new(&options),
            addresses: Addresses::new(&options.services),
            bindings: Bindings::new(),
            bound: BTreeMap::new(),
            phase: 0,
            unsettled: Unsettled::default(),
            turned: false,
            recent: Recent::default(),
            removed: false,
            retired: BTreeSet::new(),
            options,
        };
        let addresses: Vec<_> = snapshot.addresses.iter().map(|(net, class)| (*net, Some(*class))).collect();
        let change = Change {
            addresses: &addresses,
            changed: Changed::default(),
            projections: &[],
            endpoints: snapshot.endpoints.keys().collect(),
        };
        let (mut writes, entries) = lowering.advance(snapshot, &change, bindings, Start::Empty)?;
        // Services that no prefix of the snapshot changed.
        let written: BTreeSet<Cidr> = entries.iter().map(|entry| entry.net).collect();
        let services =
            lowering.addresses.services().into_iter().filter(|entry| !written.contains(&entry.net));
        writes.extend(services.map(|entry| Write::Address(entry.net, entry.settled())));
        Ok((lowering, Update { writes }))
    }

    /// Like [`Lowering::load`], with maps that are as small as they can be, a factor of two aside: for snapshots that do
    /// not change.
    ///
    /// # Errors
    /// See [`Lowering::load`]; and when it needs more than maps can hold.
    pub fn fitting(
        options: Options,
        snapshot: &Snapshot,
        bindings: &Bindings,
    ) -> Result<(Self, Update), LowerError> {
        let mut options = options.with_capacity(Capacity::SMALL);
        loop {
            match Self::load(options.clone(), snapshot, bindings) {
                Err(error) if options.capacity.grow(&error) => {}
                done => return done,
            }
        }
    }

    /// Follows `delta`, which leads to `snapshot`, and changed bindings.
    ///
    /// # Errors
    /// When the delta starts from another generation, the snapshot breaks an invariant, or it does not fit. The state is
    /// then what it was, and the next delta has to start from there.
    pub fn update(
        &mut self,
        snapshot: &Snapshot,
        delta: &Delta,
        bindings: &Bindings,
    ) -> Result<Update, LowerError> {
        if delta.from != self.generation || snapshot.generation != delta.to {
            return Err(LowerError(Kind::Generation { found: self.generation, expected: delta.from }));
        }
        let change = Change {
            addresses: &delta.addresses,
            changed: Changed {
                decisions: delta.decisions.iter().map(|(id, _)| *id).collect(),
                tables: delta.tables.iter().map(|(id, _)| *id).collect(),
                projections: Vec::new(),
                programs: delta.programs.iter().map(|(id, _)| *id).collect(),
            },
            projections: &delta.projections,
            endpoints: delta.endpoints.iter().map(|(id, _)| id).collect(),
        };
        let (writes, _) = self.advance(snapshot, &change, bindings, Start::Live)?;
        self.generation = delta.to;
        Ok(Update { writes })
    }

    /// Changed bindings alone.
    ///
    /// # Errors
    /// See [`Lowering::update`].
    pub fn rebind(&mut self, snapshot: &Snapshot, bindings: &Bindings) -> Result<Update, LowerError> {
        let delta = Delta { from: self.generation, to: self.generation, ..Delta::default() };
        self.update(snapshot, &delta, bindings)
    }

    /// What is left to do after updates, none of it urgent: the next update does it first if it has to, and takes longer
    /// then, because it waits for packets on their way. Agents call this when there is nothing else to do.
    #[must_use]
    pub fn settle(&mut self) -> Update {
        let mut writes = Vec::new();
        if self.turned || self.recent.any() || !self.retired.is_empty() || self.store.waits() {
            self.wait(&mut writes);
        }
        // What waiting let go.
        if self.removed {
            self.wait(&mut writes);
        }
        Update { writes }
    }

    /// The generation of the snapshot that the maps say.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The choices it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What the interfaces of this node are bound to.
    #[cfg(feature = "load")]
    pub(crate) const fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// The decision that the kernel knows by this number, which events and counters carry. `None` when it is not used any
    /// more: ask before the update that drops it.
    #[must_use]
    pub fn decision(&self, number: u32) -> Option<&DecisionEntry> {
        self.store.decision(number).map(Arc::as_ref)
    }

    /// Every decision that the kernel knows, with its number.
    pub fn decisions(&self) -> impl Iterator<Item = (u32, &DecisionEntry)> {
        self.store.decisions().map(|(number, decision)| (number, decision.as_ref()))
    }

    /// Brings the state to `snapshot`. What has to be written for that, and the entries of addresses that changed.
    fn advance(
        &mut self,
        snapshot: &Snapshot,
        change: &Change<'_>,
        bindings: &Bindings,
        start: Start,
    ) -> Result<(Vec<Write>, Vec<Entry>), LowerError> {
        let rebound = *bindings != self.bindings;
        if rebound {
            check_bindings(bindings, &self.bound, self.options.capacity.endpoints)?;
        }
        let arriving: BTreeSet<ClassId> = change.addresses.iter().filter_map(|(_, class)| *class).collect();
        let mut fresh: BTreeSet<ClassId> =
            arriving.into_iter().filter(|class| !self.addresses.uses(*class)).collect();
        let (entries, undo) = self.addresses.apply(change.addresses);
        fresh.retain(|class| self.addresses.uses(*class));
        let left = undo.iter().filter_map(|(_, class)| *class).filter(|class| !self.addresses.uses(*class));
        let left: Vec<ClassId> = left.collect();

        let mut changed = change.changed.clone();
        changed.projections = self.remade(change.projections, &fresh);
        let builds = rebound || !change.endpoints.is_empty() || changed.any();
        let backup = (builds && start == Start::Live).then(|| self.store.clone());
        let built = self
            .check(&entries, &fresh)
            .and_then(|()| self.build(snapshot, &changed, change, bindings, rebound));
        let bound = match built {
            Ok(bound) => bound,
            Err(error) => {
                self.addresses.undo(undo);
                if let Some(backup) = backup {
                    self.store = backup;
                }
                return Err(error);
            }
        };

        let mut writes = Vec::new();
        if self.turned || fresh.iter().any(|class| self.retired.contains(class)) {
            self.wait(&mut writes);
        }
        let adds = bound.iter().any(|(interface, new)| new.is_some() && !self.bound.contains_key(interface))
            || entries.iter().any(|entry| entry.is && !entry.was);
        if adds && self.removed {
            self.wait(&mut writes);
        }
        self.store.set_rows(snapshot, &fresh);
        writes.extend(self.store.take_writes());
        self.retired.extend(left);
        self.switch(bound, &entries, start, &mut writes);
        if rebound {
            self.bindings.clone_from(bindings);
        }
        Ok((writes, entries))
    }

    /// Loaded projections that give another row to a class that addresses have before and after. The rows of other classes
    /// can be written in place: nobody looks at them.
    fn remade(
        &self,
        changes: &[(ProjectionId, Option<ProjectionChange>)],
        fresh: &BTreeSet<ClassId>,
    ) -> Vec<ProjectionId> {
        let is_remade = |(id, change): &&(ProjectionId, Option<ProjectionChange>)| match change {
            Some(change) => change.set.iter().any(|(class, row)| {
                let used = self.addresses.uses(*class) && !fresh.contains(class);
                used && self.store.row(*id, *class).is_some_and(|old| u32::from(old) != *row)
            }),
            None => true,
        };
        changes.iter().filter(is_remade).map(|(id, _)| *id).collect()
    }

    fn check(&self, entries: &[Entry], fresh: &BTreeSet<ClassId>) -> Result<(), LowerError> {
        self.addresses.check(entries, &self.options.capacity)?;
        fresh.iter().try_for_each(|class| self.store.check_class(*class))
    }

    /// Makes the programs of endpoints that change. What their interfaces have now; `None` for those that have nothing.
    fn build(
        &mut self,
        snapshot: &Snapshot,
        changed: &Changed,
        change: &Change<'_>,
        bindings: &Bindings,
        rebound: bool,
    ) -> Result<BTreeMap<u32, Option<Bound>>, LowerError> {
        let stale = self.store.forget(changed);
        let mut bound = BTreeMap::new();
        if rebound {
            let kept: BTreeSet<u32> = bindings.values().flat_map(Binding::interfaces).copied().collect();
            bound.extend(self.bound.keys().filter(|id| !kept.contains(id)).map(|id| (*id, None)));
        }
        let programs_of = |id: &EndpointId| snapshot.endpoints.get(id).map(|entry| &entry.enforced.0);
        let is_affected = |id: &EndpointId, binding: &Binding| {
            let is_stale =
                || programs_of(id).is_some_and(|programs| programs.values().any(|id| stale.contains(id)));
            let is_rebound = || rebound && self.bindings.get(id) != Some(binding);
            change.endpoints.contains(id) || is_rebound() || is_stale()
        };
        let cover = cover_of(bindings);
        let is_other_cover = match (cover, cover_of(&self.bindings)) {
            (Some((id, binding)), Some((old, _))) => id != old || is_affected(id, binding),
            (cover, old) => cover.is_some() != old.is_some(),
        };
        let affected: Vec<(&EndpointId, &Binding)> = bindings
            .iter()
            .filter(|(id, binding)| is_other_cover && binding.is_workload() || is_affected(id, binding))
            .collect();
        for (id, binding) in affected {
            for interface in binding.interfaces() {
                let mut made = Bound { words: side_of(*interface, binding)?, programs: Vec::new() };
                let own = programs_of(id).into_iter().flatten();
                let mut used: Vec<_> = own.map(|(hook, program)| (*hook, *program)).collect();
                if let Some((covering, _)) = cover.filter(|_| binding.is_workload()) {
                    if let Some(flags) = made.words.get_mut(Hook::ALL.len()) {
                        *flags |= COVERED;
                    }
                    let theirs = programs_of(covering).into_iter().flatten();
                    let theirs = theirs.map(|(hook, program)| (*hook, *program));
                    used.extend(theirs.filter(|(hook, _)| COVERING.contains(hook)));
                }
                for (hook, program) in used {
                    let slot = self.store.program(program, snapshot)?;
                    made.programs.push(slot);
                    if let Some(word) = made.words.get_mut(hook_index(hook)) {
                        *word = slot;
                    }
                }
                bound.insert(*interface, Some(made));
            }
        }
        Ok(bound)
    }

    /// Puts the new values of addresses and endpoints in force.
    fn switch(
        &mut self,
        bound: BTreeMap<u32, Option<Bound>>,
        entries: &[Entry],
        start: Start,
        writes: &mut Vec<Write>,
    ) {
        let mut endpoints = Vec::new();
        for (interface, new) in bound {
            let words = |bound: &Bound| bound.words;
            let after = new.as_ref().map(words);
            let old = match new {
                Some(new) => self.bound.insert(interface, new),
                None => self.bound.remove(&interface),
            };
            let before = old.as_ref().map(words);
            old.into_iter().flat_map(|old| old.programs).for_each(|slot| self.store.release_program(slot));
            if before != after {
                endpoints.push((interface, before, after));
            }
        }
        let in_place =
            endpoints.iter().all(|(_, before, after)| is_one_change(before.as_ref(), after.as_ref()));
        let at_once = start == Start::Empty
            || entries.is_empty() && in_place
            || endpoints.is_empty() && self.recent.allows(entries, self.store.looks_both_ways());
        if at_once {
            if start == Start::Live {
                self.recent.endpoints |= !endpoints.is_empty();
                self.recent.addresses.extend(entries.iter().map(|entry| entry.net));
            }
            // What goes goes last, so that nothing that comes gets its element.
            for is in [true, false] {
                let those = entries.iter().filter(|entry| entry.is == is);
                writes.extend(those.map(|entry| Write::Address(entry.net, entry.settled())));
                let those = endpoints.iter().filter(|(_, _, after)| after.is_some() == is);
                writes.extend(those.map(|(interface, _, after)| {
                    Write::Endpoint(*interface, after.map(|side| Box::new(sides([side; 2]))))
                }));
            }
            self.removed |= entries.iter().any(|entry| !entry.is)
                || endpoints.iter().any(|(_, _, after)| after.is_none());
            return;
        }
        let ordered = |old, new| if self.phase == 0 { [old, new] } else { [new, old] };
        for entry in entries {
            writes.push(Write::Address(entry.net, Some(ordered(entry.old, entry.new))));
            self.unsettled.addresses.insert(entry.net, entry.settled());
        }
        for (interface, before, after) in endpoints {
            let none = [0; SIDE_WORDS];
            let (before, after) = (before.unwrap_or(none), after.unwrap_or(none));
            let both = if self.phase == 0 { [before, after] } else { [after, before] };
            writes.push(Write::Endpoint(interface, Some(Box::new(sides(both)))));
            self.unsettled.endpoints.insert(interface);
        }
        self.phase = 1 - self.phase;
        writes.push(Write::Phase(u32::from(self.phase == 1)));
        self.turned = true;
    }

    /// Waits for packets on their way; then nobody reads the other side, and what was given back is free.
    fn wait(&mut self, writes: &mut Vec<Write>) {
        writes.push(Write::Grace);
        let Unsettled { addresses, endpoints } = core::mem::take(&mut self.unsettled);
        self.removed = addresses.values().any(Option::is_none)
            || endpoints.iter().any(|interface| !self.bound.contains_key(interface));
        writes.extend(addresses.into_iter().map(|(net, sides)| Write::Address(net, sides)));
        for interface in endpoints {
            let words = self.bound.get(&interface).map(|bound| Box::new(sides([bound.words; 2])));
            writes.push(Write::Endpoint(interface, words));
        }
        self.turned = false;
        self.recent = Recent::default();
        self.retired.clear();
        self.store.reclaim();
    }
}

impl Recent {
    fn any(&self) -> bool {
        self.endpoints || !self.addresses.is_empty()
    }

    /// Whether `entries` may change at once, too: however a packet's reads fall between all these changes, it gets the
    /// decision of a state that was in force. Endpoints are read before addresses, so a packet may have met an old endpoint
    /// already, and must not find a new address then. Of addresses, it may meet one change at most: where programs ask for
    /// both ends, there is only one; where they ask for one, it is not looked for twice, as an address is first by itself and
    /// then in networks.
    fn allows(&self, entries: &[Entry], looks_both_ways: bool) -> bool {
        if self.endpoints {
            return false;
        }
        let nets: BTreeSet<Cidr> =
            entries.iter().map(|entry| entry.net).chain(self.addresses.iter().copied()).collect();
        if looks_both_ways {
            let [v4, v6] = [IpVersion::V4, IpVersion::V6]
                .map(|version| nets.iter().filter(|net| net.version() == version).count());
            return v4 <= 1 && v6 <= 1 && nets.iter().all(|net| net.is_host());
        }
        // In this order, what a network covers comes right behind it.
        nets.iter().zip(nets.iter().skip(1)).all(|(net, next)| !net.covers(next))
    }
}

/// The hooks of the host endpoint for all interfaces that packets meet at the interface of a workload.
const COVERING: [Hook; 4] = [Hook::PreDnat, Hook::ForwardIngress, Hook::ForwardEgress, Hook::HostIngress];

/// The host endpoint for all interfaces.
fn cover_of(bindings: &Bindings) -> Option<(&EndpointId, &Binding)> {
    bindings.iter().find(|(_, binding)| binding.is_for_all())
}

/// Whether an endpoint can change word by word while packets read it: one that comes or goes, or programs of a workload, of
/// which each run reads one.
fn is_one_change(before: Option<&Side>, after: Option<&Side>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return true };
    let read_alone = [Hook::WorkloadIngress, Hook::WorkloadEgress].map(hook_index);
    let words = before.iter().zip(after).enumerate();
    words.into_iter().all(|(at, (old, new))| old == new || read_alone.contains(&at))
}

/// Interfaces that are bound no longer may have their entry a little longer than others get theirs.
fn check_bindings(bindings: &Bindings, bound: &BTreeMap<u32, Bound>, limit: u32) -> Result<(), LowerError> {
    let mut seen = BTreeSet::new();
    for interface in bindings.values().flat_map(Binding::interfaces) {
        if !seen.insert(*interface) {
            return Err(LowerError(Kind::BoundTwice { interface: *interface }));
        }
    }
    if bindings.values().filter(|binding| binding.is_for_all()).count() > 1 {
        return Err(LowerError(Kind::TwoForAll));
    }
    seen.extend(bound.keys());
    if seen.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
        return Err(LowerError::limit_of("endpoints", limit, seen.len()));
    }
    Ok(())
}

/// The words of an endpoint without programs.
fn side_of(interface: u32, binding: &Binding) -> Result<Side, LowerError> {
    let mut flags = PRESENT;
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    match binding {
        Binding::Workload { addresses, .. } => {
            for address in addresses {
                match canonical(*address) {
                    IpAddr::V4(address) => v4.push([u32::from_ne_bytes(address.octets())]),
                    IpAddr::V6(address) => v6.push(words_of(address)),
                }
            }
        }
        Binding::WorkloadAnyAddress { .. } => flags |= ANY_ADDRESS,
        Binding::Host { .. } => flags |= HOST,
        Binding::AllInterfaces { .. } => flags |= HOST | TRACKED_ONLY,
        Binding::Uplink { .. } => flags |= HOST | UNGUARDED,
    }
    if v4.len() > BOUND_ADDRESSES || v6.len() > BOUND_ADDRESSES {
        return Err(LowerError(Kind::Addresses { interface }));
    }
    flags |= if v4.is_empty() { 0 } else { HAS_V4 };
    flags |= if v6.is_empty() { 0 } else { HAS_V6 };
    // Unused places repeat the first address, so that the kernel program need not count.
    let v4 = (0..BOUND_ADDRESSES).flat_map(|place| v4.get(place).or(v4.first()).copied().unwrap_or_default());
    let v6 = (0..BOUND_ADDRESSES).flat_map(|place| v6.get(place).or(v6.first()).copied().unwrap_or_default());
    let mut side = [0; SIDE_WORDS];
    let after_programs = side.iter_mut().skip(Hook::ALL.len());
    for (word, value) in after_programs.zip(core::iter::once(flags).chain(v4).chain(v6)) {
        *word = value;
    }
    Ok(side)
}

/// An IPv6 address as four words in the order of the wire.
pub(crate) fn words_of(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

fn sides(sides: [Side; 2]) -> EndpointWords {
    let mut words = [0; 2 * SIDE_WORDS];
    for (word, value) in words.iter_mut().zip(sides.into_iter().flatten()) {
        *word = value;
    }
    words
}
