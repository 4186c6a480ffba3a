//! Bindings that the maps can hold.

use alloc::borrow::ToOwned as _;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};

use portcullis_core::backend::{Binding, Bindings, Interface, LowerError};
use portcullis_core::model::EndpointId;

/// The host endpoint for all interfaces.
pub(crate) fn cover_of(bindings: &Bindings) -> Option<(&EndpointId, &Binding)> {
    bindings.endpoints().find(|(_, binding)| is_for_all(binding))
}

pub(crate) const fn is_for_all(binding: &Binding) -> bool {
    matches!(binding, Binding::AllInterfaces { .. })
}

/// What the kernel knows an interface of `endpoint` by.
pub(crate) fn index_of(endpoint: &EndpointId, interface: &Interface) -> Result<u32, LowerError> {
    let missing = || LowerError::unsupported(Some(endpoint), format!("interface {interface} has no index"));
    interface.index().ok_or_else(missing)
}

/// Interfaces that are bound no longer may have their entry a little longer than others get theirs.
pub(crate) fn check_bindings(
    bindings: &Bindings,
    bound: &BTreeSet<u32>,
    limit: u32,
) -> Result<(), LowerError> {
    bindings.check()?;
    let mut seen: BTreeMap<u32, String> = BTreeMap::new();
    for (id, binding) in bindings.endpoints() {
        for interface in binding.interfaces() {
            if let Some(other) = seen.insert(index_of(id, interface)?, id.to_string()) {
                let reason = format!(
                    "interface {interface} is that of {other}, and eBPF tells one endpoint an interface"
                );
                return Err(LowerError::unsupported(Some(id), reason));
            }
        }
    }
    let unbound = bindings.uplinks().map(|uplink| (uplink, "an uplink"));
    for (interface, role) in unbound.chain(bindings.closed().map(|closed| (closed, "closed"))) {
        let Some(index) = interface.index() else {
            return Err(LowerError::unsupported(None, format!("interface {interface} has no index")));
        };
        if let Some(other) = seen.insert(index, role.to_owned()) {
            let reason = format!("interface {interface} is {role}, and by its index that of {other}");
            return Err(LowerError::unsupported(None, reason));
        }
    }
    // Closed ones have no entry.
    let closed: BTreeSet<u32> = bindings.closed().filter_map(Interface::index).collect();
    let entries: BTreeSet<u32> = seen.into_keys().filter(|index| !closed.contains(index)).collect();
    let needed = entries.union(bound).count();
    if needed > usize::try_from(limit).unwrap_or(usize::MAX) {
        return Err(LowerError::limit("endpoints", limit, needed));
    }
    Ok(())
}
