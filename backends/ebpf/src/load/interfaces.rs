//! Interfaces by name and by the kernel's index.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::backend::{Binding, Bindings, Interface, Unreached};
use portcullis_core::model::EndpointId;

use crate::error::{Context as _, LoadError};
use crate::load::attach::Guard;

/// Bindings of interfaces that all have an index, and those that had none and are not there.
pub(crate) struct Resolved<'a> {
    pub(crate) bindings: Cow<'a, Bindings>,
    pub(crate) unreached: Vec<Unreached>,
}

impl<'a> Resolved<'a> {
    /// Looks up the interfaces whose index is not known.
    pub(crate) fn new(bindings: &'a Bindings) -> Result<Self, LoadError> {
        let endpoints = bindings.endpoints().flat_map(|(_, binding)| binding.interfaces());
        let mut all = endpoints.chain(bindings.closed()).chain(bindings.uplinks());
        if all.all(|interface| interface.index().is_some()) {
            return Ok(Self { bindings: Cow::Borrowed(bindings), unreached: Vec::new() });
        }
        let there = nix::net::if_::if_nameindex().context("cannot list interfaces")?;
        let by_name: BTreeMap<String, u32> =
            there.iter().map(|one| (one.name().to_string_lossy().into_owned(), one.index())).collect();
        let mut unreached = Vec::new();
        let mut find = |endpoint: Option<&EndpointId>, interface: &Interface| {
            if interface.index().is_some() {
                return Some(interface.clone());
            }
            let found = by_name.get(interface.name());
            if found.is_none() {
                unreached.push(unreached_of(endpoint, interface));
            }
            found.map(|index| interface.clone().with_index(*index))
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
        Ok(Self { bindings: Cow::Owned(resolved), unreached })
    }
}

/// The indices of the interfaces that are there.
pub(crate) fn indices() -> Result<BTreeSet<u32>, LoadError> {
    let there = nix::net::if_::if_nameindex().context("cannot list interfaces")?;
    Ok(there.iter().map(nix::net::if_::Interface::index).collect())
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
}

/// Every interface of `bindings` that has an index.
pub(crate) fn wanted(bindings: &Bindings) -> BTreeMap<u32, Wanted<'_>> {
    let endpoints = bindings.endpoints().flat_map(|(id, binding)| {
        let guard = if binding.is_workload() { Guard::Workload } else { Guard::Network };
        binding.interfaces().iter().map(move |interface| Wanted { guard, endpoint: Some(id), interface })
    });
    let of_none = |guard| move |interface| Wanted { guard, endpoint: None, interface };
    let closed = bindings.closed().map(of_none(Guard::Workload));
    let uplinks = bindings.uplinks().map(of_none(Guard::Network));
    let all = endpoints.chain(closed).chain(uplinks);
    all.filter_map(|wanted| Some((wanted.interface.index()?, wanted))).collect()
}
