//! What was told to the kernel.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{BaseHook, Content, Element, Elements, Family, Field, SetKind, Value};
use crate::lower::addresses::Addresses;
use crate::lower::base_chain::BaseChain;
use crate::lower::base_chains;
use crate::lower::base_names::BaseNames;
use crate::lower::dispatch_maps::BaseSets;
use crate::lower::interned::Interned;
use crate::lower::peer_sets::{Membership, PeerSet, PeerSets, SetContent, element};
use crate::lower::program_chains::ProgramChains;

/// Everything that the table is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The families that there is a table for.
    pub(crate) families: BTreeSet<Family>,
    pub(crate) base_names: BaseNames,
    pub(crate) addresses: Addresses,
    pub(crate) interned: Interned,
    pub(crate) peer_sets: PeerSets,
    pub(crate) programs: ProgramChains,
    pub(crate) sets: BaseSets,
    pub(crate) base_chains: BTreeMap<Name, BaseChain>,
    pub(crate) live: Live,
}

/// The generated objects that the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) chains: BTreeSet<Name>,
    pub(crate) counters: BTreeSet<Name>,
    /// Sets of peers and of ranges, with their numbers of elements.
    pub(crate) sets: BTreeMap<Name, usize>,
}

impl Live {
    /// The objects that the kernel holds once all of these are written.
    pub(crate) fn of(interned: &Interned, peer_sets: &PeerSets, addresses: &Addresses) -> Self {
        let of_peers = peer_sets.iter().map(|(name, peer)| {
            let count = match &peer.content {
                SetContent::Known => {
                    addresses.single.keys().filter(|a| IpVersion::of(a) == peer.version).count()
                }
                content => content
                    .classes()
                    .into_iter()
                    .map(|class| addresses.members(class, peer.version).count())
                    .sum(),
            };
            (name.clone(), count)
        });
        let of_ranges = interned.all_ranges().map(|(name, ranges)| (name.clone(), ranges.len()));
        Self {
            chains: interned.chains().cloned().collect(),
            counters: interned.meaning().keys().cloned().collect(),
            sets: of_peers.chain(of_ranges).collect(),
        }
    }
}

/// What the kernel should hold, for a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected<'a> {
    /// The families that there is a table for.
    pub(crate) families: &'a BTreeSet<Family>,
    /// Where a chain is hooked in, and its rules.
    pub(crate) chains: BTreeMap<&'a Name, (Option<BaseHook>, &'a Content)>,
    /// The sets with their elements.
    pub(crate) sets: Vec<Elements>,
    pub(crate) counters: BTreeSet<Name>,
}

impl State {
    /// All elements of a set of peers.
    pub(crate) fn members(&self, peer: &PeerSet) -> Vec<Element> {
        if peer.content == SetContent::Known {
            let all = self.addresses.single.keys().filter(|address| IpVersion::of(address) == peer.version);
            return all.map(|address| single(Value::Address(*address))).collect();
        }
        let mut elements = Vec::new();
        for class in peer.content.classes() {
            let holding = peer.content.of(Some(class));
            let addresses = self.addresses.members(class, peer.version);
            elements.extend(addresses.filter_map(|address| element(address, Membership::clone(&holding))));
        }
        elements
    }

    #[cfg_attr(not(feature = "apply"), expect(dead_code, reason = "nothing is compared without the kernel"))]
    pub(crate) fn expected(&self) -> Expected<'_> {
        let made = self.live.chains.iter();
        let mut chains: BTreeMap<&Name, (Option<BaseHook>, &Content)> =
            made.filter_map(|name| Some((name, (None, self.interned.content(name)?)))).collect();
        chains.extend(self.base_chains.iter().map(|(name, chain)| (name, (chain.hook, &chain.rules))));
        let mut sets = Vec::new();
        let mut fill = |set: &Name, key, kind, elements| {
            sets.push(Elements { set: set.clone(), key, kind, elements });
        };
        for (name, set) in &self.sets {
            let all =
                set.elements.iter().map(|(key, target)| Element { key: key.clone(), target: target.clone() });
            fill(name, set.key.clone(), set.kind, all.collect());
        }
        for (name, peer) in self.peer_sets.iter() {
            fill(name, peer.key(), peer.content.kind(), self.members(peer));
        }
        for (name, ranges) in self.interned.all_ranges() {
            let version = ranges.first().map_or(IpVersion::V4, |(first, _)| IpVersion::of(first));
            let all = ranges.iter().map(|(first, last)| single(Value::Addresses(*first, *last)));
            fill(name, vec![Field::Source(version)], SetKind::Ranges, all.collect());
        }
        let mut counters = self.live.counters.clone();
        counters.extend(base_chains::counters(&self.families));
        Expected { families: &self.families, chains, sets, counters }
    }
}

/// An element of a set that is no map.
pub(crate) fn single(value: Value) -> Element {
    Element { key: vec![value], target: None }
}
