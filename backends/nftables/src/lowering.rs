//! From snapshots and deltas to updates of the table.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::net::IpAddr;

use portcullis_core::backend::{Bindings, DesiredState, Lower, LowerError};
use portcullis_core::ir::{ClassId, DecisionEntry, Delta, ProgramId, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::{Cidr, IpVersion};
use portcullis_core::verdict::Hook;

use crate::bodies::{Bodies, Context, Touched};
use crate::dispatch::{self, FixedSets, Place};
use crate::emit::{self, Before};
use crate::fixed::Fixed;
use crate::names::Names;
use crate::nets::Nets;
use crate::options::{Limits, Options};
use crate::peers::{Peer, PeerChanges, Peers, Want};
use crate::pool::{Meaning, Pool, Work};
use crate::skeleton::{self, Hooked};
use crate::update::{Existing, Update};

/// The table, as it follows from a snapshot, the endpoints of this node, and [`Options`].
///
/// It notes what it told the kernel, so that a [`Delta`] becomes the few commands that lead on from there.
#[derive(Clone, Debug)]
pub struct Lowering {
    pub(crate) options: Options,
    pub(crate) names: Names,
    pub(crate) fixed: Fixed,
    generation: u64,
    pub(crate) addresses: Addresses,
    pub(crate) pool: Pool,
    pub(crate) peers: Peers,
    pub(crate) bodies: Bodies,
    pub(crate) sets: FixedSets,
    pub(crate) skeleton: BTreeMap<Name, Hooked>,
    bindings: Bindings,
    /// Whether an interface was closed since the load.
    closes: bool,
    assigned: Assigned,
    pub(crate) live: Live,
}

/// The program of each hook of each endpoint.
pub(crate) type Assigned = BTreeMap<(EndpointId, Hook), ProgramId>;

/// What the kernel holds of what is generated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) chains: BTreeSet<Name>,
    pub(crate) counters: BTreeSet<Name>,
    /// Sets of peers and of ranges, with their numbers of elements.
    pub(crate) sets: BTreeMap<Name, usize>,
}

/// Single addresses and networks with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) single: BTreeMap<IpAddr, ClassId>,
    pub(crate) of_class: BTreeMap<ClassId, BTreeSet<IpAddr>>,
    pub(crate) nets: BTreeMap<IpVersion, Nets>,
}

/// A single address and the class it had and has.
pub(crate) type Move = (IpAddr, Option<ClassId>, Option<ClassId>);

/// Prefixes that are no single addresses, with the class they had.
type FormerNets = Vec<(Cidr, Option<ClassId>)>;

impl Lower for Lowering {
    type Options = Options;
    type Existing = Existing;
    type Update = Update;

    /// Lowers a whole snapshot. `existing` is what the table holds now, if it is there: the new state is built beside it, takes
    /// over, and the old is removed.
    fn load(
        options: Options,
        desired: DesiredState<'_>,
        existing: &Existing,
    ) -> Result<(Self, Update), LowerError> {
        options.check()?;
        let names = Names::beyond(existing.last_number, existing.names());
        let fixed = if existing.is_empty() { Fixed::default() } else { Fixed::numbered(&names.fresh("")) };
        let mut lowering = Self {
            options,
            names,
            fixed,
            generation: 0,
            addresses: Addresses::default(),
            pool: Pool::default(),
            peers: Peers::default(),
            bodies: Bodies::default(),
            sets: FixedSets::new(),
            skeleton: BTreeMap::new(),
            bindings: Bindings::new(),
            closes: false,
            assigned: Assigned::new(),
            live: Live::default(),
        };
        dispatch::check(desired.bindings)?;
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
        self.pool.meaning().get(chain).map(|meaning| &meaning.decision)
    }

    /// All decisions that chains carry out, by name of the chain and counter.
    pub fn decisions(&self) -> impl Iterator<Item = (&Name, &Arc<DecisionEntry>)> {
        self.pool.meaning().iter().map(|(name, meaning)| (name, &meaning.decision))
    }

    /// The number that a generated name ended in last.
    #[cfg(feature = "apply")]
    pub(crate) const fn last_number(&self) -> u64 {
        self.names.last()
    }

    /// What the chains of decisions stand for.
    #[cfg(feature = "apply")]
    pub(crate) const fn meaning(&self) -> &BTreeMap<Name, Meaning> {
        self.pool.meaning()
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
            dispatch::check(bindings)?;
        }
        let (moves, former) = self.addresses.follow(&delta.addresses);
        let families = former.iter().map(|(net, _)| net.version()).collect();
        let touched = Touched::by(delta, snapshot, families);
        let advanced = if load.is_some() || rebound || touched.is_structural(delta) {
            self.restructure(desired, &touched, &moves, load)
        } else {
            let (restless, mut update) = (self.restless(&moves), Update::default());
            emit::elements(self, &moves, &restless, &mut update);
            self.check_limits().map(|()| update)
        };
        match advanced {
            Ok(update) => {
                self.generation = snapshot.generation;
                Ok(update)
            }
            Err(error) => {
                self.addresses.go_back(&moves, &former);
                self.live = Live::of(&self.pool, &self.peers, &self.addresses);
                Err(error)
            }
        }
    }

    /// Sets of peers whose elements change because addresses move between classes.
    fn restless(&self, moves: &[Move]) -> BTreeSet<Name> {
        let mut restless = BTreeSet::new();
        for (address, old, new) in moves {
            let version = IpVersion::of(address);
            for name in self.peers.between(*old, *new) {
                let differs =
                    |peer: &Peer| peer.version == version && peer.want.of(*old) != peer.want.of(*new);
                if self.peers.find(name).is_some_and(differs) {
                    restless.insert(name.clone());
                }
            }
        }
        restless
    }

    /// Any update but that of single elements. On an error everything but the addresses and what is live is as it was.
    fn restructure(
        &mut self,
        desired: DesiredState<'_>,
        touched: &Touched,
        moves: &[Move],
        load: Option<&Existing>,
    ) -> Result<Update, LowerError> {
        let restless = self.restless(moves);
        let (closes, bodies) = (self.closes, self.bodies.clone());
        self.closes |= desired.bindings.closed().next().is_some();
        let before = Before {
            sets: core::mem::take(&mut self.sets),
            skeleton: core::mem::take(&mut self.skeleton),
            assigned: core::mem::take(&mut self.assigned),
        };
        let changes = self.compile(desired, touched, &restless, &before.assigned);
        let done = match &changes {
            None => Err(LowerError::invalid()),
            Some(changes) => {
                let mut update = Update::default();
                let used = emit::structure(self, &before, moves, &restless, changes, load, &mut update);
                self.check_limits().map(|()| (used, update))
            }
        };
        match done {
            Ok((used, mut update)) => {
                update.retired = self.pool.keep(&used);
                self.peers.keep(&used);
                self.bindings.clone_from(desired.bindings);
                Ok(update)
            }
            Err(error) => {
                Before { sets: self.sets, skeleton: self.skeleton, assigned: self.assigned } = before;
                self.closes = closes;
                self.bodies = bodies;
                self.peers.go_back(changes.unwrap_or_default());
                self.pool.drop_made();
                // What was derived from them is of the snapshot that is not in force.
                self.pool.forget(touched.tables());
                Err(error)
            }
        }
    }

    /// Brings chains, sets of peers and fixed sets to what `desired` needs. `None` when the snapshot breaks an invariant.
    fn compile(
        &mut self,
        desired: DesiredState<'_>,
        touched: &Touched,
        restless: &BTreeSet<Name>,
        assigned: &Assigned,
    ) -> Option<PeerChanges> {
        let DesiredState { snapshot, bindings } = desired;
        let Self { options, names, fixed, addresses, pool, peers, bodies, .. } = self;
        pool.forget(touched.tables());
        let locals = dispatch::locals(snapshot, bindings, options);
        let wanted: BTreeSet<_> = locals.values().flat_map(dispatch::Local::bodies).collect();
        let mut now = Assigned::new();
        for (id, local) in &locals {
            now.extend(local.hooks.iter().map(|(hook, program)| (((*id).clone(), *hook), *program)));
        }
        let moved = |(key, program): &(&(EndpointId, Hook), &ProgramId)| {
            assigned.get(*key).is_some_and(|before| before != *program)
        };
        let adopted: BTreeSet<ProgramId> = now.iter().filter(moved).map(|(_, program)| *program).collect();
        let work = Work { snapshot, options, fixed, names };
        let mut context =
            Context { pool, peers, nets: &addresses.nets, work: &work, restless, adopted: &adopted };
        let changes = bodies.update(&wanted, |key| touched.affects(key, snapshot), &mut context)?;
        let facts = dispatch::facts(options, bindings, &locals, self.closes);
        let mut place = Place { options, fixed, bodies, pool, names };
        self.sets = dispatch::sets(&locals, bindings, &facts, &mut place);
        self.skeleton = skeleton::chains(options, fixed, &facts);
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
        let of_sets =
            self.sets.values().map(|set| set.elements.len()).chain(self.live.sets.values().copied());
        [
            ("chains", chains, self.live.chains.len().saturating_add(self.skeleton.len())),
            ("sets", sets, self.live.sets.len().saturating_add(self.sets.len())),
            ("elements", elements, of_sets.fold(0, usize::saturating_add)),
        ]
    }
}

impl Live {
    /// What the kernel holds once it was told all of these.
    fn of(pool: &Pool, peers: &Peers, addresses: &Addresses) -> Self {
        let of_peers = peers.iter().map(|(name, peer)| {
            let count = match &peer.want {
                Want::Known => addresses.single.keys().filter(|a| IpVersion::of(a) == peer.version).count(),
                want => want
                    .classes()
                    .into_iter()
                    .map(|class| addresses.members(class, peer.version).count())
                    .sum(),
            };
            (name.clone(), count)
        });
        let of_ranges = pool.all_ranges().map(|(name, ranges)| (name.clone(), ranges.len()));
        Self {
            chains: pool.chains().cloned().collect(),
            counters: pool.meaning().keys().cloned().collect(),
            sets: of_peers.chain(of_ranges).collect(),
        }
    }
}

impl Addresses {
    /// Takes over changed prefixes: the single addresses that moved, and the networks that changed.
    fn follow(&mut self, changes: &[(Cidr, Option<ClassId>)]) -> (Vec<Move>, FormerNets) {
        let (mut moves, mut former) = (Vec::new(), FormerNets::new());
        for (net, class) in changes {
            if net.is_host() {
                let address = net.address();
                let old = self.single.get(&address).copied();
                if old != *class {
                    self.set_class(address, *class);
                    moves.push((address, old, *class));
                }
            } else {
                former.push((*net, self.nets.entry(net.version()).or_default().set(*net, *class)));
            }
        }
        self.rebuild(&former);
        (moves, former)
    }

    /// Takes back what [`Addresses::follow`] did.
    fn go_back(&mut self, moves: &[Move], former: &FormerNets) {
        for (address, old, _) in moves.iter().rev() {
            self.set_class(*address, *old);
        }
        for (net, class) in former.iter().rev() {
            self.nets.entry(net.version()).or_default().set(*net, *class);
        }
        self.rebuild(former);
    }

    fn set_class(&mut self, address: IpAddr, class: Option<ClassId>) {
        let old = match class {
            Some(class) => self.single.insert(address, class),
            None => self.single.remove(&address),
        };
        if let Some(old) = old
            && let Some(members) = self.of_class.get_mut(&old)
        {
            members.remove(&address);
            if members.is_empty() {
                self.of_class.remove(&old);
            }
        }
        if let Some(class) = class {
            self.of_class.entry(class).or_default().insert(address);
        }
    }

    fn rebuild(&mut self, changed: &FormerNets) {
        let families: BTreeSet<IpVersion> = changed.iter().map(|(net, _)| net.version()).collect();
        for version in families {
            if let Some(nets) = self.nets.get_mut(&version) {
                nets.rebuild();
            }
        }
    }

    /// The single addresses of one family in a class.
    pub(crate) fn members(&self, class: ClassId, version: IpVersion) -> impl Iterator<Item = IpAddr> {
        let all = self.of_class.get(&class).into_iter().flatten().copied();
        all.filter(move |address| IpVersion::of(address) == version)
    }
}
