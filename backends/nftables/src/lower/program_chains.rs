//! The programs in use, their chains, and the sets that these look into.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::ir::{Delta, L4Table, L4TableId, ProgramId, ProjectionId, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{Part, Target};
use crate::lower::decision_chains::HookKind;
use crate::lower::decision_tree::{self, Classes, Node, RowClasses, Side, Split};
use crate::lower::interned::{Interned, LowerContext};
use crate::lower::l4_chains::Rules;
use crate::lower::peer_sets::{PeerSets, SetChanges, SetContent};
use crate::lower::ranges::Networks;

/// One family of one program, for hooks of one hook kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProgramKey {
    pub(crate) program: ProgramId,
    pub(crate) version: IpVersion,
    pub(crate) hook_kind: HookKind,
}

/// The chains of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuiltChains {
    /// Where it begins.
    pub(crate) chain: Name,
    /// The sets its chains look into, in the order in which [`Renderer`] asks for them, and which address they are
    /// asked about.
    slots: Vec<(Side, Name)>,
}

/// The programs in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgramChains(BTreeMap<ProgramKey, BuiltChains>);

/// What a set of programs is compiled against.
pub(crate) struct BuildContext<'a, 'w> {
    pub(crate) interned: &'a mut Interned,
    pub(crate) peer_sets: &'a mut PeerSets,
    pub(crate) nets: &'a BTreeMap<IpVersion, Networks>,
    pub(crate) work: &'a LowerContext<'w>,
    /// Sets whose elements change in this update because addresses do.
    pub(crate) changing_sets: &'a BTreeSet<Name>,
    /// Programs that an endpoint is moved to from another program.
    pub(crate) taken_over: &'a BTreeSet<ProgramId>,
}

/// More arms than this are told apart by one map instead of one set each.
const MAX_SETS: usize = 3;

impl ProgramChains {
    pub(crate) fn chain(&self, key: &ProgramKey) -> Option<&Name> {
        self.0.get(key).map(|state| &state.chain)
    }

    /// Brings the programs to `wanted`, of which those that `affected` names may have changed. `None` when the
    /// snapshot breaks an invariant.
    pub(crate) fn update(
        &mut self,
        wanted: &BTreeSet<ProgramKey>,
        affected: impl Fn(&ProgramKey) -> bool,
        context: &mut BuildContext<'_, '_>,
    ) -> Option<SetChanges> {
        self.0.retain(|key, _| wanted.contains(key));
        let mut rows = BTreeMap::new();
        // Programs whose chains can stay, if the sets can take their new content; the others are built anew.
        let mut reusable: BTreeMap<ProgramKey, Vec<SetContent>> = BTreeMap::new();
        let mut rebuilt: BTreeMap<ProgramKey, Node> = BTreeMap::new();
        for key in wanted.iter().filter(|key| !self.0.contains_key(*key) || affected(key)) {
            let node = context.plan(key, &mut rows)?;
            match self.0.get(key).and_then(|state| context.contents(key, &node, state)) {
                Some(contents) => drop(reusable.insert(*key, contents)),
                None => drop(rebuilt.insert(*key, node)),
            }
        }
        for key in self.cannot_update_in_place(&reusable, &rebuilt, context) {
            reusable.remove(&key);
            rebuilt.insert(key, context.plan(&key, &mut rows)?);
        }
        for key in self.conflicting(&mut reusable, &rebuilt, context.peer_sets) {
            rebuilt.insert(key, context.plan(&key, &mut rows)?);
        }

        let mut changes = SetChanges::default();
        for (key, contents) in reusable {
            let slots = self.0.get(&key).map(|state| state.slots.clone()).unwrap_or_default();
            for ((_, set), content) in slots.iter().zip(contents) {
                if context.peer_sets.find(set).is_some_and(|peer| peer.content != content)
                    && let Some(old) = context.peer_sets.change(set, content)
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

    /// Programs whose sets cannot change in place: those whose sets for the source and for the destination both change,
    /// and those that an endpoint is moved to from another program. A packet in between would get neither its old nor
    /// its new decision.
    fn cannot_update_in_place(
        &self,
        reusable: &BTreeMap<ProgramKey, Vec<SetContent>>,
        rebuilt: &BTreeMap<ProgramKey, Node>,
        context: &BuildContext<'_, '_>,
    ) -> Vec<ProgramKey> {
        let changes = |key: &ProgramKey, state: &BuiltChains, side: Side| {
            let contents = reusable.get(key);
            state.slots.iter().enumerate().any(|(index, (of, set))| {
                let differs = |content: &SetContent| {
                    context.peer_sets.find(set).is_some_and(|peer| peer.content != *content)
                };
                let wanted = contents.and_then(|contents| contents.get(index));
                *of == side && (context.changing_sets.contains(set) || wanted.is_some_and(differs))
            })
        };
        if reusable.is_empty() && context.changing_sets.is_empty() {
            return Vec::new();
        }
        let cannot_update_in_place = |(key, state): &(&ProgramKey, &BuiltChains)| {
            let sides =
                [Side::Source, Side::Destination].into_iter().filter(|side| changes(key, state, *side));
            let most = usize::from(!context.taken_over.contains(&key.program));
            !rebuilt.contains_key(*key) && sides.count() > most
        };
        self.0.iter().filter(cannot_update_in_place).map(|(key, _)| *key).collect()
    }

    /// Takes out of `reusable` those programs whose sets have other users that want something else.
    fn conflicting(
        &self,
        reusable: &mut BTreeMap<ProgramKey, Vec<SetContent>>,
        rebuilt: &BTreeMap<ProgramKey, Node>,
        peer_sets: &PeerSets,
    ) -> Vec<ProgramKey> {
        let mut out = Vec::new();
        if reusable.is_empty() {
            return out;
        }
        loop {
            // What each set is to become, and for how many slots.
            let mut votes: BTreeMap<&Name, BTreeMap<&SetContent, usize>> = BTreeMap::new();
            for (key, state) in
                self.0.iter().filter(|(key, _)| !rebuilt.contains_key(key) && !out.contains(*key))
            {
                let contents = reusable.get(key);
                for (index, (_, set)) in state.slots.iter().enumerate() {
                    let current = || peer_sets.find(set).map(|peer| &peer.content);
                    let content = contents.map_or_else(current, |contents| contents.get(index));
                    if let Some(content) = content {
                        let count = votes.entry(set).or_default().entry(content).or_default();
                        *count = count.saturating_add(1);
                    }
                }
            }
            // A body that did not change keeps its chains, so its sets stay as they are.
            let mut winners: BTreeMap<Name, SetContent> = BTreeMap::new();
            for (set, contents) in votes.iter().filter(|(_, contents)| contents.len() > 1) {
                let has_unchanged_user = self.0.iter().any(|(key, state)| {
                    !reusable.contains_key(key)
                        && !rebuilt.contains_key(key)
                        && !out.contains(key)
                        && state.slots.iter().any(|(_, slot)| slot == *set)
                });
                let current = peer_sets.find(set).map(|peer| &peer.content).filter(|_| has_unchanged_user);
                let most = contents.iter().max_by_key(|(_, count)| **count).map(|(content, _)| *content);
                if let Some(winner) = current.or(most) {
                    winners.insert((*set).clone(), winner.clone());
                }
            }
            let losers: Vec<ProgramKey> = reusable
                .iter()
                .filter(|(key, contents)| {
                    let slots = self.0.get(*key).map(|state| &state.slots[..]).unwrap_or_default();
                    slots
                        .iter()
                        .zip(contents.iter())
                        .any(|((_, set), content)| winners.get(set).is_some_and(|w| w != content))
                })
                .map(|(key, _)| *key)
                .collect();
            if losers.is_empty() {
                return out;
            }
            for key in losers {
                reusable.remove(&key);
                out.push(key);
            }
        }
    }
}

impl BuildContext<'_, '_> {
    fn plan(&mut self, key: &ProgramKey, rows: &mut BTreeMap<ProjectionId, RowClasses>) -> Option<Node> {
        let snapshot = self.work.snapshot;
        let body = snapshot.programs.lookup(key.program)?.body(key.version);
        let mut classes = |id: ProjectionId| {
            if let Some(known) = rows.get(&id) {
                return Some(RowClasses::clone(known));
            }
            let made = decision_tree::row_classes(snapshot.projections.lookup(id)?)?;
            rows.insert(id, made.clone());
            Some(made)
        };
        let (sources, destinations) = (classes(body.source)?, classes(body.destination)?);
        decision_tree::plan(body, &sources, &destinations, |table| {
            self.interned.table(table, key.hook_kind, self.work)
        })
    }

    /// What the sets of `state` have to hold for its chains to carry out `node`; `None` when other chains are needed.
    fn contents(&mut self, key: &ProgramKey, node: &Node, state: &BuiltChains) -> Option<Vec<SetContent>> {
        let mut slots = state.slots.iter();
        let mut contents = Vec::new();
        let peer_sets = &*self.peer_sets;
        let mut fits = true;
        let mut assign = |_, content: SetContent| {
            let same =
                |set: &&Name| peer_sets.find(set).is_some_and(|peer| peer.content.kind() == content.kind());
            let set = slots.next().map(|(_, set)| set).filter(same);
            fits &= set.is_some();
            contents.push(content);
            set.cloned().unwrap_or_else(|| "".into())
        };
        let mut renderer = Renderer {
            interned: self.interned,
            nets: self.nets,
            work: self.work,
            version: key.version,
            assign: &mut assign,
        };
        let chain = renderer.render(node);
        let all = slots.next().is_none();
        (fits && all && chain == state.chain).then_some(contents)
    }

    /// Builds the chains of a body, with sets that do not change in this update.
    fn build(&mut self, key: &ProgramKey, node: &Node, changes: &mut SetChanges) -> BuiltChains {
        let mut slots = Vec::new();
        let (peer_sets, changing_sets, version, names) =
            (&mut *self.peer_sets, self.changing_sets, key.version, self.work.names);
        let mut assign = |side: Side, content: SetContent| {
            let still = |name: &Name| !changes.changed.contains_key(name) && !changing_sets.contains(name);
            let usable = peer_sets.iter().find(|(name, peer)| {
                let unchanging = changes.created.contains(*name) || still(name);
                peer.version == version && peer.content == content && unchanging
            });
            let found = usable.map(|(name, _)| name.clone());
            let name = found.unwrap_or_else(|| {
                let name = peer_sets.create(version, content, names);
                changes.created.insert(name.clone());
                name
            });
            slots.push((side, name.clone()));
            name
        };
        let mut renderer = Renderer {
            interned: self.interned,
            nets: self.nets,
            work: self.work,
            version,
            assign: &mut assign,
        };
        let chain = renderer.render(node);
        BuiltChains { chain, slots }
    }
}

/// Makes the chains of a tree, given a set for each thing that a chain wants to look into.
struct Renderer<'r, 'w> {
    interned: &'r mut Interned,
    nets: &'r BTreeMap<IpVersion, Networks>,
    work: &'r LowerContext<'w>,
    version: IpVersion,
    assign: &'r mut dyn FnMut(Side, SetContent) -> Name,
}

impl Renderer<'_, '_> {
    fn render(&mut self, node: &Node) -> Name {
        match node {
            Node::Table(name) => name.clone(),
            Node::Split(split) => self.split(split),
        }
    }

    /// Single addresses decide first. A known address does not take the class of the networks around it; an unknown one
    /// does.
    fn split(&mut self, split: &Split) -> Name {
        let key = vec![split.side.field(self.version)];
        let rest = go(self.render(&split.rest));
        let arms: Vec<(&Classes, Name)> =
            split.arms.iter().map(|(classes, node)| (classes, self.render(node))).collect();
        let mut rules = Rules::new();
        if arms.len() <= MAX_SETS {
            for (classes, chain) in &arms {
                let set = (self.assign)(split.side, SetContent::Members((*classes).clone()));
                rules.push(vec![Part::In(key.clone(), set), go(chain.clone())]);
            }
        } else {
            let targets =
                arms.iter().flat_map(|(classes, chain)| classes.iter().map(|class| (*class, chain.clone())));
            let map = (self.assign)(split.side, SetContent::Targets(targets.collect()));
            rules.push(vec![Part::Dispatch(key.clone(), map)]);
        }
        let mut nets = Rules::new();
        for (classes, chain) in &arms {
            let ranges =
                self.nets.get(&self.version).map(|nets| nets.ranges(|class| classes.contains(&class)));
            if let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) {
                let set = self.interned.ranges(self.version, ranges, self.work.names);
                nets.push(vec![Part::In(key.clone(), set), go(chain.clone())]);
            }
        }
        if !nets.is_empty() {
            let known = (self.assign)(split.side, SetContent::Known);
            rules.push(vec![Part::In(key, known), rest.clone()]);
            rules.append(&mut nets);
        }
        rules.push(vec![rest]);
        self.interned.chain("p", rules, self.work.names)
    }
}

const fn go(chain: Name) -> Part {
    Part::Go(Target::Goto(chain))
}

/// Which programs a delta may have changed.
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
            let names = |table: &L4Table| table.decisions().any(|decision| decisions.contains(&decision));
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
    pub(crate) fn affects(&self, key: &ProgramKey, snapshot: &Snapshot) -> bool {
        let Some(program) = snapshot.programs.lookup(key.program) else { return true };
        let body = program.body(key.version);
        self.nets.contains(&key.version)
            || self.programs.contains(&key.program)
            || self.projections.contains(&body.source)
            || self.projections.contains(&body.destination)
            || (!self.tables.is_empty() && body.cells.iter().any(|table| self.tables.contains(table)))
    }
}
