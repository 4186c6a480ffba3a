//! From snapshots and deltas to updates of the table.

#[cfg(feature = "apply")]
use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use portcullis_core::backend::{Bindings, DesiredState, Lower, LowerError};
use portcullis_core::ir::{DecisionEntry, Delta, ProgramId, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::IpVersion;
use portcullis_core::verdict::Hook;

use crate::lower::addresses::Move;
use crate::lower::base_chains;
use crate::lower::base_names::BaseNames;
use crate::lower::dispatch_maps::{self, DispatchContext};
use crate::lower::interned::LowerContext;
#[cfg(feature = "apply")]
use crate::lower::interned::Meaning;
use crate::lower::names::Names;
use crate::lower::peer_sets::{PeerSet, SetChanges};
use crate::lower::program_chains::{BuildContext, Touched};
use crate::lower::state::{Live, State};
use crate::lower::transaction::{self, Assigned, Before};
use crate::options::{Limits, Options};
use crate::update::{Existing, Update};

/// The table, as it follows from a snapshot, the endpoints of this node, and [`Options`].
///
/// It remembers the state of the kernel, so that a [`Delta`] becomes a few commands on top of that.
#[derive(Clone, Debug)]
pub struct Lowering {
    pub(super) options: Options,
    names: Names,
    generation: u64,
    bindings: Bindings,
    /// Whether an interface was closed since the load that is not a workload's by its name.
    pub(super) closes: bool,
    pub(super) assigned: Assigned,
    pub(crate) state: State,
}

impl Lower for Lowering {
    type Options = Options;
    type Existing = Existing;
    type Update = Update;

    /// Lowers a whole snapshot. `existing` is the content of the table, if there is one: the new state is built beside it, takes
    /// over, and the old state is removed.
    fn load(
        options: Options,
        desired: DesiredState<'_>,
        existing: &Existing,
    ) -> Result<(Self, Update), LowerError> {
        options.check()?;
        let names = Names::beyond(existing.last_number, existing.names());
        let base_names =
            if existing.is_empty() { BaseNames::default() } else { BaseNames::numbered(&names.fresh("")) };
        let families = options.families();
        let mut lowering = Self {
            options,
            names,
            generation: 0,
            bindings: Bindings::new(),
            closes: false,
            assigned: Assigned::new(),
            state: State { families, base_names, ..State::default() },
        };
        dispatch_maps::check(desired.bindings)?;
        let delta = Snapshot::new().diff(desired.snapshot);
        let update = lowering.advance(desired, &delta, Some(existing))?;
        Ok((lowering, update))
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Update, LowerError> {
        if delta.from != self.generation || delta.to != desired.snapshot.generation {
            return Err(LowerError::generation(self.generation, delta.from));
        }
        self.advance(desired, delta, None)
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}

impl Lowering {
    #[cfg(all(test, feature = "oracle"))]
    pub(crate) const fn limit(&mut self, limits: Limits) {
        self.options.limits = limits;
    }

    /// The options it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The endpoints that it stands for.
    #[must_use]
    pub const fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// The decision that a chain carries out. The chain's name is also that of its counter, and the first word of the
    /// prefix of its events.
    #[must_use]
    pub fn decision(&self, chain: &str) -> Option<&Arc<DecisionEntry>> {
        self.state.interned.meaning().get(chain).map(|meaning| &meaning.decision)
    }

    /// All decisions that chains carry out, by name of the chain and counter.
    pub fn decisions(&self) -> impl Iterator<Item = (&Name, &Arc<DecisionEntry>)> {
        self.state.interned.meaning().iter().map(|(name, meaning)| (name, &meaning.decision))
    }

    /// The number that a generated name ended in last.
    #[cfg(feature = "apply")]
    pub(crate) const fn last_number(&self) -> u64 {
        self.names.last()
    }

    /// What the chains of decisions stand for.
    #[cfg(feature = "apply")]
    pub(crate) const fn meaning(&self) -> &BTreeMap<Name, Meaning> {
        self.state.interned.meaning()
    }

    fn advance(
        &mut self,
        desired: DesiredState<'_>,
        delta: &Delta,
        load: Option<&Existing>,
    ) -> Result<Update, LowerError> {
        let DesiredState { snapshot, bindings } = desired;
        let rebound = self.bindings != *bindings;
        if rebound {
            dispatch_maps::check(bindings)?;
        }
        let (moves, former) = self.state.addresses.follow(&delta.addresses);
        let families = former.iter().map(|(net, _)| net.version()).collect();
        let touched = Touched::by(delta, snapshot, families);
        let advanced = if load.is_some() || rebound || touched.is_structural(delta) {
            self.restructure(desired, &touched, &moves, load)
        } else {
            let (changing_sets, mut update) =
                (self.changing_sets(&moves), Update::new(self.options.shared.name.clone()));
            transaction::elements(&mut self.state, &moves, &changing_sets, &mut update);
            self.check_limits().map(|()| update)
        };
        match advanced {
            Ok(update) => {
                self.generation = snapshot.generation;
                Ok(update)
            }
            Err(error) => {
                self.state.addresses.go_back(&moves, &former);
                self.state.live =
                    Live::of(&self.state.interned, &self.state.peer_sets, &self.state.addresses);
                Err(error)
            }
        }
    }

    /// Sets of peers whose elements change because addresses move between classes.
    fn changing_sets(&self, moves: &[Move]) -> BTreeSet<Name> {
        let mut changing_sets = BTreeSet::new();
        for (address, old, new) in moves {
            let version = IpVersion::of(address);
            for name in self.state.peer_sets.between(*old, *new) {
                let differs = |peer: &PeerSet| {
                    peer.version == version && peer.content.of(*old) != peer.content.of(*new)
                };
                if self.state.peer_sets.find(name).is_some_and(differs) {
                    changing_sets.insert(name.clone());
                }
            }
        }
        changing_sets
    }

    /// Any update but that of single elements. On an error, all fields but the addresses and the live objects are as before.
    fn restructure(
        &mut self,
        desired: DesiredState<'_>,
        touched: &Touched,
        moves: &[Move],
        load: Option<&Existing>,
    ) -> Result<Update, LowerError> {
        let changing_sets = self.changing_sets(moves);
        let (closes, programs) = (self.closes, self.state.programs.clone());
        self.closes |= desired.bindings.closed().any(|interface| !self.options.is_workloads(interface));
        let before = Before {
            sets: core::mem::take(&mut self.state.sets),
            base_chains: core::mem::take(&mut self.state.base_chains),
            assigned: core::mem::take(&mut self.assigned),
        };
        let changes = self.compile(desired, touched, &changing_sets, &before.assigned);
        let done = match &changes {
            None => Err(LowerError::invalid()),
            Some(changes) => {
                let mut update = Update::new(self.options.shared.name.clone());
                let used = transaction::structure(
                    &mut self.state,
                    &before,
                    moves,
                    &changing_sets,
                    changes,
                    load,
                    &mut update,
                );
                self.check_limits().map(|()| (used, update))
            }
        };
        match done {
            Ok((used, mut update)) => {
                update.retired = self.state.interned.keep(&used);
                self.state.peer_sets.keep(&used);
                self.bindings.clone_from(desired.bindings);
                Ok(update)
            }
            Err(error) => {
                Before {
                    sets: self.state.sets,
                    base_chains: self.state.base_chains,
                    assigned: self.assigned,
                } = before;
                self.closes = closes;
                self.state.programs = programs;
                self.state.peer_sets.go_back(changes.unwrap_or_default());
                self.state.interned.drop_made();
                // Chains that were made from them belong to the snapshot that is not in force.
                self.state.interned.forget(touched.tables());
                Err(error)
            }
        }
    }

    /// Brings chains, sets of peers and base sets to what `desired` needs. `None` when the snapshot breaks an invariant.
    fn compile(
        &mut self,
        desired: DesiredState<'_>,
        touched: &Touched,
        changing_sets: &BTreeSet<Name>,
        assigned: &Assigned,
    ) -> Option<SetChanges> {
        let DesiredState { snapshot, bindings } = desired;
        let Self { options, names, state, .. } = self;
        let State { base_names, addresses, interned, peer_sets, programs, sets, base_chains: chains, .. } =
            state;
        interned.forget(touched.tables());
        let bound_endpoints = dispatch_maps::bound_endpoints(snapshot, bindings, options);
        let wanted: BTreeSet<_> =
            bound_endpoints.values().flat_map(dispatch_maps::BoundEndpoint::programs).collect();
        let mut now = Assigned::new();
        for (id, local) in &bound_endpoints {
            now.extend(local.hooks.iter().map(|(hook, program)| (((*id).clone(), *hook), *program)));
        }
        let moved = |(key, program): &(&(EndpointId, Hook), &ProgramId)| {
            assigned.get(*key).is_some_and(|before| before != *program)
        };
        let taken_over: BTreeSet<ProgramId> = now.iter().filter(moved).map(|(_, program)| *program).collect();
        let work = LowerContext { snapshot, options, base_names, names };
        let mut context = BuildContext {
            interned,
            peer_sets,
            nets: &addresses.nets,
            work: &work,
            changing_sets,
            taken_over: &taken_over,
        };
        let changes = programs.update(&wanted, |key| touched.affects(key, snapshot), &mut context)?;
        let facts = dispatch_maps::facts(options, desired, &bound_endpoints, self.closes);
        let mut place = DispatchContext { options, base_names, programs, interned, names };
        *sets = dispatch_maps::sets(&bound_endpoints, desired, &facts, &mut place);
        *chains = base_chains::chains(options, base_names, &facts);
        self.assigned = now;
        Some(changes)
    }

    fn check_limits(&self) -> Result<(), LowerError> {
        for (name, limit, needed) in self.usage() {
            if needed > limit {
                return Err(LowerError::limit(name, limit, needed));
            }
        }
        Ok(())
    }

    /// Each limit with its name, its value and how much of it is used.
    pub(crate) fn usage(&self) -> [(&'static str, usize, usize); 3] {
        let Limits { chains, sets, elements } = self.options.limits;
        let of_sets = self
            .state
            .sets
            .values()
            .map(|set| set.elements.len())
            .chain(self.state.live.sets.values().copied());
        [
            ("chains", chains, self.state.live.chains.len().saturating_add(self.state.base_chains.len())),
            ("sets", sets, self.state.live.sets.len().saturating_add(self.state.sets.len())),
            ("elements", elements, of_sets.fold(0, usize::saturating_add)),
        ]
    }
}
