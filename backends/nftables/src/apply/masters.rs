//! Workloads that the table does not reach, because netfilter does not see their packets at their interface.

use alloc::collections::BTreeMap;

use portcullis_core::backend::{Bindings, Unreached};

use crate::apply::netlink::Links;
use crate::apply::transport::ApplyError;

/// What is known of the interfaces of bound workloads.
#[derive(Debug)]
pub(crate) struct Masters {
    links: Links,
    /// Why an interface is not reached, by its name; `None` where it is.
    reasons: BTreeMap<String, Option<String>>,
}

impl Masters {
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn open() -> Result<Self, ApplyError> {
        Ok(Self { links: Links::open()?, reasons: BTreeMap::new() })
    }

    /// Asks about every interface anew from the next call of [`Masters::follow`] on.
    pub(crate) fn forget(&mut self) {
        self.reasons.clear();
    }

    /// Asks about interfaces that were not bound before.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn follow(&mut self, bindings: &Bindings) -> Result<(), ApplyError> {
        let mut reasons = BTreeMap::new();
        for (_, binding) in bindings.endpoints().filter(|(_, binding)| binding.is_workload()) {
            for interface in binding.interfaces() {
                let name = interface.name();
                let reason = match self.reasons.remove(name) {
                    // One that was not reached is tried again.
                    Some(None) => None,
                    _ => self.reason(name)?,
                };
                reasons.insert(name.to_owned(), reason);
            }
        }
        self.reasons = reasons;
        Ok(())
    }

    /// The index of the interface of this name. `None` when it is not there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn index(&mut self, name: &str) -> Result<Option<u32>, ApplyError> {
        self.links.index(name)
    }

    /// The workloads that are not reached.
    pub(crate) fn unreached(&self, bindings: &Bindings) -> Vec<Unreached> {
        if self.reasons.values().all(Option::is_none) {
            return Vec::new();
        }
        let mut unreached = Vec::new();
        for (id, binding) in bindings.endpoints().filter(|(_, binding)| binding.is_workload()) {
            for interface in binding.interfaces() {
                if let Some(Some(reason)) = self.reasons.get(interface.name()) {
                    let (endpoint, interface) = (Some(id.clone()), interface.clone());
                    unreached.push(Unreached { endpoint, interface, reason: reason.clone() });
                }
            }
        }
        unreached
    }

    fn reason(&mut self, interface: &str) -> Result<Option<String>, ApplyError> {
        Ok(self.links.master(interface)?.map(|master| {
            if master.kind == "bridge" {
                format!(
                    "it is a port of bridge {}: netfilter does not see what passes between its ports",
                    master.name
                )
            } else {
                format!("it is a part of {} ({}), where netfilter sees its packets", master.name, master.kind)
            }
        }))
    }
}
