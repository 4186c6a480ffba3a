//! Which decisions differ between two snapshots, and in which direction.

mod addresses;
mod tables;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ir::{Body, ClassId, DecisionId, HookPrograms, L4Table, ProgramId, Projection, Snapshot};
use crate::model::EndpointId;
use crate::net::IpVersion;
use crate::packet::{Packet, Protocol};
use crate::verdict::Hook;

use addresses::class_steps;
use tables::{TableChange, Tables};

/// Everything that one snapshot decides otherwise than another, in what is enforced. See [`Snapshot::changes`].
///
/// Sorted, without overlap: a packet at a hook of an endpoint is covered by one change at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<Change>);

/// A box of packets that are decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The endpoints it concerns: those that had and have these programs.
    pub endpoints: Arc<BTreeSet<EndpointId>>,
    /// The hook.
    pub hook: Hook,
    /// The address family of the packets.
    pub version: IpVersion,
    /// The program before; `None` where the hook had none and everything was denied.
    pub program_before: Option<ProgramId>,
    /// The program after; `None` where the hook has none and everything is denied.
    pub program_after: Option<ProgramId>,
    /// The classes of the source address.
    pub source: Arc<BTreeSet<ClassStep>>,
    /// The classes of the destination address.
    pub destination: Arc<BTreeSet<ClassStep>>,
    /// The protocols.
    pub protocols: Protocols,
    /// First and last source port; 0 to 65,535 where ports do not matter.
    pub source_ports: (u16, u16),
    /// First and last key: destination port, or ICMP type and code. See [`L4Table::key`].
    pub keys: (u16, u16),
    /// The decision before; `None` where there was no program.
    pub before: Option<DecisionId>,
    /// The decision after; `None` where there is no program.
    pub after: Option<DecisionId>,
    /// In which direction it changed.
    pub tendency: Tendency,
}

/// The class of an address before and after; equal for an address whose class stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassStep {
    /// In the snapshot before.
    pub before: ClassId,
    /// In the snapshot after.
    pub after: ClassId,
}

/// One protocol, or all that are not in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocols {
    /// This one.
    One(Protocol),
    /// Every protocol but these.
    AllBut(Arc<[Protocol]>),
}

/// The direction of a change. From strict to permissive: Deny, Inspect, Continue, Allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tendency {
    /// Less is allowed.
    Tightened,
    /// More is allowed.
    Loosened,
    /// The verdict on the header alone is the same, but what is asked of the principal or the HTTP request differs.
    /// Who cuts flows has to treat it as tightened.
    Attributes,
}

impl Protocols {
    /// Whether `protocol` is one of them.
    #[must_use]
    pub fn contain(&self, protocol: Protocol) -> bool {
        match self {
            Self::One(one) => *one == protocol,
            Self::AllBut(others) => !others.contains(&protocol),
        }
    }
}

impl Changes {
    /// The change that covers `packet` at `hook` of `endpoint`.
    ///
    /// `before` and `after` are the snapshots that the changes were made from.
    #[must_use]
    pub fn of(
        &self,
        before: &Snapshot,
        after: &Snapshot,
        endpoint: &EndpointId,
        hook: Hook,
        packet: &Packet,
    ) -> Option<&Change> {
        let step = |address| ClassStep { before: before.class_of(address), after: after.class_of(address) };
        let (source, destination) = (step(packet.source), step(packet.destination));
        let key = L4Table::key(packet);
        let within = |range: (u16, u16), value: u16| range.0 <= value && value <= range.1;
        self.0.iter().find(|change| {
            change.hook == hook
                && change.version == packet.version()
                && change.protocols.contain(packet.protocol)
                && within(change.keys, key)
                && within(change.source_ports, packet.source_port)
                && change.source.contains(&source)
                && change.destination.contains(&destination)
                && change.endpoints.contains(endpoint)
        })
    }

    /// The changes that may deny a flow which was allowed: all but [`Tendency::Loosened`].
    pub fn tightened(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().filter(|change| change.tendency != Tendency::Loosened)
    }

    /// The changes that allow more.
    pub fn loosened(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().filter(|change| change.tendency == Tendency::Loosened)
    }
}

impl Snapshot {
    /// What `after` decides otherwise than this snapshot: for each box of packets the program, the classes of both
    /// ends, and the protocols and ports. A new cause for the same verdict is no change.
    ///
    /// An agent that lets established flows pass cuts those that [`Changes::tightened`] covers (decision D16).
    ///
    /// Compares the class of every prefix, and every pair of classes in programs that changed or whose addresses
    /// moved: the cost is linear in the prefixes, not in the packets.
    #[must_use]
    pub fn changes(&self, after: &Self) -> Changes {
        let mut changes = Vec::new();
        let mut tables = Tables::new(self, after);
        for version in [IpVersion::V4, IpVersion::V6] {
            let steps = class_steps(self, after, version);
            for ((hook, old, new), endpoints) in program_steps(self, after) {
                let pair = Pair { before: self, after, version, old, new, steps: &steps };
                pair.compare(hook, &Arc::new(endpoints), &mut tables, &mut changes);
            }
        }
        changes.sort_by(|a, b| order(a).cmp(&order(b)));
        Changes(changes)
    }
}

fn order(change: &Change) -> impl Ord + '_ {
    (
        (change.hook, change.version, change.program_before, change.program_after),
        (&change.source, &change.destination, &change.protocols, change.source_ports, change.keys),
    )
}

type ProgramStep = (Hook, Option<ProgramId>, Option<ProgramId>);

/// For each hook, which programs follow which, and at which endpoints.
fn program_steps(before: &Snapshot, after: &Snapshot) -> BTreeMap<ProgramStep, BTreeSet<EndpointId>> {
    let none = HookPrograms::default();
    let mut steps: BTreeMap<ProgramStep, BTreeSet<EndpointId>> = BTreeMap::new();
    let ids: BTreeSet<&EndpointId> = before.endpoints.keys().chain(after.endpoints.keys()).collect();
    for id in ids {
        let old = before.endpoints.get(id).map_or(&none, |entry| &entry.enforced);
        let new = after.endpoints.get(id).map_or(&none, |entry| &entry.enforced);
        let hooks: BTreeSet<Hook> = old.0.keys().chain(new.0.keys()).copied().collect();
        for hook in hooks {
            let step = (hook, old.0.get(&hook).copied(), new.0.get(&hook).copied());
            steps.entry(step).or_default().insert(id.clone());
        }
    }
    steps
}

/// One program before and one after, for one family.
struct Pair<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
    version: IpVersion,
    old: Option<ProgramId>,
    new: Option<ProgramId>,
    steps: &'a BTreeSet<ClassStep>,
}

impl Pair<'_> {
    fn compare(
        &self,
        hook: Hook,
        endpoints: &Arc<BTreeSet<EndpointId>>,
        tables: &mut Tables<'_>,
        changes: &mut Vec<Change>,
    ) {
        let old = Half::new(self.before, self.old, self.version);
        let new = Half::new(self.after, self.new, self.version);
        let sources = self.rows(old.source, new.source);
        let destinations = self.rows(old.destination, new.destination);
        for ((source_before, source_after), source) in &sources {
            for ((destination_before, destination_after), destination) in &destinations {
                let cells = (
                    old.body.and_then(|body| body.cell(*source_before, *destination_before)),
                    new.body.and_then(|body| body.cell(*source_after, *destination_after)),
                );
                for TableChange { protocols, source_ports, keys, before, after, tendency } in
                    tables.compare(cells).iter()
                {
                    changes.push(Change {
                        endpoints: Arc::clone(endpoints),
                        hook,
                        version: self.version,
                        program_before: self.old,
                        program_after: self.new,
                        source: Arc::clone(source),
                        destination: Arc::clone(destination),
                        protocols: protocols.clone(),
                        source_ports: *source_ports,
                        keys: *keys,
                        before: *before,
                        after: *after,
                        tendency: *tendency,
                    });
                }
            }
        }
    }

    /// The classes of the family by their rows before and after.
    fn rows(
        &self,
        old: Option<&Projection>,
        new: Option<&Projection>,
    ) -> BTreeMap<(u32, u32), Arc<BTreeSet<ClassStep>>> {
        let row = |projection: Option<&Projection>, class| projection.map_or(0, |p| p.row(class));
        let mut rows: BTreeMap<(u32, u32), BTreeSet<ClassStep>> = BTreeMap::new();
        for step in self.steps {
            rows.entry((row(old, step.before), row(new, step.after))).or_default().insert(*step);
        }
        rows.into_iter().map(|(rows, steps)| (rows, Arc::new(steps))).collect()
    }
}

/// A body with its projections, if there is a program.
struct Half<'a> {
    body: Option<&'a Body>,
    source: Option<&'a Projection>,
    destination: Option<&'a Projection>,
}

impl<'a> Half<'a> {
    fn new(snapshot: &'a Snapshot, program: Option<ProgramId>, version: IpVersion) -> Self {
        let body = program.and_then(|id| snapshot.programs.lookup(id)).map(|program| program.body(version));
        Self {
            body,
            source: body.and_then(|body| snapshot.projections.lookup(body.source)),
            destination: body.and_then(|body| snapshot.projections.lookup(body.destination)),
        }
    }
}
