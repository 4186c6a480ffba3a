//! The commands that lead from what was to what is.
//!
//! 1. New sets, chains and counters, complete, used by nothing.
//! 2. The fixed sets and the skeleton switch to them: every packet meets the old chains or the new.
//! 3. Sets of peers that stay get their new elements; in a set an address that moves between two is in both.
//! 4. The sets of known addresses follow.
//! 5. Elements that are no longer wanted go.
//! 6. Endpoints that were not here before are let in.
//! 7. What nothing uses any more goes.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::ir::ClassId;
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{Chain, Command, Element, Elements, Field, Rule, Set, SetKind, Target, Value};
use crate::dispatch::FixedSets;
use crate::lowering::{Assigned, Lowering, Move};
use crate::peers::{Holding, Peer, PeerChanges, Want, element};
use crate::pool::{self, Content, Used};
use crate::skeleton::{self, Hooked};
use crate::update::{Existing, Update};

/// What there was before an update.
pub(crate) struct Before {
    pub(crate) sets: FixedSets,
    pub(crate) skeleton: BTreeMap<Name, Hooked>,
    pub(crate) assigned: Assigned,
}

/// An update in which nothing but the classes of single addresses changed.
pub(crate) fn elements(
    lowering: &mut Lowering,
    moves: &[Move],
    restless: &BTreeSet<Name>,
    update: &mut Update,
) {
    change_in_place(lowering, moves, restless, &PeerChanges::default(), update);
}

/// Any other update. What packets can come to afterwards; the rest may be dropped.
pub(crate) fn structure(
    lowering: &mut Lowering,
    before: &Before,
    moves: &[Move],
    restless: &BTreeSet<Name>,
    changes: &PeerChanges,
    load: Option<&Existing>,
    update: &mut Update,
) -> Used {
    let used = reachable(lowering);
    create(lowering, before, &used, load, update);
    let late = switch(lowering, before, load, update);
    let stages = update.stages.len();
    change_in_place(lowering, moves, restless, changes, update);
    // Endpoints that were not here before have no old decision: they begin with the new one.
    update.push(update.stages.len() > stages, late);
    destroy(lowering, before, &used, load, update);
    used
}

/// The chains and sets that packets can come to.
fn reachable(lowering: &Lowering) -> Used {
    let mut used = Used::new();
    let mut open: Vec<&Name> = Vec::new();
    let fixed = lowering.sets.values().flat_map(|set| set.elements.values());
    open.extend(fixed.filter_map(|target| target.as_ref()?.chain()));
    let rules = lowering.skeleton.values().flat_map(|chain| &chain.rules).flat_map(|(parts, _)| parts);
    open.extend(rules.flat_map(pool::targets));
    while let Some(name) = open.pop() {
        if used.contains(name) {
            continue;
        }
        used.insert(name.clone());
        for part in lowering.pool.content(name).into_iter().flatten().flat_map(|(parts, _)| parts) {
            open.extend(pool::targets(part));
            let Some(set) = pool::set_of(part).filter(|set| !used.contains(*set)) else { continue };
            if let Some(Want::Targets(targets)) = lowering.peers.find(set).map(|peer| &peer.want) {
                open.extend(targets.values());
            }
            used.insert(set.clone());
        }
    }
    used
}

/// Stage 1: what is new and not yet used. Chains come before the elements that lead to them.
fn create(
    lowering: &mut Lowering,
    before: &Before,
    used: &Used,
    load: Option<&Existing>,
    update: &mut Update,
) {
    let is_new =
        |name: &Name, lowering: &Lowering| used.contains(name) && !lowering.live.sets.contains_key(name);
    let mut commands = Vec::new();
    if load.is_some() {
        commands.push(Command::AddTable);
        commands.extend([skeleton::UNKNOWN, skeleton::TO_HOST].map(|name| Command::AddCounter(name.into())));
    }
    let mut filled: Vec<(Set, Vec<Element>)> = Vec::new();
    for (name, set) in lowering.sets.iter().filter(|(name, _)| !before.sets.contains_key(*name)) {
        let elements =
            set.elements.iter().map(|(key, target)| Element { key: key.clone(), target: target.clone() });
        filled.push((new_set(name, set.key.clone(), set.kind), elements.collect()));
    }
    let mut made: Vec<(Set, Vec<Element>)> = Vec::new();
    for (name, peer) in lowering.peers.iter().filter(|(name, _)| is_new(name, lowering)) {
        made.push((new_set(name, peer.key(), peer.want.kind()), members(lowering, peer)));
    }
    for (name, ranges) in lowering.pool.all_ranges().filter(|(name, _)| is_new(name, lowering)) {
        let version = ranges.first().map_or(IpVersion::V4, |(first, _)| IpVersion::of(first));
        let elements = ranges.iter().map(|(first, last)| single(Value::Addresses(*first, *last)));
        made.push((new_set(name, vec![Field::Source(version)], SetKind::Ranges), elements.collect()));
    }
    lowering.live.sets.extend(made.iter().map(|(set, elements)| (set.name.clone(), elements.len())));
    filled.append(&mut made);

    let new: Vec<&Name> = lowering
        .pool
        .chains()
        .filter(|name| used.contains(*name) && !lowering.live.chains.contains(*name))
        .collect();
    let fresh =
        |(name, chain): &(&Name, &Hooked)| chain.hook.is_none() && !before.skeleton.contains_key(*name);
    let plain: Vec<(&Name, &Hooked)> = lowering.skeleton.iter().filter(fresh).collect();

    let counters: Vec<&Name> =
        new.iter().copied().filter(|name| lowering.pool.meaning().contains_key(*name)).collect();
    commands.extend(counters.iter().map(|name| Command::AddCounter((*name).clone())));
    commands.extend(filled.iter().map(|(set, _)| Command::AddSet(set.clone())));
    for name in new.iter().copied().chain(plain.iter().map(|(name, _)| *name)) {
        commands.push(Command::AddChain(Chain { name: name.clone(), hook: None, comment: None }));
    }
    for name in &new {
        if let Some(content) = lowering.pool.content(name) {
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
    lowering.live.counters.extend(counters);
    lowering.live.chains.extend(new);
    update.push(false, commands);
}

/// Stage 2: the fixed sets and the chains that look into them. What comes back are keys that were not there before.
fn switch(
    lowering: &Lowering,
    before: &Before,
    load: Option<&Existing>,
    update: &mut Update,
) -> Vec<Command> {
    let (mut commands, mut late) = (Vec::new(), Vec::new());
    let (closed, _) = lowering.fixed.closed();
    for (name, set) in &lowering.sets {
        let Some(old) = before.sets.get(name).filter(|old| *old != set) else { continue };
        let gone = old.elements.iter().filter(|(key, target)| set.elements.get(*key) != Some(*target));
        let new = set.elements.iter().filter(|(key, target)| old.elements.get(*key) != Some(*target));
        let owned = |(key, target): (&Vec<Value>, &Option<Target>)| Element {
            key: key.clone(),
            target: target.clone(),
        };
        // What was closed is opened with the new keys, and what is closed is so at once: in between neither passes.
        let gone = delete(name, set.key.clone(), set.kind, gone.map(owned).collect());
        if *name == closed {
            late.extend(gone);
            commands.extend(add(name, set.key.clone(), set.kind, new.map(owned).collect()));
            continue;
        }
        commands.extend(gone);
        let (changed, new): (Vec<_>, Vec<_>) = new.partition(|(key, _)| old.elements.contains_key(*key));
        commands.extend(add(name, set.key.clone(), set.kind, changed.into_iter().map(owned).collect()));
        late.extend(add(name, set.key.clone(), set.kind, new.into_iter().map(owned).collect()));
    }
    for (name, chain) in &lowering.skeleton {
        let old = before.skeleton.get(name);
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
    let hooked = before.skeleton.iter().filter(|(_, chain)| chain.hook.is_some());
    let gone = hooked.map(|(name, _)| name).filter(|name| !lowering.skeleton.contains_key(*name));
    commands.extend(gone.map(|name| Command::FlushChain(name.clone())));
    if let Some(existing) = load {
        // Which of the old chains are hooked in is not known; none of them may see packets from here on.
        let gone = existing.chains.iter().filter(|name| !lowering.skeleton.contains_key(*name));
        let hooked = gone.filter(|name| skeleton::HOOKED.contains(&name.as_str()));
        commands.extend(hooked.map(|name| Command::FlushChain(name.clone())));
    }
    update.push(false, commands);
    late
}

/// Stages 3 to 5: elements of sets that stay.
fn change_in_place(
    lowering: &mut Lowering,
    moves: &[Move],
    restless: &BTreeSet<Name>,
    changes: &PeerChanges,
    update: &mut Update,
) {
    let moved: BTreeMap<IpAddr, Option<ClassId>> =
        moves.iter().map(|(address, old, _)| (*address, *old)).collect();
    let (mut adding, mut following, mut deleting) = (Vec::new(), Vec::new(), Vec::new());
    let names: BTreeSet<&Name> = restless.iter().chain(changes.changed.keys()).collect();
    for name in names {
        let Some(peer) = lowering.peers.find(name).filter(|_| !changes.created.contains(name)) else {
            continue;
        };
        let old_want = changes.changed.get(name).unwrap_or(&peer.want);
        let mut candidates: BTreeSet<IpAddr> =
            moved.keys().copied().filter(|a| IpVersion::of(a) == peer.version).collect();
        for class in old_want.differing(&peer.want) {
            candidates.extend(lowering.addresses.members(class, peer.version));
        }
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for address in candidates {
            let class = lowering.addresses.single.get(&address).copied();
            let (was, is) = (old_want.of(*moved.get(&address).unwrap_or(&class)), peer.want.of(class));
            if was != is {
                gone.extend(element(address, was));
                new.extend(element(address, is));
            }
        }
        if let Some(count) = lowering.live.sets.get_mut(name) {
            *count = count.saturating_add(new.len()).saturating_sub(gone.len());
        }
        let (key, kind) = (peer.key(), peer.want.kind());
        match &peer.want {
            Want::Known => {
                following.extend(delete(name, key.clone(), kind, gone));
                following.extend(add(name, key, kind, new));
            }
            Want::Members(_) => {
                deleting.extend(delete(name, key.clone(), kind, gone));
                adding.extend(add(name, key, kind, new));
            }
            // A map can give an address another target in one batch.
            Want::Targets(_) => {
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
fn destroy(
    lowering: &mut Lowering,
    before: &Before,
    used: &Used,
    load: Option<&Existing>,
    update: &mut Update,
) {
    let mut gone = Existing::default();
    gone.chains.extend(lowering.live.chains.iter().filter(|name| !used.contains(*name)).cloned());
    gone.chains.extend(before.skeleton.keys().filter(|name| !lowering.skeleton.contains_key(*name)).cloned());
    gone.sets.extend(lowering.live.sets.keys().filter(|name| !used.contains(*name)).cloned());
    gone.sets.extend(before.sets.keys().filter(|name| !lowering.sets.contains_key(*name)).cloned());
    gone.counters.extend(lowering.live.counters.iter().filter(|name| !used.contains(*name)).cloned());
    lowering.live.chains.retain(|name| used.contains(name));
    lowering.live.sets.retain(|name, _| used.contains(name));
    lowering.live.counters.retain(|name| used.contains(name));
    if let Some(existing) = load {
        gone.chains
            .extend(existing.chains.iter().filter(|name| !lowering.skeleton.contains_key(*name)).cloned());
        gone.sets.extend(existing.sets.iter().cloned());
        let ours = |name: &&Name| ![skeleton::UNKNOWN, skeleton::TO_HOST].contains(&name.as_str());
        gone.counters.extend(existing.counters.iter().filter(ours).cloned());
    }
    update.push(true, gone.removal());
}

/// All elements of a set of peers.
fn members(lowering: &Lowering, peer: &Peer) -> Vec<Element> {
    if peer.want == Want::Known {
        let all = lowering.addresses.single.keys().filter(|address| IpVersion::of(address) == peer.version);
        return all.map(|address| single(Value::Address(*address))).collect();
    }
    let mut elements = Vec::new();
    for class in peer.want.classes() {
        let holding = peer.want.of(Some(class));
        let addresses = lowering.addresses.members(class, peer.version);
        elements.extend(addresses.filter_map(|address| element(address, Holding::clone(&holding))));
    }
    elements
}

fn single(value: Value) -> Element {
    Element { key: vec![value], target: None }
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

/// What the kernel should hold, for a comparison: the number of rules of each chain, the elements of each set, and the
/// counters.
type Expected = (BTreeMap<Name, usize>, Vec<Elements>, BTreeSet<Name>);

impl Lowering {
    #[cfg_attr(not(feature = "apply"), expect(dead_code, reason = "nothing is compared without the kernel"))]
    pub(crate) fn expected(&self) -> Expected {
        let made = self.live.chains.iter();
        let mut chains: BTreeMap<Name, usize> =
            made.map(|name| (name.clone(), self.pool.content(name).map_or(0, Vec::len))).collect();
        chains.extend(self.skeleton.iter().map(|(name, chain)| (name.clone(), chain.rules.len())));
        let mut sets = Vec::new();
        let mut fill = |set: &Name, key, kind, elements| {
            sets.push(Elements { set: set.clone(), key, kind, elements });
        };
        for (name, set) in &self.sets {
            let all =
                set.elements.iter().map(|(key, target)| Element { key: key.clone(), target: target.clone() });
            fill(name, set.key.clone(), set.kind, all.collect());
        }
        for (name, peer) in self.peers.iter() {
            fill(name, peer.key(), peer.want.kind(), members(self, peer));
        }
        for (name, ranges) in self.pool.all_ranges() {
            let version = ranges.first().map_or(IpVersion::V4, |(first, _)| IpVersion::of(first));
            let all = ranges.iter().map(|(first, last)| single(Value::Addresses(*first, *last)));
            fill(name, vec![Field::Source(version)], SetKind::Ranges, all.collect());
        }
        let mut counters = self.live.counters.clone();
        counters.extend([skeleton::UNKNOWN, skeleton::TO_HOST].map(Name::from));
        (chains, sets, counters)
    }
}
