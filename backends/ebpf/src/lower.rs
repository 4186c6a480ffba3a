//! From snapshots and deltas to writes.

mod addresses;
mod check;
pub(crate) mod endpoint;
pub(crate) mod image;
mod in_flight;
pub(crate) mod refcounted;
pub(crate) mod slots;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface, Lower, LowerError, Usage};
use portcullis_core::ir::{ClassId, DecisionEntry, Delta, ProjectionChange, ProjectionId};
use portcullis_core::model::EndpointId;
use portcullis_core::net::Cidr;
use portcullis_core::verdict::Hook;

use crate::layout::{BUFFER_WORDS, COVERED, hook_index};
use crate::lower::addresses::{Addresses, Entry};
use crate::lower::check::{check_bindings, cover_of, index_of};
use crate::lower::endpoint::{Buffer, both};
use crate::lower::image::{Changed, Image};
use crate::lower::in_flight::{Recent, StaleBuffers, is_one_change};
use crate::options::{Capacity, Options};
use crate::write::{Update, Write};

/// The maps, as they follow from a snapshot, the endpoints of this node, and [`Options`].
///
/// It notes what it told the kernel, so that a [`Delta`] becomes the few writes that lead on from there. Only what
/// programs of bound endpoints use is loaded.
#[derive(Clone, Debug)]
pub struct Lowering {
    options: Options,
    generation: u64,
    image: Image,
    addresses: Addresses,
    bindings: Bindings,
    bound: BTreeMap<u32, Bound>,
    /// The buffer that is read.
    active_buffer: usize,
    /// Entries whose inactive buffer is out of date.
    stale_buffers: StaleBuffers,
    /// Whether packets may be in flight that read the inactive buffer.
    flipped: bool,
    /// Changes that took effect at once: a packet in flight may have seen the state before or after each of them.
    recent: Recent,
    /// Whether elements of hash maps were given back since the last grace period. The kernel reuses them at once, so a
    /// packet in flight would read the new element in place of the old one.
    removed: bool,
    /// Classes that packets in flight may still have, though no address has.
    retired: BTreeSet<ClassId>,
}

/// What an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    words: Buffer,
    programs: Vec<u32>,
}

/// The differences from the state that the maps are in.
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
    /// Like [`Lowering::load`], with maps that are as small as they can be, a factor of two aside: for snapshots that do
    /// not change.
    ///
    /// # Errors
    /// See [`Lower::load`]; and when it needs more than maps can hold.
    pub fn fitting(options: Options, desired: DesiredState<'_>) -> Result<(Self, Update), LowerError> {
        let mut options = options.with_capacity(Capacity::SMALL);
        loop {
            match Self::load(options.clone(), desired, &()) {
                Err(error) if options.capacity.grow(&error) => {}
                done => return done,
            }
        }
    }

    /// Changed bindings alone.
    ///
    /// # Errors
    /// See [`Lower::update`].
    pub fn rebind(&mut self, desired: DesiredState<'_>) -> Result<Update, LowerError> {
        let delta = Delta { from: self.generation, to: self.generation, ..Delta::default() };
        self.update(desired, &delta)
    }

    /// The work that updates left, none of it urgent. An agent calls this when it has nothing else to do; otherwise the next
    /// update that needs it does it first, and takes longer, because it waits for a grace period.
    #[must_use]
    pub fn quiesce(&mut self) -> Update {
        let mut writes = Vec::new();
        if self.flipped || self.recent.any() || !self.retired.is_empty() || self.image.waits() {
            self.wait(&mut writes);
        }
        // What waiting let go.
        if self.removed {
            self.wait(&mut writes);
        }
        Update { writes }
    }

    /// The choices it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The decision that the kernel knows by this number, which events and counters carry. `None` when it is not used any
    /// more: ask before the update that drops it.
    #[must_use]
    pub fn decision(&self, number: u32) -> Option<&DecisionEntry> {
        self.image.decision(number).map(Arc::as_ref)
    }

    /// Every decision that the kernel knows, with its number.
    pub fn decisions(&self) -> impl Iterator<Item = (u32, &DecisionEntry)> {
        self.image.decisions().map(|(number, decision)| (number, decision.as_ref()))
    }

    /// How much of each field of [`Capacity`] is used that policy can fill.
    #[must_use]
    pub fn usage(&self) -> Vec<Usage> {
        let capacity = &self.options.capacity;
        let of = |name, used: usize, limit: u32| Usage {
            name,
            used: u64::try_from(used).unwrap_or(u64::MAX),
            limit: Some(limit.into()),
        };
        let mut usage = vec![
            of("endpoints", self.bound.len(), capacity.endpoints),
            of("classes", self.addresses.most_classes(), capacity.classes),
        ];
        usage.extend(self.addresses.usage(capacity));
        usage.extend(self.image.usage());
        usage
    }

    /// Brings the state to `desired`. What has to be written for that, and the entries of addresses that changed.
    fn advance(
        &mut self,
        desired: DesiredState<'_>,
        change: &Change<'_>,
        start: Start,
    ) -> Result<(Vec<Write>, Vec<Entry>), LowerError> {
        let DesiredState { snapshot, bindings } = desired;
        let rebound = *bindings != self.bindings;
        if rebound {
            check_bindings(bindings, &self.bound.keys().copied().collect(), self.options.capacity.endpoints)?;
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
        let backup = (builds && start == Start::Live).then(|| self.image.clone());
        let built =
            self.check(&entries, &fresh).and_then(|()| self.build(desired, &changed, change, rebound));
        let bound = match built {
            Ok(bound) => bound,
            Err(error) => {
                self.addresses.undo(undo);
                if let Some(backup) = backup {
                    self.image = backup;
                }
                return Err(error);
            }
        };

        let mut writes = Vec::new();
        if self.flipped || fresh.iter().any(|class| self.retired.contains(class)) {
            self.wait(&mut writes);
        }
        let adds = bound.iter().any(|(interface, new)| new.is_some() && !self.bound.contains_key(interface))
            || entries.iter().any(|entry| entry.is && !entry.was);
        if adds && self.removed {
            self.wait(&mut writes);
        }
        self.image.set_rows(snapshot, &fresh);
        writes.extend(self.image.take_writes());
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
                used && self.image.row(*id, *class).is_some_and(|old| u32::from(old) != *row)
            }),
            None => true,
        };
        changes.iter().filter(is_remade).map(|(id, _)| *id).collect()
    }

    fn check(&self, entries: &[Entry], fresh: &BTreeSet<ClassId>) -> Result<(), LowerError> {
        self.addresses.check(entries, &self.options.capacity)?;
        fresh.iter().try_for_each(|class| self.image.check_class(*class))
    }

    /// Makes the programs of endpoints that change. What their interfaces have now; `None` for those that have nothing.
    fn build(
        &mut self,
        desired: DesiredState<'_>,
        changed: &Changed,
        change: &Change<'_>,
        rebound: bool,
    ) -> Result<BTreeMap<u32, Option<Bound>>, LowerError> {
        let DesiredState { snapshot, bindings } = desired;
        let stale = self.image.forget(changed);
        let mut bound = BTreeMap::new();
        if rebound {
            let endpoints = bindings.endpoints().flat_map(|(_, binding)| binding.interfaces());
            let kept: BTreeSet<u32> =
                endpoints.chain(bindings.uplinks()).filter_map(Interface::index).collect();
            bound.extend(self.bound.keys().filter(|id| !kept.contains(id)).map(|id| (*id, None)));
            for index in bindings.uplinks().filter_map(Interface::index) {
                bound.insert(index, Some(Bound { words: endpoint::uplink(), programs: Vec::new() }));
            }
        }
        let programs_of = |id: &EndpointId| snapshot.endpoints.get(id).map(|entry| &entry.enforced.0);
        let is_affected = |id: &EndpointId, binding: &Binding| {
            let is_stale =
                || programs_of(id).is_some_and(|programs| programs.values().any(|id| stale.contains(id)));
            let is_rebound = || rebound && self.bindings.of(id) != Some(binding);
            change.endpoints.contains(id) || is_rebound() || is_stale()
        };
        let cover = cover_of(bindings);
        let is_other_cover = match (cover, cover_of(&self.bindings)) {
            (Some((id, binding)), Some((old, _))) => id != old || is_affected(id, binding),
            (cover, old) => cover.is_some() != old.is_some(),
        };
        let affected: Vec<(&EndpointId, &Binding)> = bindings
            .endpoints()
            .filter(|(id, binding)| is_other_cover && binding.is_workload() || is_affected(id, binding))
            .collect();
        for (id, binding) in affected {
            for interface in binding.interfaces() {
                let mut made =
                    Bound { words: endpoint::without_programs(id, binding)?, programs: Vec::new() };
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
                    let slot = self.image.program(program, snapshot)?;
                    made.programs.push(slot);
                    if let Some(word) = made.words.get_mut(hook_index(hook)) {
                        *word = slot;
                    }
                }
                bound.insert(index_of(id, interface)?, Some(made));
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
            old.into_iter().flat_map(|old| old.programs).for_each(|slot| self.image.release_program(slot));
            if before != after {
                endpoints.push((interface, before, after));
            }
        }
        let in_place =
            endpoints.iter().all(|(_, before, after)| is_one_change(before.as_ref(), after.as_ref()));
        let at_once = start == Start::Empty
            || entries.is_empty() && in_place
            || endpoints.is_empty() && self.recent.allows(entries, self.image.looks_both_ways());
        if at_once {
            if start == Start::Live {
                self.recent.endpoints |= !endpoints.is_empty();
                self.recent.addresses.extend(entries.iter().map(|entry| entry.net));
            }
            // What goes goes last, so that nothing that comes gets its element.
            for is in [true, false] {
                let those = entries.iter().filter(|entry| entry.is == is);
                writes.extend(those.map(|entry| Write::Address(entry.net, entry.final_value())));
                let those = endpoints.iter().filter(|(_, _, after)| after.is_some() == is);
                writes.extend(those.map(|(interface, _, after)| {
                    Write::Endpoint(*interface, after.map(|buffer| Box::new(both([buffer; 2]))))
                }));
            }
            self.removed |= entries.iter().any(|entry| !entry.is)
                || endpoints.iter().any(|(_, _, after)| after.is_none());
            return;
        }
        let ordered = |old, new| if self.active_buffer == 0 { [old, new] } else { [new, old] };
        for entry in entries {
            writes.push(Write::Address(entry.net, Some(ordered(entry.old, entry.new))));
            self.stale_buffers.addresses.insert(entry.net, entry.final_value());
        }
        for (interface, before, after) in endpoints {
            let none = [0; BUFFER_WORDS];
            let (before, after) = (before.unwrap_or(none), after.unwrap_or(none));
            let buffers = if self.active_buffer == 0 { [before, after] } else { [after, before] };
            writes.push(Write::Endpoint(interface, Some(Box::new(both(buffers)))));
            self.stale_buffers.endpoints.insert(interface);
        }
        self.active_buffer = 1 - self.active_buffer;
        writes.push(Write::Flip(u32::from(self.active_buffer == 1)));
        self.flipped = true;
    }

    /// Waits for a grace period; then no packet reads the inactive buffer, and slots that were given back are free.
    fn wait(&mut self, writes: &mut Vec<Write>) {
        writes.push(Write::GracePeriod);
        let StaleBuffers { addresses, endpoints } = core::mem::take(&mut self.stale_buffers);
        self.removed = addresses.values().any(Option::is_none)
            || endpoints.iter().any(|interface| !self.bound.contains_key(interface));
        writes.extend(addresses.into_iter().map(|(net, buffers)| Write::Address(net, buffers)));
        for interface in endpoints {
            let words = self.bound.get(&interface).map(|bound| Box::new(both([bound.words; 2])));
            writes.push(Write::Endpoint(interface, words));
        }
        self.flipped = false;
        self.recent = Recent::default();
        self.retired.clear();
        self.image.reclaim();
    }
}

/// The whole snapshot goes into maps that are empty and that no packet is looked up in yet. [`Interface`]s need their
/// [index](Interface::index), which is what the kernel knows them by.
impl Lower for Lowering {
    type Options = Options;
    /// Nothing: every load makes fresh maps.
    type Existing = ();
    type Update = Update;

    fn load(options: Options, desired: DesiredState<'_>, (): &()) -> Result<(Self, Update), LowerError> {
        options.check()?;
        let snapshot = desired.snapshot;
        let mut lowering = Self {
            generation: snapshot.generation,
            image: Image::new(&options),
            addresses: Addresses::new(&options.dataplane.services),
            bindings: Bindings::new(),
            bound: BTreeMap::new(),
            active_buffer: 0,
            stale_buffers: StaleBuffers::default(),
            flipped: false,
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
        let (mut writes, entries) = lowering.advance(desired, &change, Start::Empty)?;
        // Services that no prefix of the snapshot changed.
        let written: BTreeSet<Cidr> = entries.iter().map(|entry| entry.net).collect();
        let services =
            lowering.addresses.services().into_iter().filter(|entry| !written.contains(&entry.net));
        writes.extend(services.map(|entry| Write::Address(entry.net, entry.final_value())));
        Ok((lowering, Update { writes }))
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Update, LowerError> {
        if delta.from != self.generation || desired.snapshot.generation != delta.to {
            return Err(LowerError::generation(self.generation, delta.from));
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
        let (writes, _) = self.advance(desired, &change, Start::Live)?;
        self.generation = delta.to;
        Ok(Update { writes })
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}

/// The hooks of the host endpoint for all interfaces that packets meet at the interface of a workload.
const COVERING: [Hook; 4] = [Hook::PreDnat, Hook::ForwardIngress, Hook::ForwardEgress, Hook::HostIngress];
