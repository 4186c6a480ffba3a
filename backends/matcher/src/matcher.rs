//! The matcher and its verdict path.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::net::IpAddr;

use portcullis_core::flow::DecideHook;
use portcullis_core::ir::{
    ClassId, Decision, DecisionId, Id, IdentityNamespace, L4Table, L7Context, L7Program, View,
};
use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::{IpVersion, canonical};
use portcullis_core::packet::Packet;
use portcullis_core::verdict::{self, Cause, Hook, Verdict};

use crate::addresses::Addresses;
use crate::endpoints::{EndpointHandle, Endpoints};
use crate::packet::{self, PacketKey};
use crate::pages::{Pages, index};
use crate::ports::Ports;
use crate::program::{Lowered, Programs};
use crate::rows::Rows;

/// One generation of the policy, lowered. Immutable; a clone shares everything.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub(crate) generation: u64,
    pub(crate) addresses: Addresses,
    pub(crate) endpoints: Endpoints,
    pub(crate) programs: Pages<Programs, 32>,
    pub(crate) rows: Pages<Rows, 64>,
    pub(crate) ports: Pages<Ports, 64>,
    /// The verdict of each decision; `None` when there is no such decision.
    pub(crate) verdicts: Pages<Option<Verdict>, 1024>,
    pub(crate) decisions: Pages<Option<Arc<Decision>>, 64>,
    pub(crate) l7: Pages<Option<Arc<L7Program>>, 64>,
    pub(crate) identities: Arc<BTreeMap<Name, Arc<IdentityNamespace>>>,
}

impl Matcher {
    /// The generation of the snapshot that this answers for.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The handle of `endpoint`; `None` when the snapshot has no such endpoint.
    #[must_use]
    pub fn handle(&self, endpoint: &EndpointId) -> Option<EndpointHandle> {
        self.endpoints.handle(endpoint)
    }

    /// The class of `address`; [`ClassId::UNKNOWN`] for one that nothing selects.
    #[inline]
    #[must_use]
    pub fn class(&self, address: IpAddr) -> ClassId {
        ClassId::new(self.addresses.any(canonical(address)))
    }

    /// What `hook` of `endpoint` says to `packet`: the fast path. Without allocation or lock. Denied when anything
    /// is missing: the endpoint, its program for the hook, or an entry of a table.
    #[inline]
    #[must_use]
    pub fn verdict(&self, endpoint: EndpointHandle, hook: Hook, packet: &PacketKey) -> Verdict {
        let decision = self.decision_id(endpoint, hook, packet);
        decision.and_then(|decision| *self.verdicts.get(index(decision.number()))?).unwrap_or(Verdict::Deny)
    }

    /// The decision behind [`Matcher::verdict`]; `None` when something is missing and the packet is denied.
    #[inline]
    #[must_use]
    pub fn decision_id(
        &self,
        endpoint: EndpointHandle,
        hook: Hook,
        packet: &PacketKey,
    ) -> Option<DecisionId> {
        self.look_up_key(endpoint, hook, View::Enforced, packet)
    }

    /// The verdict of the egress hook of `source` and the ingress hook of `destination` together: Deny when one
    /// denies, else Inspect when one inspects, else Allow. An end that is not ours is `None` and not asked.
    #[must_use]
    pub fn pair(
        &self,
        source: Option<EndpointHandle>,
        destination: Option<EndpointHandle>,
        packet: &PacketKey,
    ) -> Verdict {
        let of = |end: Option<EndpointHandle>, hook| end.map(|end| self.verdict(end, hook, packet));
        let both = [of(source, Hook::WorkloadEgress), of(destination, Hook::WorkloadIngress)];
        if both.contains(&Some(Verdict::Deny)) {
            Verdict::Deny
        } else if both.contains(&Some(Verdict::Inspect)) {
            Verdict::Inspect
        } else {
            Verdict::Allow
        }
    }

    /// The answer to `packet` with cause and log entries. A principal or an HTTP request is evaluated.
    #[must_use]
    pub fn decide(&self, endpoint: EndpointHandle, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.view(View::Enforced).decide(endpoint, hook, packet)
    }

    /// The matcher as `view` shows it.
    #[must_use]
    pub const fn view(&self, view: View) -> Viewed<'_> {
        Viewed { matcher: self, view }
    }

    #[inline]
    fn look_up_key(
        &self,
        endpoint: EndpointHandle,
        hook: Hook,
        view: View,
        packet: &PacketKey,
    ) -> Option<DecisionId> {
        let programs = self.programs.get(index(self.endpoints.program(endpoint, hook, view)?))?;
        let addresses = &self.addresses;
        let ports = match packet.addresses {
            packet::Addresses::V4 { source, destination } => {
                let body = programs.body(IpVersion::V4)?;
                self.ports(body, || addresses.v4(source), || addresses.v4(destination))
            }
            packet::Addresses::V6 { source, destination } => {
                let body = programs.body(IpVersion::V6)?;
                self.ports(body, || addresses.v6(source), || addresses.v6(destination))
            }
        };
        ports?.decision(packet.protocol, packet.source_port, packet.key)
    }

    #[inline]
    fn ports(
        &self,
        body: &Lowered,
        source: impl FnOnce() -> u32,
        destination: impl FnOnce() -> u32,
    ) -> Option<&Ports> {
        let row = match body.source {
            Some(projection) => self.rows.get(index(projection))?.row(source())?,
            None => 0,
        };
        let column = match body.destination {
            Some(projection) => self.rows.get(index(projection))?.row(destination())?,
            None => 0,
        };
        self.ports.get(index(body.cell(row, column)?))
    }
}

/// A [`Matcher`] that answers for one [`View`].
#[derive(Clone, Copy, Debug)]
pub struct Viewed<'a> {
    matcher: &'a Matcher,
    view: View,
}

impl Viewed<'_> {
    /// As [`Matcher::decision_id`].
    #[must_use]
    pub fn decision_id(
        &self,
        endpoint: EndpointHandle,
        hook: Hook,
        packet: &PacketKey,
    ) -> Option<DecisionId> {
        self.matcher.look_up_key(endpoint, hook, self.view, packet)
    }

    /// As [`Matcher::decide`].
    #[must_use]
    pub fn decide(&self, endpoint: EndpointHandle, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.look_up(endpoint, hook, packet)
            .and_then(|id| self.resolve(id, packet))
            .unwrap_or(verdict::Decision::new(Verdict::Deny, Cause::NoPolicy))
    }

    /// Any packet, also one whose addresses are of different families.
    fn look_up(&self, endpoint: EndpointHandle, hook: Hook, packet: &Packet) -> Option<DecisionId> {
        let matcher = self.matcher;
        let programs = matcher.programs.get(index(matcher.endpoints.program(endpoint, hook, self.view)?))?;
        let class = |address| matcher.addresses.any(address);
        let body = programs.body(packet.version())?;
        let ports = matcher.ports(body, || class(packet.source), || class(packet.destination))?;
        ports.decision(packet.protocol, packet.source_port, L4Table::key(packet))
    }

    fn resolve(&self, id: DecisionId, packet: &Packet) -> Option<verdict::Decision> {
        let decision = self.matcher.l7_decision(id)?;
        let plain = packet.principal.is_none() && packet.http.is_none();
        match decision.l7 {
            Some(l7) if !plain => {
                self.matcher.l7.get(index(l7.number()))?.as_ref()?.run(self.matcher, packet)
            }
            _ => Some(verdict::Decision {
                verdict: decision.verdict,
                cause: decision.cause.clone(),
                logs: decision.logs.clone(),
            }),
        }
    }
}

impl DecideHook for Viewed<'_> {
    fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        match self.matcher.handle(endpoint) {
            Some(handle) => self.decide(handle, hook, packet),
            None => verdict::Decision::new(Verdict::Deny, Cause::NoPolicy),
        }
    }
}

impl DecideHook for Matcher {
    fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.view(View::Enforced).decide_hook(endpoint, hook, packet)
    }
}

impl L7Context for Matcher {
    fn l7_decision(&self, id: DecisionId) -> Option<&Decision> {
        self.decisions.get(index(id.number()))?.as_deref()
    }

    fn l7_identity(&self, name: &str) -> Option<&IdentityNamespace> {
        self.identities.get(name).map(|namespace| &**namespace)
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Matcher>();
    shared::<EndpointHandle>();
};
