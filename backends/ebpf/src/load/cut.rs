//! Which flows policy allowed and does not allow any more (decision D16).

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::backend::{Binding, Bindings, Inspected, Interface};
use portcullis_core::ir::{Interpreter, Snapshot};
use portcullis_core::model::EndpointId;
use portcullis_core::net::{Cidr, canonical};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::verdict::{Hook, Verdict};

use crate::layout::NODE;
use crate::load::flow_tables::Flow;
use crate::options::Options;

/// Asks both snapshots about flows again.
pub(crate) struct Tightened<'a> {
    old: State<'a>,
    new: State<'a>,
    inspect: Inspected,
    services: &'a [Cidr],
    endpoints: BTreeMap<u32, (&'a EndpointId, &'a Binding)>,
    /// The host endpoint for all interfaces.
    cover: Option<&'a EndpointId>,
    /// The addresses of the node itself.
    node: BTreeSet<IpAddr>,
}

/// A snapshot, and what an endpoint says that is bound and not in it.
struct State<'a> {
    snapshot: &'a Snapshot,
    /// Before: nothing, because a flow that is there was not asked about by an endpoint that came later. Now: Deny, as the
    /// programs do.
    without_endpoint: Verdict,
}

impl State<'_> {
    fn verdict(&self, id: &EndpointId, hook: Hook, packet: &Packet) -> Verdict {
        if !self.snapshot.endpoints.contains_key(id) {
            return self.without_endpoint;
        }
        Interpreter::new(self.snapshot).decide(id, hook, packet).verdict
    }
}

impl<'a> Tightened<'a> {
    pub(crate) fn new(
        options: &'a Options,
        bindings: &'a Bindings,
        old: &'a Snapshot,
        new: &'a Snapshot,
    ) -> Self {
        let at = |(id, binding): (&'a EndpointId, &'a Binding)| {
            let node = matches!(binding, Binding::AllInterfaces { .. }).then_some(NODE);
            let interfaces = binding.interfaces().iter().filter_map(Interface::index);
            interfaces.chain(node).map(move |interface| (interface, (id, binding)))
        };
        Self {
            old: State { snapshot: old, without_endpoint: Verdict::Continue },
            new: State { snapshot: new, without_endpoint: Verdict::Deny },
            inspect: options.dataplane.inspected,
            services: &options.dataplane.services,
            endpoints: bindings.endpoints().flat_map(at).collect(),
            cover: bindings.all_interfaces(),
            node: node_addresses(),
        }
    }

    /// Whether policy decided about the flow, allowed it in the old snapshot and denies it in the new one.
    pub(crate) fn contains(&self, flow: &Flow) -> bool {
        let Some((id, binding)) = self.endpoints.get(&flow.interface).filter(|_| flow.is_known) else {
            return false;
        };
        // Noted without a decision: it is taken where the packet leaves, about another destination.
        if self.is_service(&flow.packet) && (flow.began_local || !binding.is_workload()) {
            // But for what is asked before the destination is rewritten.
            return self.cover.filter(|_| binding.is_workload()).is_some_and(|cover| {
                self.tightens(|of| self.allows(of, cover, Hook::PreDnat, &flow.packet))
            });
        }
        match binding {
            Binding::Host { .. } | Binding::AllInterfaces { .. } => {
                self.tightens(|of| self.host_allows(of, id, flow))
            }
            Binding::Workload { addresses, .. } => self.workload(id, addresses, flow),
            Binding::WorkloadAnyAddress { .. } => self.workload(id, &[], flow),
            _ => false,
        }
    }

    fn workload(&self, id: &EndpointId, own: &[IpAddr], flow: &Flow) -> bool {
        let Packet { source, destination, .. } = flow.packet;
        if !flow.began_local {
            // From itself (D10), or from the node (D11), which policy does not decide; or from a sender behind source NAT
            // of the node, which is not known here.
            let exempt = own.contains(&source) || self.node.contains(&source);
            let covered = |of: &State<'a>| {
                self.cover.is_none_or(|cover| self.allows(of, cover, Hook::ForwardEgress, &flow.packet))
            };
            let allows =
                |of: &State<'a>| self.allows(of, id, Hook::WorkloadIngress, &flow.packet) && covered(of);
            return !exempt && self.tightens(allows);
        }
        if own.contains(&destination) {
            return false;
        }
        // Where source NAT hides the workload, its own addresses tell what was asked.
        let hidden = !own.is_empty() && !own.contains(&source);
        let sources = own.iter().filter(|own| own.is_ipv4() == source.is_ipv4() && hidden);
        let mut packets: Vec<Packet> =
            sources.map(|source| Packet { source: *source, ..flow.packet.clone() }).collect();
        if !hidden {
            packets.push(flow.packet.clone());
        }
        !packets.is_empty()
            && packets.iter().all(|packet| self.tightens(|of| self.workload_sends(of, id, packet)))
    }

    /// What a workload sends, to the endpoint for all interfaces and to its own policy.
    fn workload_sends(&self, of: &State<'a>, id: &EndpointId, packet: &Packet) -> bool {
        let forward = (!self.node.contains(&packet.destination)).then_some(Hook::ForwardIngress);
        self.cover.is_none_or(|cover| self.passes_in(of, cover, packet, forward))
            && self.allows(of, id, Hook::WorkloadEgress, packet)
    }

    /// What comes in at a host endpoint: pre-DNAT policy, and where that does not allow it, the hook behind.
    fn passes_in(&self, of: &State<'a>, id: &EndpointId, packet: &Packet, behind: Option<Hook>) -> bool {
        match of.verdict(id, Hook::PreDnat, packet) {
            Verdict::Allow => true,
            Verdict::Continue => behind.is_none_or(|hook| self.allows(of, id, hook, packet)),
            Verdict::Deny | Verdict::Inspect => false,
        }
    }

    fn host_allows(&self, of: &State<'a>, id: &EndpointId, flow: &Flow) -> bool {
        let Packet { source, destination, .. } = flow.packet;
        if flow.began_local {
            let own = self.node.contains(&source);
            let hook = if own { Hook::HostEgress } else { Hook::ForwardEgress };
            return self.allows(of, id, hook, &flow.packet);
        }
        let own = self.node.contains(&destination);
        let hook = if own { Hook::HostIngress } else { Hook::ForwardIngress };
        self.passes_in(of, id, &flow.packet, Some(hook))
    }

    fn allows(&self, of: &State<'a>, id: &EndpointId, hook: Hook, packet: &Packet) -> bool {
        match of.verdict(id, hook, packet) {
            Verdict::Allow | Verdict::Continue => true,
            Verdict::Inspect => self.inspect == Inspected::HandOver,
            Verdict::Deny => false,
        }
    }

    fn tightens(&self, allows: impl Fn(&State<'a>) -> bool) -> bool {
        allows(&self.old) && !allows(&self.new)
    }

    fn is_service(&self, packet: &Packet) -> bool {
        matches!(packet.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP)
            && self.services.iter().any(|net| net.contains(&packet.destination))
    }
}

/// None when they cannot be found out: then more is asked, and cut, than need be.
fn node_addresses() -> BTreeSet<IpAddr> {
    let address = |entry: nix::ifaddrs::InterfaceAddress| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(address).map(canonical).collect()
}

#[cfg(test)]
mod tests;
