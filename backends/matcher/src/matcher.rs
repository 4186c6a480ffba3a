//! The matcher and its verdict path.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::net::IpAddr;

use portcullis_core::evaluate::Evaluate;
use portcullis_core::ir::{
    ClassId, DecisionEntry, DecisionId, Id, IdentityNamespace, L4Table, L7Context, L7Program, View,
};
use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::{IpVersion, canonical};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::verdict::{self, Cause, Hook, Verdict};

use crate::addresses::{Addresses, Classed};
use crate::answer::Answer;
use crate::cow_vec::{CowVec, index};
use crate::endpoints::{EndpointHandle, Endpoints};
use crate::l4_table::{InlineTable, OverflowTable};
use crate::packet::{self, PacketKey};
use crate::program::{Looks, Lowered, Programs};
use crate::projection::{NO_ROW, RowMap};

/// One generation of the policy, lowered. Immutable; a clone shares everything.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub(crate) generation: u64,
    pub(crate) addresses: Addresses,
    pub(crate) endpoints: Endpoints,
    pub(crate) programs: CowVec<Programs, 32>,
    pub(crate) projections: CowVec<RowMap, 64>,
    pub(crate) inline_tables: CowVec<InlineTable, 64>,
    pub(crate) overflow_tables: CowVec<Option<Arc<OverflowTable>>, 64>,
    pub(crate) decisions: CowVec<Option<Arc<DecisionEntry>>, 64>,
    /// How often the tables name each decision.
    pub(crate) uses: CowVec<u32, 1024>,
    pub(crate) l7: CowVec<Option<Arc<L7Program>>, 64>,
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
        ClassId::new(canonical(address).class(&self.addresses))
    }

    /// What `hook` of `endpoint` says to `packet`: the fast path. Without allocation or lock.
    #[inline]
    #[must_use]
    pub fn answer(&self, endpoint: EndpointHandle, hook: Hook, packet: &PacketKey) -> Answer {
        self.answer_key(endpoint, hook, View::Enforced, packet)
    }

    /// The verdict of [`Matcher::answer`].
    #[inline]
    #[must_use]
    pub fn verdict(&self, endpoint: EndpointHandle, hook: Hook, packet: &PacketKey) -> Verdict {
        self.answer(endpoint, hook, packet).verdict()
    }

    /// The decision behind an answer of this matcher, with cause and log entries; `None` when something is missing
    /// and the packet is denied.
    #[must_use]
    pub fn resolve(&self, answer: Answer) -> Option<&DecisionEntry> {
        self.l7_decision(answer.decision()?)
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

    /// Always inlined: a caller that builds the key on the spot then never stores it.
    #[inline(always)]
    pub(crate) fn answer_key(
        &self,
        endpoint: EndpointHandle,
        hook: Hook,
        view: View,
        packet: &PacketKey,
    ) -> Answer {
        let table = match packet.addresses {
            packet::Addresses::V4 { source, destination } => {
                let Some(body) = self.body(endpoint, hook, view, IpVersion::V4) else {
                    return Answer::MISSING;
                };
                self.table(body, source, destination)
            }
            packet::Addresses::V6 { source, destination } => {
                let Some(body) = self.body(endpoint, hook, view, IpVersion::V6) else {
                    return Answer::MISSING;
                };
                self.table(body, source, destination)
            }
        };
        match table {
            Some(table) => self.answer_in(table, packet.protocol, packet.source_port, packet.key),
            None => Answer::MISSING,
        }
    }

    #[inline(always)]
    pub(crate) fn body(
        &self,
        endpoint: EndpointHandle,
        hook: Hook,
        view: View,
        version: IpVersion,
    ) -> Option<&Lowered> {
        let program = self.endpoints.program(endpoint, hook, view)?;
        Some(self.programs.get(index(program))?.body(version))
    }

    /// The table for packets between two addresses.
    #[inline(always)]
    pub(crate) fn table<A: Classed>(&self, body: &Lowered, source: A, destination: A) -> Option<u32> {
        match body.peer(source, destination) {
            Some(peer) => body.cell(self.row(body.projection(), peer.class(&self.addresses))),
            None => self.table_of_rare(body, source, destination),
        }
    }

    /// Both sides are looked at, or none.
    #[inline(never)]
    fn table_of_rare<A: Classed>(&self, body: &Lowered, source: A, destination: A) -> Option<u32> {
        if body.looks() == Looks::Neither {
            return body.cell(0);
        }
        let row = self.row(body.projection(), source.class(&self.addresses));
        let column = self.row(body.projection_across(), destination.class(&self.addresses));
        body.cell_of_both(row, column)
    }

    #[inline(always)]
    pub(crate) fn row(&self, projection: u32, class: u32) -> u32 {
        match self.projections.get(index(projection)) {
            Some(rows) => rows.row(class),
            None => NO_ROW,
        }
    }

    #[inline(always)]
    pub(crate) fn answer_in(&self, table: u32, protocol: Protocol, source_port: u16, key: u16) -> Answer {
        let at = index(table);
        let Some(inline) = self.inline_tables.get(at) else {
            return Answer::MISSING;
        };
        let answer = inline.answer(protocol, key);
        if answer == Answer::ELSEWHERE {
            return self.answer_elsewhere(at, protocol, source_port, key);
        }
        answer
    }

    #[inline(never)]
    fn answer_elsewhere(&self, table: usize, protocol: Protocol, source_port: u16, key: u16) -> Answer {
        let overflow = self.overflow_tables.get(table).and_then(Option::as_ref);
        overflow.and_then(|overflow| overflow.answer(protocol, source_port, key)).unwrap_or(Answer::MISSING)
    }
}

/// A [`Matcher`] that answers for one [`View`].
#[derive(Clone, Copy, Debug)]
pub struct Viewed<'a> {
    matcher: &'a Matcher,
    view: View,
}

impl Viewed<'_> {
    /// As [`Matcher::answer`].
    #[must_use]
    pub fn answer(&self, endpoint: EndpointHandle, hook: Hook, packet: &PacketKey) -> Answer {
        self.matcher.answer_key(endpoint, hook, self.view, packet)
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
        let body = matcher.body(endpoint, hook, self.view, packet.version())?;
        let table = matcher.table(body, packet.source, packet.destination)?;
        matcher.answer_in(table, packet.protocol, packet.source_port, L4Table::key(packet)).decision()
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

impl Evaluate for Viewed<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        match self.matcher.handle(endpoint) {
            Some(handle) => self.decide(handle, hook, packet),
            None => verdict::Decision::new(Verdict::Deny, Cause::NoPolicy),
        }
    }
}

impl Evaluate for Matcher {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.view(View::Enforced).evaluate(endpoint, hook, packet)
    }
}

impl L7Context for Matcher {
    fn l7_decision(&self, id: DecisionId) -> Option<&DecisionEntry> {
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
