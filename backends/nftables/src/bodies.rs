//! Bodies of programs in use, their chains, and the sets that these look into.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::ir::{Delta, L4Table, L4TableId, ProgramId, ProjectionId, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{Part, Target};
use crate::decisions::Flavour;
use crate::l4::Rules;
use crate::nets::Nets;
use crate::peers::{PeerChanges, Peers, Want};
use crate::plan::{self, Classes, Node, RowClasses, Side, Split};
use crate::pool::{Pool, Work};

/// One family of one program, for hooks of one flavour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BodyKey {
    pub(crate) program: ProgramId,
    pub(crate) version: IpVersion,
    pub(crate) flavour: Flavour,
}

/// The chains of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyState {
    /// Where it begins.
    pub(crate) chain: Name,
    /// The sets its chains look into, in the order in which [`Renderer`] asks for them, and which address they are
    /// asked about.
    slots: Vec<(Side, Name)>,
}

/// The bodies in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bodies(BTreeMap<BodyKey, BodyState>);

/// What a set of bodies is compiled against.
pub(crate) struct Context<'a, 'w> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) peers: &'a mut Peers,
    pub(crate) nets: &'a BTreeMap<IpVersion, Nets>,
    pub(crate) work: &'a Work<'w>,
    /// Sets whose elements change in this update because addresses do.
    pub(crate) restless: &'a BTreeSet<Name>,
    /// Programs that endpoints with another program before now have.
    pub(crate) adopted: &'a BTreeSet<ProgramId>,
}

/// More arms than this are told apart by one map instead of one set each.
const MAX_SETS: usize = 3;

impl Bodies {
    pub(crate) fn chain(&self, key: &BodyKey) -> Option<&Name> {
        self.0.get(key).map(|state| &state.chain)
    }

    /// Brings the bodies to `wanted`, of which those that `affected` names may have changed. `None` when the
    /// snapshot breaks an invariant.
    pub(crate) fn update(
        &mut self,
        wanted: &BTreeSet<BodyKey>,
        affected: impl Fn(&BodyKey) -> bool,
        context: &mut Context<'_, '_>,
    ) -> Option<PeerChanges> {
        self.0.retain(|key, _| wanted.contains(key));
        let mut rows = BTreeMap::new();
        // Bodies whose chains can stay if their sets can become what they want; the others are built anew.
        let mut staying: BTreeMap<BodyKey, Vec<Want>> = BTreeMap::new();
        let mut rebuilt: BTreeMap<BodyKey, Node> = BTreeMap::new();
        for key in wanted.iter().filter(|key| !self.0.contains_key(*key) || affected(key)) {
            let node = context.plan(key, &mut rows)?;
            match self.0.get(key).and_then(|state| context.wants(key, &node, state)) {
                Some(wants) => drop(staying.insert(*key, wants)),
                None => drop(rebuilt.insert(*key, node)),
            }
        }
        for key in self.unsteady(&staying, &rebuilt, context) {
            staying.remove(&key);
            rebuilt.insert(key, context.plan(&key, &mut rows)?);
        }
        for key in self.disagreeing(&mut staying, &rebuilt, context.peers) {
            rebuilt.insert(key, context.plan(&key, &mut rows)?);
        }

        let mut changes = PeerChanges::default();
        for (key, wants) in staying {
            let slots = self.0.get(&key).map(|state| state.slots.clone()).unwrap_or_default();
            for ((_, set), want) in slots.iter().zip(wants) {
                if context.peers.find(set).is_some_and(|peer| peer.want != want)
                    && let Some(old) = context.peers.change(set, want)
                {
                    changes.changed.entry(set.clone()).or_insert(old);
                }
            }
        }
        for (key, node) in rebuilt {
            let state = context.build(&key, &node, &mut changes);
            self.0.insert(key, state);
        }
        Some(changes)
    }

    /// Bodies whose sets cannot change in place. Where those for the source and those for the destination change, a
    /// packet would get neither its old nor its new decision in between; so it would where an endpoint comes over
    /// from another program.
    fn unsteady(
        &self,
        staying: &BTreeMap<BodyKey, Vec<Want>>,
        rebuilt: &BTreeMap<BodyKey, Node>,
        context: &Context<'_, '_>,
    ) -> Vec<BodyKey> {
        let changes = |key: &BodyKey, state: &BodyState, side: Side| {
            let wants = staying.get(key);
            state.slots.iter().enumerate().any(|(index, (of, set))| {
                let differs = |want: &Want| context.peers.find(set).is_some_and(|peer| peer.want != *want);
                let wanted = wants.and_then(|wants| wants.get(index));
                *of == side && (context.restless.contains(set) || wanted.is_some_and(differs))
            })
        };
        if staying.is_empty() && context.restless.is_empty() {
            return Vec::new();
        }
        let unsteady = |(key, state): &(&BodyKey, &BodyState)| {
            let sides =
                [Side::Source, Side::Destination].into_iter().filter(|side| changes(key, state, *side));
            let most = usize::from(!context.adopted.contains(&key.program));
            !rebuilt.contains_key(*key) && sides.count() > most
        };
        self.0.iter().filter(unsteady).map(|(key, _)| *key).collect()
    }

    /// Takes out of `staying` those bodies whose sets have other users that want something else.
    fn disagreeing(
        &self,
        staying: &mut BTreeMap<BodyKey, Vec<Want>>,
        rebuilt: &BTreeMap<BodyKey, Node>,
        peers: &Peers,
    ) -> Vec<BodyKey> {
        let mut out = Vec::new();
        if staying.is_empty() {
            return out;
        }
        loop {
            // What each set is to become, and for how many slots.
            let mut votes: BTreeMap<&Name, BTreeMap<&Want, usize>> = BTreeMap::new();
            for (key, state) in
                self.0.iter().filter(|(key, _)| !rebuilt.contains_key(key) && !out.contains(*key))
            {
                let wants = staying.get(key);
                for (index, (_, set)) in state.slots.iter().enumerate() {
                    let current = || peers.find(set).map(|peer| &peer.want);
                    let want = wants.map_or_else(current, |wants| wants.get(index));
                    if let Some(want) = want {
                        let count = votes.entry(set).or_default().entry(want).or_default();
                        *count = count.saturating_add(1);
                    }
                }
            }
            // A body that did not change keeps its chains, so its sets stay as they are.
            let mut winners: BTreeMap<Name, Want> = BTreeMap::new();
            for (set, wants) in votes.iter().filter(|(_, wants)| wants.len() > 1) {
                let fixed = self.0.iter().any(|(key, state)| {
                    !staying.contains_key(key)
                        && !rebuilt.contains_key(key)
                        && !out.contains(key)
                        && state.slots.iter().any(|(_, slot)| slot == *set)
                });
                let current = peers.find(set).map(|peer| &peer.want).filter(|_| fixed);
                let most = wants.iter().max_by_key(|(_, count)| **count).map(|(want, _)| *want);
                if let Some(winner) = current.or(most) {
                    winners.insert((*set).clone(), winner.clone());
                }
            }
            let losers: Vec<BodyKey> = staying
                .iter()
                .filter(|(key, wants)| {
                    let slots = self.0.get(*key).map(|state| &state.slots[..]).unwrap_or_default();
                    slots
                        .iter()
                        .zip(wants.iter())
                        .any(|((_, set), want)| winners.get(set).is_some_and(|w| w != want))
                })
                .map(|(key, _)| *key)
                .collect();
            if losers.is_empty() {
                return out;
            }
            for key in losers {
                staying.remove(&key);
                out.push(key);
            }
        }
    }
}

impl Context<'_, '_> {
    fn plan(&mut self, key: &BodyKey, rows: &mut BTreeMap<ProjectionId, RowClasses>) -> Option<Node> {
        let snapshot = self.work.snapshot;
        let body = snapshot.programs.lookup(key.program)?.body(key.version);
        let mut classes = |id: ProjectionId| {
            if let Some(known) = rows.get(&id) {
                return Some(RowClasses::clone(known));
            }
            let made = plan::row_classes(snapshot.projections.lookup(id)?)?;
            rows.insert(id, made.clone());
            Some(made)
        };
        let (sources, destinations) = (classes(body.source)?, classes(body.destination)?);
        plan::plan(body, &sources, &destinations, |table| self.pool.table(table, key.flavour, self.work))
    }

    /// What the sets of `state` have to hold for its chains to carry out `node`; `None` when other chains are needed.
    fn wants(&mut self, key: &BodyKey, node: &Node, state: &BodyState) -> Option<Vec<Want>> {
        let mut slots = state.slots.iter();
        let mut wants = Vec::new();
        let peers = &*self.peers;
        let mut fits = true;
        let mut assign = |_, want: Want| {
            let same = |set: &&Name| peers.find(set).is_some_and(|peer| peer.want.kind() == want.kind());
            let set = slots.next().map(|(_, set)| set).filter(same);
            fits &= set.is_some();
            wants.push(want);
            set.cloned().unwrap_or_else(|| "".into())
        };
        let mut renderer = Renderer {
            pool: self.pool,
            nets: self.nets,
            work: self.work,
            version: key.version,
            assign: &mut assign,
        };
        let chain = renderer.render(node);
        let all = slots.next().is_none();
        (fits && all && chain == state.chain).then_some(wants)
    }

    /// Builds the chains of a body, with sets that do not change in this update.
    fn build(&mut self, key: &BodyKey, node: &Node, changes: &mut PeerChanges) -> BodyState {
        let mut slots = Vec::new();
        let (peers, restless, version, names) =
            (&mut *self.peers, self.restless, key.version, self.work.names);
        let mut assign = |side: Side, want: Want| {
            let still = |name: &Name| !changes.changed.contains_key(name) && !restless.contains(name);
            let usable = peers.iter().find(|(name, peer)| {
                let calm = changes.created.contains(*name) || still(name);
                peer.version == version && peer.want == want && calm
            });
            let found = usable.map(|(name, _)| name.clone());
            let name = found.unwrap_or_else(|| {
                let name = peers.create(version, want, names);
                changes.created.insert(name.clone());
                name
            });
            slots.push((side, name.clone()));
            name
        };
        let mut renderer =
            Renderer { pool: self.pool, nets: self.nets, work: self.work, version, assign: &mut assign };
        let chain = renderer.render(node);
        BodyState { chain, slots }
    }
}

/// Makes the chains of a tree, given a set for each thing that a chain wants to look into.
struct Renderer<'r, 'w> {
    pool: &'r mut Pool,
    nets: &'r BTreeMap<IpVersion, Nets>,
    work: &'r Work<'w>,
    version: IpVersion,
    assign: &'r mut dyn FnMut(Side, Want) -> Name,
}

impl Renderer<'_, '_> {
    fn render(&mut self, node: &Node) -> Name {
        match node {
            Node::Table(name) => name.clone(),
            Node::Split(split) => self.split(split),
        }
    }

    /// Single addresses decide first. What is known as one is not what the networks around it are; what is not known
    /// is what the networks say.
    fn split(&mut self, split: &Split) -> Name {
        let key = vec![split.side.field(self.version)];
        let rest = go(self.render(&split.rest));
        let arms: Vec<(&Classes, Name)> =
            split.arms.iter().map(|(classes, node)| (classes, self.render(node))).collect();
        let mut rules = Rules::new();
        if arms.len() <= MAX_SETS {
            for (classes, chain) in &arms {
                let set = (self.assign)(split.side, Want::Members((*classes).clone()));
                rules.push(vec![Part::In(key.clone(), set), go(chain.clone())]);
            }
        } else {
            let targets =
                arms.iter().flat_map(|(classes, chain)| classes.iter().map(|class| (*class, chain.clone())));
            let map = (self.assign)(split.side, Want::Targets(targets.collect()));
            rules.push(vec![Part::Dispatch(key.clone(), map)]);
        }
        let mut nets = Rules::new();
        for (classes, chain) in &arms {
            let ranges =
                self.nets.get(&self.version).map(|nets| nets.ranges(|class| classes.contains(&class)));
            if let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) {
                let set = self.pool.ranges(self.version, ranges, self.work.names);
                nets.push(vec![Part::In(key.clone(), set), go(chain.clone())]);
            }
        }
        if !nets.is_empty() {
            let known = (self.assign)(split.side, Want::Known);
            rules.push(vec![Part::In(key, known), rest.clone()]);
            rules.append(&mut nets);
        }
        rules.push(vec![rest]);
        self.pool.chain("p", rules, self.work.names)
    }
}

const fn go(chain: Name) -> Part {
    Part::Go(Target::Goto(chain))
}

/// Which bodies a delta may have changed.
pub(crate) struct Touched {
    programs: BTreeSet<ProgramId>,
    projections: BTreeSet<ProjectionId>,
    tables: BTreeSet<L4TableId>,
    /// Prefixes that are no single addresses changed: every body may have other ranges.
    nets: BTreeSet<IpVersion>,
}

impl Touched {
    pub(crate) fn by(delta: &Delta, snapshot: &Snapshot, nets: BTreeSet<IpVersion>) -> Self {
        let decisions: BTreeSet<_> = delta.decisions.iter().map(|(id, _)| *id).collect();
        let mut tables: BTreeSet<L4TableId> = delta.tables.iter().map(|(id, _)| *id).collect();
        if !decisions.is_empty() {
            let names = |table: &L4Table| {
                let of_maps = table.protocols.iter().flat_map(|(_, sources)| sources);
                let mut used = of_maps.flat_map(|source| &source.keys.0).map(|interval| interval.decision);
                decisions.contains(&table.other) || used.any(|decision| decisions.contains(&decision))
            };
            tables.extend(snapshot.tables.iter().filter(|(_, table)| names(table)).map(|(id, _)| id));
        }
        Self {
            programs: delta.programs.iter().map(|(id, _)| *id).collect(),
            projections: delta.projections.iter().map(|(id, _)| *id).collect(),
            tables,
            nets,
        }
    }

    pub(crate) const fn tables(&self) -> &BTreeSet<L4TableId> {
        &self.tables
    }

    /// Whether `delta` changes more than the classes of single addresses.
    pub(crate) fn is_structural(&self, delta: &Delta) -> bool {
        !(self.programs.is_empty()
            && self.projections.is_empty()
            && self.tables.is_empty()
            && self.nets.is_empty()
            && delta.decisions.is_empty()
            && delta.endpoints.is_empty())
    }

    /// Whether `key` may be compiled to something else now.
    pub(crate) fn affects(&self, key: &BodyKey, snapshot: &Snapshot) -> bool {
        let Some(program) = snapshot.programs.lookup(key.program) else { return true };
        let body = program.body(key.version);
        self.nets.contains(&key.version)
            || self.programs.contains(&key.program)
            || self.projections.contains(&body.source)
            || self.projections.contains(&body.destination)
            || (!self.tables.is_empty() && body.cells.iter().any(|table| self.tables.contains(table)))
    }
}
