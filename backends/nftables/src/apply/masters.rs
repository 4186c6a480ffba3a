//! Workloads that the table does not reach, because netfilter does not see their packets at their interface.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::backend::{Applied, Bindings, Unreached};

use crate::apply::netlink::{Links, Master};
use crate::apply::transport::ApplyError;

/// What is known of the interfaces of bound workloads. Nothing here keeps policy from being in force: it is asked about
/// afterwards, and where the kernel does not answer, that is a warning.
#[derive(Debug)]
pub(crate) struct Masters {
    links: Links,
    /// Why an interface is not reached, by its name; `None` where it is.
    reasons: BTreeMap<String, Option<String>>,
    /// Whether interfaces changed since they were asked about.
    is_stale: bool,
    /// Whether it was told that the kernel does not answer.
    warned: bool,
}

impl Masters {
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn open() -> Result<Self, ApplyError> {
        Ok(Self { links: Links::open()?, reasons: BTreeMap::new(), is_stale: false, warned: false })
    }

    /// Asks about every interface anew with the next call of [`Masters::applied`].
    pub(crate) const fn forget(&mut self) {
        self.is_stale = true;
    }

    /// What is in force: everything, but for the workloads that are not reached. Asks about interfaces that were not bound
    /// before, where bindings changed, and about all once they changed themselves.
    pub(crate) fn applied(&mut self, bindings: &Bindings, rebound: bool) -> Applied {
        let mut applied = Applied::COMPLETE;
        let is_known = !rebound && !self.is_stale;
        match if is_known { Ok(()) } else { self.follow(bindings) } {
            Ok(()) => self.warned = false,
            Err(error) => {
                self.is_stale = true;
                if !core::mem::replace(&mut self.warned, true) {
                    let what = "whether interfaces of workloads are ports of a bridge is not known";
                    applied.warnings.push(format!("{what}: {error}"));
                }
            }
        }
        applied.unreached = self.unreached(bindings);
        applied
    }

    fn follow(&mut self, bindings: &Bindings) -> Result<(), ApplyError> {
        let workloads = bindings.endpoints().filter(|(_, binding)| binding.is_workload());
        let bound: BTreeSet<&str> = workloads
            .flat_map(|(_, binding)| binding.interfaces())
            .map(portcullis_core::backend::Interface::name)
            .collect();
        // One that was not reached is tried again.
        let is_known = |name: &str| !self.is_stale && matches!(self.reasons.get(name), Some(None));
        let asked: BTreeSet<&str> = bound.iter().copied().filter(|name| !is_known(name)).collect();
        let masters = if asked.is_empty() { BTreeMap::new() } else { self.links.masters(&asked)? };
        self.reasons.retain(|name, _| bound.contains(name.as_str()));
        for (name, master) in masters {
            self.reasons.insert(name.to_owned(), master.as_ref().map(reason));
        }
        self.is_stale = false;
        Ok(())
    }

    /// The index of the interface of this name. `None` when it is not there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn index(&mut self, name: &str) -> Result<Option<u32>, ApplyError> {
        self.links.index(name)
    }

    fn unreached(&self, bindings: &Bindings) -> Vec<Unreached> {
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
}

fn reason(master: &Master) -> String {
    if master.kind == "bridge" {
        format!(
            "it is a port of bridge {}: netfilter does not see what passes between its ports",
            master.name
        )
    } else {
        format!("it is a part of {} ({}), where netfilter sees its packets", master.name, master.kind)
    }
}
