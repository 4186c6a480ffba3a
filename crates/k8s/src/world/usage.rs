//! What objects refer to, counted, so that a part of the model that exists only because something refers to it comes and
//! goes without a look at everything else.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, PolicyId, ServiceId};

use super::index::Index;
use super::key::Place;
use super::part::Part;
use crate::importer::Configured;
use crate::workload::PodRecord;

/// Counts and indexes over the objects.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// How many parts of the model are in a namespace.
    pub(super) namespaces: Counts<Name>,
    /// How many endpoints have a profile.
    pub(super) profiles: Counts<Name>,
    /// How many policies are in a tier that exists only for them.
    pub(super) own_tiers: Counts<Name>,
    /// Policies by the tier that their objects name.
    pub(super) policies: Index<Name, PolicyId>,
    /// Nodes as pods tell of them.
    nodes: BTreeMap<Name, PodsOfNode>,
    /// Workload endpoints of Calico by the pod that they are for. All but the first of a pod are passed over.
    pub(super) workload_endpoints: Index<EndpointId, Place>,
    /// Slices of each service.
    pub(super) slices: Index<ServiceId, Place>,
    /// Services by the addresses in front of them.
    pub(super) frontends: Index<IpAddr, ServiceId>,
    /// Workload endpoints of the model by address.
    pub(super) addresses: Index<IpAddr, EndpointId>,
    /// Which settings the objects say something about.
    pub(super) settings: SettingCounts,
    /// Policies and profiles with rules that are read otherwise where something is not known of what they name.
    pub(super) guarded: BTreeSet<Part>,
    /// Objects of which something is not known that rules ask for.
    pub(super) gaps: BTreeSet<(&'static str, Place)>,
    /// Namespaces with workload endpoints of Calico of which it is not known what pod they are for.
    pub(super) lost_endpoints: Index<Name, Name>,
    /// Namespaces, and service accounts in them, that exist and of which nothing is known.
    pub(super) unknown: BTreeSet<(Name, Option<Name>)>,
}

/// How many objects say something about each of the settings that [`Configured`] tells of.
#[derive(Debug, Default)]
pub(super) struct SettingCounts([usize; 3]);

impl SettingCounts {
    pub(super) fn count(&mut self, says: Configured, count: Count) {
        let said = [says.failsafes, says.workload_to_host, says.tunnels];
        for (times, _) in self.0.iter_mut().zip(said).filter(|(_, is_said)| *is_said) {
            *times = match count {
                Count::Add => times.saturating_add(1),
                Count::Remove => times.saturating_sub(1),
            };
        }
    }

    pub(super) fn configured(&self) -> Configured {
        let [failsafes, workload_to_host, tunnels] = self.0.map(|times| times > 0);
        Configured { failsafes, workload_to_host, tunnels }
    }
}

/// How often each thing is referred to.
#[derive(Debug)]
pub(super) struct Counts<K>(BTreeMap<K, usize>);

/// What pods tell of their node.
#[derive(Debug, Default)]
struct PodsOfNode {
    pods: usize,
    addresses: Counts<IpAddr>,
}

/// Whether something is noted or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Add,
    Remove,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Counts<K> {
    pub(super) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Whether counting `key` once more, or once less, makes it come or go.
    pub(super) fn would_change(&self, key: &K, count: Count) -> bool {
        self.0.get(key).copied().unwrap_or_default() == usize::from(count == Count::Remove)
    }

    pub(super) fn count(&mut self, key: &K, count: Count) {
        match (self.0.get_mut(key), count) {
            (Some(times), Count::Add) => *times = times.saturating_add(1),
            (Some(times), Count::Remove) if *times > 1 => *times = times.saturating_sub(1),
            (Some(_), Count::Remove) => drop(self.0.remove(key)),
            (None, Count::Add) => drop(self.0.insert(key.clone(), 1)),
            (None, Count::Remove) => {}
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}

impl Usage {
    /// The addresses of a node as its pods tell them; `None` for a node that no pod is on.
    pub(super) fn addresses_of_node(&self, node: &Name) -> Option<impl Iterator<Item = IpAddr>> {
        self.nodes.get(node).map(|of_node| of_node.addresses.keys().copied())
    }

    /// The nodes that pods are on.
    pub(super) fn nodes_of_pods(&self) -> impl Iterator<Item = &Name> {
        self.nodes.keys()
    }

    /// Whether `pod` has something to tell of its node that no other pod tells.
    pub(super) fn tells_of_node(&self, pod: &PodRecord, count: Count) -> bool {
        let Some(of_node) = pod.endpoint.node.as_ref().and_then(|node| self.nodes.get(node)) else {
            return true;
        };
        let mut told = pod.node_addresses();
        (count == Count::Remove && of_node.pods == 1)
            || told.any(|address| of_node.addresses.would_change(&address, count))
    }

    /// Counts what `pod` tells of its node.
    pub(super) fn count_pod(&mut self, pod: &PodRecord, count: Count) {
        let Some(node) = &pod.endpoint.node else { return };
        let of_node = match count {
            Count::Add => self.nodes.entry(node.clone()).or_default(),
            Count::Remove => match self.nodes.get_mut(node) {
                Some(of_node) => of_node,
                None => return,
            },
        };
        match count {
            Count::Add => of_node.pods = of_node.pods.saturating_add(1),
            Count::Remove => of_node.pods = of_node.pods.saturating_sub(1),
        }
        for address in pod.node_addresses() {
            of_node.addresses.count(&address, count);
        }
        if of_node.pods == 0 {
            self.nodes.remove(node);
        }
    }
}

/// Notes `entry` in `set`, or takes it away.
pub(super) fn keep<T: Ord>(set: &mut BTreeSet<T>, entry: T, count: Count) {
    match count {
        Count::Add => drop(set.insert(entry)),
        Count::Remove => drop(set.remove(&entry)),
    }
}
