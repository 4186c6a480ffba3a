//! What a snapshot says about a flow that is tracked (decision D16).

use alloc::collections::BTreeSet;
use core::net::IpAddr;

use portcullis_core::backend::{Binding, Bindings, Inspected};
use portcullis_core::ir::{Interpreter, Snapshot};
use portcullis_core::model::EndpointId;
use portcullis_core::net::canonical;
use portcullis_core::packet::Packet;
use portcullis_core::settings::WorkloadToHost;
use portcullis_core::verdict::{Hook, Verdict};

use crate::options::Options;

/// A snapshot that is asked about the workloads of this node.
pub(crate) struct Asked<'a> {
    interpreter: Interpreter<'a>,
    options: &'a Options,
    bindings: &'a Bindings,
    /// The host endpoint for all interfaces, where the snapshot has it. Without it, there are no rules for one.
    cover: Option<&'a EndpointId>,
    /// Whether it is also the one of each interface that is no workload's.
    covers_hosts: bool,
    /// The addresses of the host itself. None when they cannot be found out: then more is asked than need be.
    host: BTreeSet<IpAddr>,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(options: &'a Options, bindings: &'a Bindings, snapshot: &'a Snapshot) -> Self {
        Self {
            interpreter: Interpreter::new(snapshot),
            options,
            bindings,
            cover: bindings.all_interfaces().filter(|id| snapshot.endpoints.contains_key(*id)),
            covers_hosts: !bindings.endpoints().any(|(_, binding)| matches!(binding, Binding::Host { .. })),
            host: host_addresses(),
        }
    }

    /// Whether all hooks that are known to be asked allow the first packet of a flow of a workload of this node: `packet`, which
    /// was `arrived` before destination NAT.
    pub(crate) fn allows(&self, packet: &Packet, arrived: &Packet) -> bool {
        let (from, to) = (self.workload(&packet.source), self.workload(&packet.destination));
        // The host reaches its workloads (decision D11).
        if (from.is_none() && to.is_none()) || (from.is_none() && self.host.contains(&packet.source)) {
            return true;
        }
        let for_host = to.is_none() && self.host.contains(&packet.destination);
        let enters = self.cover.filter(|_| from.is_some() || self.covers_hosts);
        let freed = match enters.map(|id| self.interpreter.decide(id, Hook::PreDnat, arrived)) {
            Some(decision) if !self.lets_pass(decision.verdict) => return false,
            Some(decision) => {
                // An exemption is good for its own hook only, see `decisions`.
                decision.verdict == Verdict::Allow && !decision.cause.is_exemption()
            }
            None => false,
        };
        // A workload reaches itself (decision D10).
        if from.is_some() && from == to {
            return true;
        }
        let behind = match self.options.shared.workload_to_host {
            _ if freed => None,
            _ if !for_host => Some(Hook::ForwardIngress),
            WorkloadToHost::HostPolicy => Some(Hook::HostIngress),
            WorkloadToHost::Accept | WorkloadToHost::Drop => None,
        };
        let leaves = self.cover.filter(|_| !for_host && (to.is_some() || self.covers_hosts));
        let asked = [
            enters.zip(behind),
            from.zip(Some(Hook::WorkloadEgress)),
            to.zip(Some(Hook::WorkloadIngress)),
            leaves.zip(Some(Hook::ForwardEgress)),
        ];
        asked
            .into_iter()
            .flatten()
            .all(|(id, hook)| self.lets_pass(self.interpreter.decide(id, hook, packet).verdict))
    }

    fn lets_pass(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Allow | Verdict::Continue => true,
            Verdict::Inspect => self.options.shared.inspected == Inspected::HandOver,
            Verdict::Deny => false,
        }
    }

    fn workload(&self, address: &IpAddr) -> Option<&'a EndpointId> {
        let has = |(_, binding): &(&EndpointId, &Binding)| matches!(binding, Binding::Workload { addresses, .. } if addresses.contains(address));
        self.bindings.endpoints().find(has).map(|(id, _)| id)
    }
}

fn host_addresses() -> BTreeSet<IpAddr> {
    let address = |entry: nix::ifaddrs::InterfaceAddress| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(address).map(canonical).collect()
}

#[cfg(test)]
mod tests;
