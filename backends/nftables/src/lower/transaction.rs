//! The commands that lead from the old state to the new one.
//!
//! 1. New sets, chains and counters, complete, used by nothing.
//! 2. The base sets and the base chains switch to them: every packet meets the old chains or the new.
//! 3. Sets of peers that stay get their new elements; in a set an address that moves between two is in both.
//! 4. The sets of known addresses follow.
//! 5. Elements that are no longer wanted go.
//! 6. Endpoints that were not here before are let in.
//! 7. What nothing uses any more goes.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::ir::{ClassId, ProgramId};
use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::IpVersion;
use portcullis_core::verdict::Hook;

use crate::command::{Chain, Command, Content, Element, Elements, Field, Rule, Set, SetKind, Target, Value};
use crate::lower::addresses::Move;
use crate::lower::base_chains::{self, BaseChain};
use crate::lower::base_names::BaseNames;
use crate::lower::dispatch_maps::BaseSets;
use crate::lower::interned::{self, Used};
use crate::lower::peer_sets::{SetChanges, SetContent, element};
use crate::lower::state::{State, single};
use crate::update::{Existing, Update};

/// The program of each hook of each endpoint.
pub(crate) type Assigned = BTreeMap<(EndpointId, Hook), ProgramId>;

/// What there was before an update.
pub(crate) struct Before {
    pub(crate) sets: BaseSets,
    pub(crate) base_chains: BTreeMap<Name, BaseChain>,
    pub(crate) assigned: Assigned,
}

/// An update in which nothing but the classes of single addresses changed.
pub(crate) fn elements(
    state: &mut State,
    moves: &[Move],
    changing_sets: &BTreeSet<Name>,
    update: &mut Update,
) {
    change_in_place(state, moves, changing_sets, &SetChanges::default(), update);
}

/// Any other update. What packets can come to afterwards; the rest may be dropped.
pub(crate) fn structure(
    state: &mut State,
    before: &Before,
    moves: &[Move],
    changing_sets: &BTreeSet<Name>,
    changes: &SetChanges,
    load: Option<&Existing>,
    update: &mut Update,
) -> Used {
    let used = reachable(state);
    create(state, before, &used, load, update);
    let late = switch(state, before, load, update);
    let stages = update.stages.len();
    change_in_place(state, moves, changing_sets, changes, update);
    // Endpoints that were not here before have no old decision: they begin with the new one.
    update.push(update.stages.len() > stages, late);
    destroy(state, before, &used, load, update);
    used
}

/// The chains and sets that packets can come to.
fn reachable(state: &State) -> Used {
    let mut used = Used::new();
    let mut open: Vec<&Name> = Vec::new();
    let in_base_sets = state.sets.values().flat_map(|set| set.elements.values());
    open.extend(in_base_sets.filter_map(|target| target.as_ref()?.chain()));
    let rules = state.base_chains.values().flat_map(|chain| &chain.rules).flat_map(|(parts, _)| parts);
    open.extend(rules.flat_map(interned::targets));
    while let Some(name) = open.pop() {
        if used.contains(name) {
            continue;
        }
        used.insert(name.clone());
        for part in state.interned.content(name).into_iter().flatten().flat_map(|(parts, _)| parts) {
            open.extend(interned::targets(part));
            let Some(set) = interned::set_of(part).filter(|set| !used.contains(*set)) else { continue };
            if let Some(SetContent::Targets(targets)) = state.peer_sets.find(set).map(|peer| &peer.content) {
                open.extend(targets.values());
            }
            used.insert(set.clone());
        }
    }
    used
}

/// Stage 1: what is new and not yet used. Chains come before the elements that lead to them.
fn create(state: &mut State, before: &Before, used: &Used, load: Option<&Existing>, update: &mut Update) {
    let is_new = |name: &Name, state: &State| used.contains(name) && !state.live.sets.contains_key(name);
    let mut commands = Vec::new();
    if load.is_some() {
        commands.extend(state.families.iter().copied().map(Command::AddTable));
        commands.extend(base_chains::counters(&state.families).map(Command::AddCounter));
        let lasting = BaseNames::lasting().into_iter();
        commands.extend(lasting.map(|((name, key), kind)| Command::AddSet(new_set(&name, key, kind))));
    }
    let mut filled: Vec<(Set, Vec<Element>)> = Vec::new();
    for (name, set) in state.sets.iter().filter(|(name, _)| !before.sets.contains_key(*name)) {
        let elements =
            set.elements.iter().map(|(key, target)| Element { key: key.clone(), target: target.clone() });
        filled.push((new_set(name, set.key.clone(), set.kind), elements.collect()));
    }
    let mut made: Vec<(Set, Vec<Element>)> = Vec::new();
    for (name, peer) in state.peer_sets.iter().filter(|(name, _)| is_new(name, state)) {
        made.push((new_set(name, peer.key(), peer.content.kind()), state.members(peer)));
    }
    for (name, ranges) in state.interned.all_ranges().filter(|(name, _)| is_new(name, state)) {
        let version = ranges.first().map_or(IpVersion::V4, |(first, _)| IpVersion::of(first));
        let elements = ranges.iter().map(|(first, last)| single(Value::Addresses(*first, *last)));
        made.push((new_set(name, vec![Field::Source(version)], SetKind::Ranges), elements.collect()));
    }
    state.live.sets.extend(made.iter().map(|(set, elements)| (set.name.clone(), elements.len())));
    filled.append(&mut made);

    let new: Vec<&Name> = state
        .interned
        .chains()
        .filter(|name| used.contains(*name) && !state.live.chains.contains(*name))
        .collect();
    let fresh =
        |(name, chain): &(&Name, &BaseChain)| chain.hook.is_none() && !before.base_chains.contains_key(*name);
    let plain: Vec<(&Name, &BaseChain)> = state.base_chains.iter().filter(fresh).collect();

    let counters: Vec<&Name> =
        new.iter().copied().filter(|name| state.interned.meaning().contains_key(*name)).collect();
    commands.extend(counters.iter().map(|name| Command::AddCounter((*name).clone())));
    commands.extend(filled.iter().map(|(set, _)| Command::AddSet(set.clone())));
    for name in new.iter().copied().chain(plain.iter().map(|(name, _)| *name)) {
        commands.push(Command::AddChain(Chain { name: name.clone(), hook: None, comment: None }));
    }
    for name in &new {
        if let Some(content) = state.interned.content(name) {
            commands.extend(rules(name, content));
        }
    }
    for (name, chain) in &plain {
        commands.extend(rules(name, &chain.rules));
    }
    for (set, elements) in filled {
        commands.extend(add(&set.name, set.key, set.kind, elements));
    }
    let (new, counters): (Vec<Name>, Vec<Name>) =
        (new.into_iter().cloned().collect(), counters.into_iter().cloned().collect());
    state.live.counters.extend(counters);
    state.live.chains.extend(new);
    update.push(false, commands);
}

/// Stage 2: the base sets and the chains that look into them. What comes back are keys that were not there before.
fn switch(state: &State, before: &Before, load: Option<&Existing>, update: &mut Update) -> Vec<Command> {
    let (mut commands, mut late) = (Vec::new(), Vec::new());
    let closed = [state.base_names.closed(), state.base_names.arp_closed()].map(|(name, _)| name);
    for (name, set) in &state.sets {
        let Some(old) = before.sets.get(name).filter(|old| *old != set) else { continue };
        let gone = old.elements.iter().filter(|(key, target)| set.elements.get(*key) != Some(*target));
        let new = set.elements.iter().filter(|(key, target)| old.elements.get(*key) != Some(*target));
        let owned = |(key, target): (&Vec<Value>, &Option<Target>)| Element {
            key: key.clone(),
            target: target.clone(),
        };
        // A closed interface is opened with its new keys, and a newly closed one is closed at once: in between, neither passes.
        let gone = delete(name, set.key.clone(), set.kind, gone.map(owned).collect());
        if closed.contains(name) {
            late.extend(gone);
            commands.extend(add(name, set.key.clone(), set.kind, new.map(owned).collect()));
            continue;
        }
        commands.extend(gone);
        let (changed, new): (Vec<_>, Vec<_>) = new.partition(|(key, _)| old.elements.contains_key(*key));
        commands.extend(add(name, set.key.clone(), set.kind, changed.into_iter().map(owned).collect()));
        late.extend(add(name, set.key.clone(), set.kind, new.into_iter().map(owned).collect()));
    }
    for (name, chain) in &state.base_chains {
        let old = before.base_chains.get(name);
        if old == Some(chain) || (old.is_none() && chain.hook.is_none()) {
            continue;
        }
        if old.is_none() {
            commands.push(Command::AddChain(Chain { name: name.clone(), hook: chain.hook, comment: None }));
        }
        if old.is_some() || load.is_some_and(|existing| existing.chains.contains(name)) {
            commands.push(Command::FlushChain(name.clone()));
        }
        commands.extend(rules(name, &chain.rules));
    }
    let hooked = before.base_chains.iter().filter(|(_, chain)| chain.hook.is_some());
    let gone = hooked.map(|(name, _)| name).filter(|name| !state.base_chains.contains_key(*name));
    commands.extend(gone.map(|name| Command::FlushChain(name.clone())));
    if let Some(existing) = load {
        // Which of the old chains are hooked in is not known; none of them may see packets from here on.
        let gone = existing.chains.iter().filter(|name| !state.base_chains.contains_key(*name));
        let hooked = gone.filter(|name| base_chains::HOOKED.contains(&name.as_str()));
        commands.extend(hooked.map(|name| Command::FlushChain(name.clone())));
    }
    update.push(false, commands);
    late
}

/// Stages 3 to 5: elements of sets that stay.
fn change_in_place(
    state: &mut State,
    moves: &[Move],
    changing_sets: &BTreeSet<Name>,
    changes: &SetChanges,
    update: &mut Update,
) {
    let moved: BTreeMap<IpAddr, Option<ClassId>> =
        moves.iter().map(|(address, old, _)| (*address, *old)).collect();
    let (mut adding, mut following, mut deleting) = (Vec::new(), Vec::new(), Vec::new());
    let names: BTreeSet<&Name> = changing_sets.iter().chain(changes.changed.keys()).collect();
    for name in names {
        let Some(peer) = state.peer_sets.find(name).filter(|_| !changes.created.contains(name)) else {
            continue;
        };
        let old_want = changes.changed.get(name).unwrap_or(&peer.content);
        let mut candidates: BTreeSet<IpAddr> =
            moved.keys().copied().filter(|a| IpVersion::of(a) == peer.version).collect();
        for class in old_want.differing(&peer.content) {
            candidates.extend(state.addresses.members(class, peer.version));
        }
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for address in candidates {
            let class = state.addresses.single.get(&address).copied();
            let (was, is) = (old_want.of(*moved.get(&address).unwrap_or(&class)), peer.content.of(class));
            if was != is {
                gone.extend(element(address, was));
                new.extend(element(address, is));
            }
        }
        if let Some(count) = state.live.sets.get_mut(name) {
            *count = count.saturating_add(new.len()).saturating_sub(gone.len());
        }
        let (key, kind) = (peer.key(), peer.content.kind());
        match &peer.content {
            SetContent::Known => {
                following.extend(delete(name, key.clone(), kind, gone));
                following.extend(add(name, key, kind, new));
            }
            SetContent::Members(_) => {
                deleting.extend(delete(name, key.clone(), kind, gone));
                adding.extend(add(name, key, kind, new));
            }
            // A map can give an address another target in one batch.
            SetContent::Targets(_) => {
                let kept: BTreeSet<&Vec<Value>> = new.iter().map(|element| &element.key).collect();
                let (replaced, gone) = gone.into_iter().partition(|element| kept.contains(&element.key));
                adding.extend(delete(name, key.clone(), kind, replaced));
                deleting.extend(delete(name, key.clone(), kind, gone));
                adding.extend(add(name, key, kind, new));
            }
        }
    }
    for commands in [adding, following, deleting] {
        update.push(true, commands);
    }
}

/// Stage 7: what is no longer used.
fn destroy(state: &mut State, before: &Before, used: &Used, load: Option<&Existing>, update: &mut Update) {
    let mut gone = Existing::default();
    gone.chains.extend(state.live.chains.iter().filter(|name| !used.contains(*name)).cloned());
    gone.chains
        .extend(before.base_chains.keys().filter(|name| !state.base_chains.contains_key(*name)).cloned());
    gone.sets.extend(state.live.sets.keys().filter(|name| !used.contains(*name)).cloned());
    gone.sets.extend(before.sets.keys().filter(|name| !state.sets.contains_key(*name)).cloned());
    gone.counters.extend(state.live.counters.iter().filter(|name| !used.contains(*name)).cloned());
    state.live.chains.retain(|name| used.contains(name));
    state.live.sets.retain(|name, _| used.contains(name));
    state.live.counters.retain(|name| used.contains(name));
    if let Some(existing) = load {
        gone.chains
            .extend(existing.chains.iter().filter(|name| !state.base_chains.contains_key(*name)).cloned());
        let lasting: BTreeSet<Name> = BaseNames::lasting().into_iter().map(|((name, _), _)| name).collect();
        gone.sets.extend(existing.sets.difference(&lasting).cloned());
        let ours: BTreeSet<Name> = base_chains::counters(&state.families).collect();
        gone.counters.extend(existing.counters.difference(&ours).cloned());
    }
    let mut commands = gone.removal();
    if let Some(existing) = load {
        commands.extend(existing.tables.difference(&state.families).copied().map(Command::DeleteTable));
    }
    update.push(true, commands);
}

fn new_set(name: &Name, key: Vec<Field>, kind: SetKind) -> Set {
    Set { name: name.clone(), key, kind, comment: None }
}

fn rules<'a>(chain: &'a Name, content: &'a Content) -> impl Iterator<Item = Command> + 'a {
    content.iter().map(|(parts, comment)| {
        Command::AddRule(Rule { chain: chain.clone(), parts: parts.clone(), comment: comment.clone() })
    })
}

fn add(set: &Name, key: Vec<Field>, kind: SetKind, elements: Vec<Element>) -> Option<Command> {
    let some = !elements.is_empty();
    some.then(|| Command::AddElements(Elements { set: set.clone(), key, kind, elements }))
}

fn delete(set: &Name, key: Vec<Field>, kind: SetKind, elements: Vec<Element>) -> Option<Command> {
    let some = !elements.is_empty();
    some.then(|| Command::DeleteElements(Elements { set: set.clone(), key, kind, elements }))
}
