//! Many packets at once, in stages: while one packet waits for memory, the others of its step are looked up too.

use portcullis_core::ir::View;
use portcullis_core::net::IpVersion;
use portcullis_core::verdict::{Hook, Verdict};

use crate::addresses::Classed;
use crate::answer::Answer;
use crate::directory::Directory;
use crate::endpoints::EndpointHandle;
use crate::matcher::Matcher;
use crate::packet::{Addresses, PacketKey};
use crate::program::{Looks, Lowered};

/// One question of a batch: what a hook of an endpoint says to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    endpoint: EndpointHandle,
    hook: Hook,
    packet: PacketKey,
}

impl Query {
    /// The question to [`Matcher::answer`].
    #[inline]
    #[must_use]
    pub const fn new(endpoint: EndpointHandle, hook: Hook, packet: PacketKey) -> Self {
        Self { endpoint, hook, packet }
    }
}

/// What both ends of a packet's way say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pair {
    egress: Option<Answer>,
    ingress: Option<Answer>,
}

impl Pair {
    /// The answer of the source's egress hook; `None` when the source is not ours.
    #[must_use]
    pub const fn egress(&self) -> Option<Answer> {
        self.egress
    }

    /// The answer of the destination's ingress hook; `None` when the destination is not ours.
    #[must_use]
    pub const fn ingress(&self) -> Option<Answer> {
        self.ingress
    }

    /// Deny when one end denies, else Inspect when one inspects, else Allow.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let both = [self.egress, self.ingress].map(|answer| answer.map(Answer::verdict));
        let says = |verdict| both.contains(&Some(verdict));
        [Verdict::Deny, Verdict::Inspect].into_iter().find(|v| says(*v)).unwrap_or(Verdict::Allow)
    }
}

/// How far the look-up of one answer is.
#[derive(Clone, Copy, Default)]
struct Ask<'a> {
    body: Option<&'a Lowered>,
    /// The class of the side that is looked at, or of the source when both are.
    class: u32,
    /// The class of the destination when both are.
    class_across: u32,
    table: Option<u32>,
}

impl Matcher {
    /// The answer to each query, as [`Matcher::answer`] gives it, and the number of them: that of the shorter slice.
    /// Without allocation or lock.
    pub fn decide_batch(&self, queries: &[Query], answers: &mut [Answer]) -> usize {
        for (queries, answers) in queries.chunks(STEP).zip(answers.chunks_mut(STEP)) {
            let mut asks = [Ask::default(); STEP];
            for (ask, query) in asks.iter_mut().zip(queries) {
                ask.body = self.asked(Some(query.endpoint), query.hook, &query.packet);
            }
            for (ask, query) in asks.iter_mut().zip(queries) {
                self.find_classes(ask, &query.packet);
            }
            for (ask, _) in asks.iter_mut().zip(queries) {
                self.find_table(ask);
            }
            for ((ask, query), answer) in asks.iter().zip(queries).zip(answers) {
                *answer = self.found(ask, &query.packet);
            }
        }
        queries.len().min(answers.len())
    }

    /// The answer of the egress hook of `source` and of the ingress hook of `destination`. An end that is not ours is
    /// `None` and not asked.
    #[must_use]
    pub fn pair(
        &self,
        source: Option<EndpointHandle>,
        destination: Option<EndpointHandle>,
        packet: &PacketKey,
    ) -> Pair {
        Pair {
            egress: source.map(|source| self.answer(source, Hook::WorkloadEgress, packet)),
            ingress: destination.map(|end| self.answer(end, Hook::WorkloadIngress, packet)),
        }
    }

    /// What [`Matcher::pair`] says to each packet between the endpoints that `directory` knows by its addresses, and
    /// the number of packets answered: that of the shorter slice. Without allocation or lock.
    pub fn pair_batch(&self, directory: &Directory, packets: &[PacketKey], pairs: &mut [Pair]) -> usize {
        for (packets, pairs) in packets.chunks(STEP).zip(pairs.chunks_mut(STEP)) {
            let mut ends = [(None, None); STEP];
            for (ends, packet) in ends.iter_mut().zip(packets) {
                *ends = directory.ends(packet);
            }
            let (mut egress, mut ingress) = ([Ask::default(); STEP], [Ask::default(); STEP]);
            let asks = egress.iter_mut().zip(&mut ingress).zip(ends);
            for (((from, to), (source, destination)), packet) in asks.zip(packets) {
                from.body = self.asked(source, Hook::WorkloadEgress, packet);
                to.body = self.asked(destination, Hook::WorkloadIngress, packet);
            }
            for ((from, to), packet) in egress.iter_mut().zip(&mut ingress).zip(packets) {
                self.find_classes(from, packet);
                self.find_classes(to, packet);
            }
            for ((from, to), _) in egress.iter_mut().zip(&mut ingress).zip(packets) {
                self.find_table(from);
                self.find_table(to);
            }
            let asks = egress.iter().zip(&ingress).zip(ends);
            for (((asks, (source, destination)), packet), pair) in asks.zip(packets).zip(pairs) {
                pair.egress = source.map(|_| self.found(asks.0, packet));
                pair.ingress = destination.map(|_| self.found(asks.1, packet));
            }
        }
        packets.len().min(pairs.len())
    }

    #[inline(always)]
    fn asked(&self, endpoint: Option<EndpointHandle>, hook: Hook, packet: &PacketKey) -> Option<&Lowered> {
        let version = match packet.addresses {
            Addresses::V4 { .. } => IpVersion::V4,
            Addresses::V6 { .. } => IpVersion::V6,
        };
        self.body(endpoint?, hook, View::Enforced, version)
    }

    #[inline(always)]
    fn find_classes(&self, ask: &mut Ask<'_>, packet: &PacketKey) {
        let Some(body) = ask.body else {
            return;
        };
        (ask.class, ask.class_across) = match packet.addresses {
            Addresses::V4 { source, destination } => self.classes(body, source, destination),
            Addresses::V6 { source, destination } => self.classes(body, source, destination),
        };
    }

    #[inline(always)]
    fn classes<A: Classed>(&self, body: &Lowered, source: A, destination: A) -> (u32, u32) {
        if let Some(peer) = body.peer(source, destination) {
            return (peer.class(&self.addresses), 0);
        }
        if body.looks() == Looks::Neither {
            return (0, 0);
        }
        (source.class(&self.addresses), destination.class(&self.addresses))
    }

    #[inline(always)]
    fn find_table(&self, ask: &mut Ask<'_>) {
        let Some(body) = ask.body else {
            return;
        };
        let row = match body.looks() {
            Looks::Neither => 0,
            _ => self.row(body.projection(), ask.class),
        };
        ask.table = match body.looks() {
            Looks::Both => body.cell_of_both(row, self.row(body.projection_across(), ask.class_across)),
            _ => body.cell(row),
        };
    }

    #[inline(always)]
    fn found(&self, ask: &Ask<'_>, packet: &PacketKey) -> Answer {
        match ask.table {
            Some(table) => self.answer_in(table, packet.protocol, packet.source_port, packet.key),
            None => Answer::MISSING,
        }
    }
}

/// Packets that are looked up together.
const STEP: usize = 32;
