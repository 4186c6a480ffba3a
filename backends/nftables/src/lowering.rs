//! From snapshots and deltas to updates of the table.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::net::IpAddr;

use portcullis_core::ir::{ClassId, DecisionEntry, Delta, ProgramId, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::{Cidr, IpVersion};
use portcullis_core::verdict::Hook;

use crate::binding::Bindings;
use crate::bodies::{Bodies, Context, PeerChanges, Touched};
use crate::dispatch::{self, FixedSets, Place};
use crate::emit::{self, Before};
use crate::fixed::Fixed;
use crate::names::Names;
use crate::nets::Nets;
use crate::options::{Limits, Options};
use crate::peers::{Peer, Peers};
use crate::pool::{Pool, Work};
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
    /// Whether an update failed half-way, so that what is noted here no longer holds.
    spoilt: bool,
    pub(crate) addresses: Addresses,
    pub(crate) pool: Pool,
    pub(crate) peers: Peers,
    pub(crate) bodies: Bodies,
    pub(crate) sets: FixedSets,
    pub(crate) skeleton: BTreeMap<Name, Hooked>,
    bindings: Bindings,
    assigned: Assigned,
    pub(crate) live: Live,
}

/// The program of each hook of each endpoint.
type Assigned = BTreeMap<(EndpointId, Hook), ProgramId>;

/// What the kernel holds of what is generated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) chains: BTreeSet<Name>,
    pub(crate) counters: BTreeSet<Name>,
    /// Sets of peers and of ranges, with their numbers of elements.
    pub(crate) sets: BTreeMap<Name, usize>,
}

/// Single addresses and networks with their classes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) single: BTreeMap<IpAddr, ClassId>,
    pub(crate) of_class: BTreeMap<ClassId, BTreeSet<IpAddr>>,
    pub(crate) nets: BTreeMap<IpVersion, Nets>,
}

/// A single address and the class it had and has.
pub(crate) type Move = (IpAddr, Option<ClassId>, Option<ClassId>);

/// Why a snapshot or delta could not be lowered. Nothing was sent anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerError(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Generation { found: u64, expected: u64 },
    Spoilt,
    Invalid,
    Limit { what: &'static str, limit: usize, needed: usize },
}

impl LowerError {
    /// The limit of [`Limits`] that does not hold: what it counts, the limit, and how many are needed.
    #[must_use]
    pub const fn limit(&self) -> Option<(&'static str, usize, usize)> {
        match self.0 {
            Kind::Limit { what, limit, needed } => Some((what, limit, needed)),
            _ => None,
        }
    }
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Generation { found, expected } => {
                write!(f, "the delta starts from generation {expected}, the table is at {found}")
            }
            Kind::Spoilt => f.write_str("an earlier update failed; lower the whole snapshot again"),
            Kind::Invalid => f.write_str("the snapshot breaks an invariant, see `Snapshot::verify`"),
            Kind::Limit { what, limit, needed } => {
                write!(f, "the policy does not fit: it needs {needed} {what}, the limit is {limit}")
            }
        }
    }
}

impl core::error::Error for LowerError {}

impl Lowering {
    /// Lowers a whole snapshot for the endpoints that `bindings` names. `existing` is what the table holds now, if it
    /// is there: the new state is built beside it, takes over, and the old is removed.
    ///
    /// # Errors
    /// When the snapshot breaks an invariant or does not fit the limits.
    pub fn load(
        options: Options,
        snapshot: &Snapshot,
        bindings: &Bindings,
        existing: &Existing,
    ) -> Result<(Self, Update), LowerError> {
        let names = Names::beyond(existing.names());
        let fixed = if existing.is_empty() { Fixed::default() } else { Fixed::numbered(&names.fresh("")) };
        let mut lowering = Self {
            options,
            names,
            fixed,
            generation: 0,
            spoilt: false,
            addresses: Addresses::default(),
            pool: Pool::default(),
            peers: Peers::default(),
            bodies: Bodies::default(),
            sets: FixedSets::new(),
            skeleton: BTreeMap::new(),
            bindings: Bindings::new(),
            assigned: Assigned::new(),
            live: Live::default(),
        };
        let delta = Snapshot::new().diff(snapshot);
        let update = lowering.advance(snapshot, &delta, bindings, Some(existing))?;
        Ok((lowering, update))
    }

    /// Follows `delta`, which leads to `snapshot`, and any change of `bindings`.
    ///
    /// # Errors
    /// When the delta starts elsewhere, the snapshot breaks an invariant, or the result does not fit the limits.
    /// Then this lowering is of no more use: [load](Lowering::load) another, or keep the old state as it is.
    pub fn update(
        &mut self,
        snapshot: &Snapshot,
        delta: &Delta,
        bindings: &Bindings,
    ) -> Result<Update, LowerError> {
        if self.spoilt {
            return Err(LowerError(Kind::Spoilt));
        }
        if delta.from != self.generation || delta.to != snapshot.generation {
            return Err(LowerError(Kind::Generation { found: self.generation, expected: delta.from }));
        }
        self.advance(snapshot, delta, bindings, None)
    }

    /// The generation of the snapshot that this stands for.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The options it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The decision that a chain carries out. The chain's name is also that of its counter, and the first word of the
    /// prefix of its events.
    #[must_use]
    pub fn decision(&self, chain: &str) -> Option<&DecisionEntry> {
        self.pool.meaning().get(chain)
    }

    /// All decisions that chains carry out, by name of the chain and counter.
    pub fn decisions(&self) -> impl Iterator<Item = (&Name, &DecisionEntry)> {
        self.pool.meaning().iter()
    }

    fn advance(
        &mut self,
        snapshot: &Snapshot,
        delta: &Delta,
        bindings: &Bindings,
        load: Option<&Existing>,
    ) -> Result<Update, LowerError> {
        self.spoilt = true;
        let (moves, nets) = self.addresses.follow(&delta.addresses);
        let restless = self.restless(&moves);
        let touched = Touched::by(delta, snapshot, nets);
        let structural = load.is_some() || touched.is_structural(delta) || self.bindings != *bindings;
        let mut update = Update::default();
        if structural {
            let before = Before::of(self);
            let changes =
                self.restructure(snapshot, &touched, bindings, &restless).ok_or(LowerError(Kind::Invalid))?;
            emit::structure(self, &before, &moves, &restless, &changes, load, &mut update);
            self.bindings.clone_from(bindings);
        } else {
            emit::elements(self, &moves, &restless, &mut update);
        }
        self.generation = snapshot.generation;
        self.check_limits()?;
        self.spoilt = false;
        Ok(update)
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

    fn restructure(
        &mut self,
        snapshot: &Snapshot,
        touched: &Touched,
        bindings: &Bindings,
        restless: &BTreeSet<Name>,
    ) -> Option<PeerChanges> {
        let Self { options, names, fixed, addresses, pool, peers, bodies, assigned, .. } = self;
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
        *assigned = now;
        let work = Work { snapshot, options, fixed, names };
        let mut context =
            Context { pool, peers, nets: &addresses.nets, work: &work, restless, adopted: &adopted };
        let changes = bodies.update(&wanted, |key| touched.affects(key, snapshot), &mut context)?;
        let facts = dispatch::facts(options, bindings, &locals);
        let mut place = Place { options, fixed, bodies, pool, names };
        self.sets = dispatch::sets(&locals, bindings, &facts, &mut place);
        self.skeleton = skeleton::chains(options, fixed, &facts);
        Some(changes)
    }

    fn check_limits(&self) -> Result<(), LowerError> {
        let Limits { chains, sets, elements } = self.options.limits;
        let of_sets =
            self.sets.values().map(|set| set.elements.len()).chain(self.live.sets.values().copied());
        let needs = [
            ("chains", chains, self.live.chains.len().saturating_add(self.skeleton.len())),
            ("sets", sets, self.live.sets.len().saturating_add(self.sets.len())),
            ("elements", elements, of_sets.fold(0, usize::saturating_add)),
        ];
        for (what, limit, needed) in needs {
            if needed > limit {
                return Err(LowerError(Kind::Limit { what, limit, needed }));
            }
        }
        Ok(())
    }
}

impl Addresses {
    /// Takes over changed prefixes: the single addresses that moved, and the families whose networks changed.
    fn follow(&mut self, changes: &[(Cidr, Option<ClassId>)]) -> (Vec<Move>, BTreeSet<IpVersion>) {
        let mut moves = Vec::new();
        let mut families = BTreeSet::new();
        for (net, class) in changes {
            if !net.is_host() {
                self.nets.entry(net.version()).or_default().set(*net, *class);
                families.insert(net.version());
                continue;
            }
            let address = net.address();
            let old = match class {
                Some(class) => self.single.insert(address, *class),
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
                self.of_class.entry(*class).or_default().insert(address);
            }
            if old != *class {
                moves.push((address, old, *class));
            }
        }
        for version in &families {
            if let Some(nets) = self.nets.get_mut(version) {
                nets.rebuild();
            }
        }
        (moves, families)
    }

    /// The single addresses of one family in a class.
    pub(crate) fn members(&self, class: ClassId, version: IpVersion) -> impl Iterator<Item = IpAddr> {
        let all = self.of_class.get(&class).into_iter().flatten().copied();
        all.filter(move |address| IpVersion::of(address) == version)
    }
}
