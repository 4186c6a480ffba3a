//! Interfaces by name and by the kernel's index.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::backend::{Binding, Bindings, Interface, Unreached};
use portcullis_core::model::EndpointId;

use crate::error::{Context as _, LoadError};
use crate::load::attach::Guard;

/// The interfaces of this network namespace at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct There {
    by_name: BTreeMap<String, u32>,
    by_index: BTreeMap<u32, String>,
}

impl There {
    /// Those of now.
    pub(crate) fn now() -> Result<Self, LoadError> {
        let mut there = Self::default();
        for one in &nix::net::if_::if_nameindex().context("cannot list interfaces")? {
            let name = one.name().to_string_lossy().into_owned();
            there.by_index.insert(one.index(), name.clone());
            there.by_name.insert(name, one.index());
        }
        Ok(there)
    }

    pub(crate) fn has(&self, index: u32) -> bool {
        self.by_index.contains_key(&index)
    }

    /// The index of an interface, if it is there. One that was made anew under its old name is another one, and so is one that got
    /// its index; one that has another name now is the same.
    fn index_of(&self, interface: &Interface) -> Option<u32> {
        let named = self.by_name.get(interface.name()).copied();
        match interface.index() {
            None => named,
            Some(index) if named.is_none() || named == Some(index) => self.has(index).then_some(index),
            Some(_) => None,
        }
    }

    /// Those whose name begins in one of these ways.
    fn beginning(&self, prefixes: &[Interface]) -> impl Iterator<Item = (&str, u32)> {
        let begins = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix.name()));
        self.by_name.iter().map(|(name, index)| (name.as_str(), *index)).filter(move |(name, _)| begins(name))
    }
}

/// Bindings of interfaces that are there, with their indexes, and those that are not there.
pub(crate) struct Resolved<'a> {
    pub(crate) bindings: Cow<'a, Bindings>,
    pub(crate) unreached: Vec<Unreached>,
    /// Interfaces of workloads that nobody bound, which are closed. Nobody misses one that goes.
    pub(crate) unbound: BTreeSet<u32>,
}

impl<'a> Resolved<'a> {
    /// Looks up the interfaces of `bindings`, and closes others whose name begins as those of workloads do.
    pub(crate) fn new(bindings: &'a Bindings, there: &There, workloads: &[Interface]) -> Self {
        let all = || {
            let endpoints = bindings.endpoints().flat_map(|(_, binding)| binding.interfaces());
            endpoints.chain(bindings.closed()).chain(bindings.uplinks())
        };
        let taken: BTreeSet<u32> = all().filter_map(|interface| there.index_of(interface)).collect();
        let unbound: Vec<Interface> = there
            .beginning(workloads)
            .filter(|(_, index)| !taken.contains(index))
            // One that has no name of an interface for us cannot be told to anybody either.
            .filter_map(|(name, index)| Some(Interface::new(name).ok()?.with_index(index)))
            .collect();
        let is_known = |interface: &Interface| {
            interface.index().is_some() && interface.index() == there.index_of(interface)
        };
        if unbound.is_empty() && all().all(is_known) {
            return Self {
                bindings: Cow::Borrowed(bindings),
                unreached: Vec::new(),
                unbound: BTreeSet::new(),
            };
        }
        let mut unreached = Vec::new();
        let mut find = |endpoint: Option<&EndpointId>, interface: &Interface| {
            let found = there.index_of(interface);
            if found.is_none() {
                unreached.push(unreached_of(endpoint, interface));
            }
            found.map(|index| interface.clone().with_index(index))
        };
        let mut resolved = Bindings::new();
        for (id, binding) in bindings.endpoints() {
            let mut found = binding.interfaces().iter().filter_map(|interface| find(Some(id), interface));
            let binding = match binding {
                Binding::Workload { addresses, .. } => found
                    .next()
                    .map(|interface| Binding::Workload { interface, addresses: addresses.clone() }),
                Binding::WorkloadAnyAddress { .. } => {
                    found.next().map(|interface| Binding::WorkloadAnyAddress { interface })
                }
                Binding::Host { .. } => Some(Binding::Host { interfaces: found.collect() }),
                Binding::AllInterfaces { .. } => Some(Binding::AllInterfaces { interfaces: found.collect() }),
                other => Some(other.clone()),
            };
            if let Some(binding) = binding {
                resolved.bind(id.clone(), binding);
            }
        }
        bindings.closed().filter_map(|interface| find(None, interface)).for_each(|one| resolved.close(one));
        bindings.uplinks().filter_map(|interface| find(None, interface)).for_each(|one| resolved.uplink(one));
        let indexes = unbound.iter().filter_map(Interface::index).collect();
        unbound.into_iter().for_each(|one| resolved.close(one));
        Self { bindings: Cow::Owned(resolved), unreached, unbound: indexes }
    }

    /// Every interface that is there, and what it is to be guarded by.
    pub(crate) fn wanted(&self) -> BTreeMap<u32, Wanted<'_>> {
        let endpoints = self.bindings.endpoints().flat_map(|(id, binding)| {
            let guard = if binding.is_workload() { Guard::Workload } else { Guard::Network };
            let wanted = move |interface| Wanted { guard, endpoint: Some(id), interface, is_named: true };
            binding.interfaces().iter().map(wanted)
        });
        let closed = self.bindings.closed().map(|interface| self.of_none(Guard::Workload, interface));
        let uplinks = self.bindings.uplinks().map(|interface| self.of_none(Guard::Network, interface));
        let all = endpoints.chain(closed).chain(uplinks);
        all.filter_map(|wanted| Some((wanted.interface.index()?, wanted))).collect()
    }

    fn of_none<'b>(&self, guard: Guard, interface: &'b Interface) -> Wanted<'b> {
        let is_named = interface.index().is_none_or(|index| !self.unbound.contains(&index));
        Wanted { guard, endpoint: None, interface, is_named }
    }
}

/// An interface that is gone.
pub(crate) fn unreached_of(endpoint: Option<&EndpointId>, interface: &Interface) -> Unreached {
    let reason = match interface.index() {
        Some(index) => format!("there is no interface with the index {index}"),
        None => "there is no such interface".to_owned(),
    };
    Unreached { endpoint: endpoint.cloned(), interface: interface.clone(), reason }
}

/// What an interface is to be guarded by, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) guard: Guard,
    pub(crate) endpoint: Option<&'a EndpointId>,
    pub(crate) interface: &'a Interface,
    /// Whether somebody named it, and is to be told when it is gone.
    pub(crate) is_named: bool,
}

#[cfg(test)]
mod tests;
