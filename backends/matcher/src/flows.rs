//! The flow table: replies to what policy allowed pass without a rule of their own.

mod limits;
mod packet;
mod slab;
mod state;
mod tuple;

use alloc::vec::Vec;
use core::time::Duration;

use portcullis_core::net::canonical;
use portcullis_core::packet::Packet;
use portcullis_core::verdict::{Direction, Verdict};

use crate::matcher::Matcher;
use crate::packet::PacketKey;
use limits::{Kind, millis};
use slab::{Entry, Slab};
use state::Way;
use tuple::{Side, SidedEnds, Tuple};

pub use limits::{FlowLimits, FlowLimitsError};
pub use packet::{Ends, FlowEnd, FlowPacket, Gate, TcpFlags};
pub use state::FlowState;

/// A bounded table of flows that policy allowed. Their later packets, the replies to them and ICMP errors about them
/// pass; everything else is asked of a [`Matcher`].
///
/// - **New flows** are judged by the source's egress hook and the destination's ingress hook, as
///   [`Matcher::pair`] combines them. Denied packets leave no trace.
/// - **A TCP SYN** is always judged, also on the ports of a tracked flow, as in Calico's eBPF dataplane
///   (`felix/bpf-gpl/tc.c`).
/// - **Established flows** are kept when policy changes (decision D16), until [`FlowTable::cut`].
/// - **An ICMP error** passes when the packet in it belongs to a tracked flow, it goes back to the sender of that
///   packet, and comes from the other end of the flow or from an address that is not ours.
/// - **A full table** drops a flow to take a new one in: one whose time is over, else of those unanswered or over the
///   one that was silent longest, else of the rest. It never widens: packets of a dropped flow are judged like
///   new ones.
/// - **Flows of an endpoint that is gone** do not pass to who gets its address: a flow belongs to its [`Ends`].
///
/// All memory is taken at the start: a verdict allocates nothing, and its cost does not depend on how many flows there
/// are. The caller gives the time, from a clock of its own; a time before one already given counts as that one.
///
/// Each matcher given must follow from the one before by [`Matcher::apply`], because the table remembers handles: those
/// of another matcher mean other endpoints. Several threads have a table each, and both directions of a flow must come to the
/// same one.
///
/// ```
/// use core::time::Duration;
/// use portcullis_core::compile::{CompileScope, Compiler};
/// use portcullis_core::label::Labels;
/// use portcullis_core::model::{Action, Endpoint, EndpointId, Profile, ProfileOrigin, Rule, Update};
/// use portcullis_core::packet::{Packet, Protocol};
/// use portcullis_core::settings::Settings;
/// use portcullis_core::verdict::Verdict;
/// use portcullis_matcher::{Basis, Ends, FlowLimits, FlowPacket, FlowTable, Matcher};
///
/// // A client that may reach everyone, and that nobody may reach.
/// let id = EndpointId::workload("shop", "client");
/// let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
/// let (egress, ingress) = (vec![Rule::new(Action::Allow)], vec![]);
/// let (labels, origin) = (Labels::new(), ProfileOrigin::Declared);
/// compiler.apply(Update::Profile(Profile { name: "out".into(), ingress, egress, labels, origin }))?;
/// compiler.apply(Update::Endpoint(Endpoint { profiles: vec!["out".into()], ..Endpoint::new(id.clone()) }))?;
/// let _ = compiler.commit();
/// let matcher = Matcher::lower(compiler.snapshot())?;
/// let client = matcher.handle(&id);
///
/// let mut table = FlowTable::new(&FlowLimits::new(65_536))?;
/// let request = Packet::new("10.0.0.1".parse()?, "192.0.2.1".parse()?, Protocol::UDP).from_port(4000).to_port(53);
/// let reply = Packet::new("192.0.2.1".parse()?, "10.0.0.1".parse()?, Protocol::UDP).from_port(53).to_port(4000);
/// let (out, back) = (Ends::workloads(client, None), Ends::workloads(None, client));
///
/// let (request, reply) = (FlowPacket::new(&request), FlowPacket::new(&reply));
/// assert_eq!(table.check(&matcher, Duration::ZERO, back, &reply).verdict, Verdict::Deny);
/// assert_eq!(table.check(&matcher, Duration::from_secs(1), out, &request).basis, Basis::New);
/// let answer = table.check(&matcher, Duration::from_secs(2), back, &reply);
/// assert_eq!((answer.verdict, answer.basis), (Verdict::Allow, Basis::Reply));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FlowTable {
    slab: Slab,
    timeouts: [u64; FlowState::ALL.len()],
    /// The latest time given, in milliseconds.
    now: u64,
    evicted: u64,
}

/// What the flow table says to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowAnswer {
    /// [`Verdict::Allow`], [`Verdict::Deny`] or [`Verdict::Inspect`]: the latter for all packets of a flow whose
    /// requests a proxy has to look at.
    pub verdict: Verdict,
    /// Where it comes from.
    pub basis: Basis,
}

/// Where the answer to a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis {
    /// Policy was asked, and nothing is tracked for it.
    Policy,
    /// Policy was asked, and a flow begins.
    New,
    /// A later packet of a tracked flow.
    Established,
    /// A packet against the direction of a tracked flow.
    Reply,
    /// An ICMP error about a tracked flow.
    Related,
}

/// A tracked flow, as it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// The header it began with.
    pub packet: Packet,
    /// The identifier of an ICMP query; 0 for other protocols.
    pub echo: u16,
    /// Its ends.
    pub ends: Ends,
    /// What policy said when it was last asked.
    pub verdict: Verdict,
    /// Its state.
    pub state: FlowState,
    /// How long ago a packet last prolonged it.
    pub idle: Duration,
}

impl FlowTable {
    /// An empty table; takes all its memory now.
    ///
    /// # Errors
    /// When the capacity is 0 or above [`FlowLimits::MAX_CAPACITY`], or there is no memory for it.
    pub fn new(limits: &FlowLimits) -> Result<Self, FlowLimitsError> {
        let FlowLimits { capacity, timeouts } = *limits;
        if capacity == 0 || capacity > FlowLimits::MAX_CAPACITY {
            return Err(FlowLimitsError(Kind::Capacity(capacity)));
        }
        let slab = Slab::new(capacity).map_err(|error| FlowLimitsError(Kind::Memory(error)))?;
        Ok(Self { slab, timeouts, now: 0, evicted: 0 })
    }

    /// What holds for `packet` between `ends`, at `now` since any fixed start; keeps account of the flow.
    pub fn check(
        &mut self,
        matcher: &Matcher,
        now: Duration,
        ends: Ends,
        packet: &FlowPacket<'_>,
    ) -> FlowAnswer {
        self.advance(now);
        if let Some(embedded) = packet.about.filter(|_| packet.is_error()) {
            return match self.related(ends, packet, embedded) {
                Some(verdict) => FlowAnswer { verdict, basis: Basis::Related },
                None => policy(judge(matcher, ends, packet.packet)),
            };
        }
        let Some((tuple, sender)) = Tuple::of(packet) else {
            return policy(judge(matcher, ends, packet.packet));
        };
        let sided = SidedEnds::new(ends, sender);
        let found = self.slab.find(&tuple, |entry| entry.ends == sided).map(|(at, entry)| (at, *entry));
        match found {
            Some((at, entry)) if self.is_expired(&entry) => {
                self.slab.remove(at);
            }
            Some((at, entry)) if packet.is_syn() => {
                return self.reopen(matcher, ends, packet, at, entry, sender);
            }
            Some((at, entry)) => {
                let way = if sender == entry.originator { Way::Original } else { Way::Reply };
                if let Some(state) = entry.state.next(way, packet) {
                    self.slab.touch(at, state, self.now);
                }
                let basis = if way == Way::Original { Basis::Established } else { Basis::Reply };
                return FlowAnswer { verdict: entry.verdict, basis };
            }
            None => {}
        }
        let verdict = judge(matcher, ends, packet.packet);
        self.begin(tuple, ends, sender, packet, verdict)
    }

    /// Asks `matcher` again about the flows that `which` selects, and forgets those that it denies; gives them back, so
    /// that their connections can be ended. The others keep passing, by the verdict that holds now.
    ///
    /// For an agent that cuts flows when policy tightens (decision D16). `|_| true` selects all, at the cost of one
    /// verdict each; the endpoints of the changes that `Snapshot::changes` calls tightened narrow it down. Allocates the
    /// result.
    pub fn cut(&mut self, matcher: &Matcher, mut which: impl FnMut(&Flow) -> bool) -> Vec<Flow> {
        let mut cut = Vec::new();
        for at in self.slab.numbers() {
            let Some(flow) = self.slab.get(at).filter(|entry| !self.is_expired(entry)) else { continue };
            let flow = self.flow(flow);
            if !which(&flow) {
                continue;
            }
            match judge(matcher, flow.ends, &flow.packet) {
                Verdict::Deny => {
                    self.slab.remove(at);
                    cut.push(flow);
                }
                verdict => {
                    if let Some(entry) = self.slab.get_mut(at) {
                        entry.verdict = verdict;
                    }
                }
            }
        }
        cut
    }

    /// Drops every flow whose time is over at `now`, and tells how many there were. Nothing depends on it but
    /// [`FlowTable::len`]: such a flow is never used, and the first to make room.
    pub fn expire(&mut self, now: Duration) -> usize {
        self.advance(now);
        let before = self.slab.len();
        for state in FlowState::ALL {
            while let Some((at, entry)) = self.slab.oldest(state)
                && self.is_expired(entry)
            {
                self.slab.remove(at);
            }
        }
        before.saturating_sub(self.slab.len())
    }

    /// The tracked flows whose time is not over, in no particular order.
    pub fn flows(&self) -> impl Iterator<Item = Flow> + '_ {
        let entries = self.slab.numbers().filter_map(|at| self.slab.get(at));
        entries.filter(|entry| !self.is_expired(entry)).map(|entry| self.flow(entry))
    }

    /// How many flows take room, those included whose time is over since the last [`FlowTable::expire`].
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether no flow takes room.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slab.len() == 0
    }

    /// How many flows there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// How many flows were dropped before their time to make room, since the start.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(millis(now));
    }

    fn is_expired(&self, entry: &Entry) -> bool {
        let timeout = self.timeouts.get(entry.state.index()).copied().unwrap_or(0);
        self.now.saturating_sub(entry.seen) > timeout
    }

    /// The verdict of the flow that the error `packet` about `embedded` belongs to.
    ///
    /// That it goes to the sender of the embedded packet is also what Linux asks
    /// (`nf_conntrack_inet_error` in `net/netfilter/nf_conntrack_proto_icmp.c`).
    fn related(&self, ends: Ends, packet: &FlowPacket<'_>, embedded: &FlowPacket<'_>) -> Option<Verdict> {
        if canonical(packet.packet.destination) != canonical(embedded.packet.source) {
            return None;
        }
        let (tuple, sender) = Tuple::of(embedded)?;
        let accepts = |entry: &Entry| {
            let flow = entry.ends.from(sender);
            let told_by_peer = ends.source.is_none() || ends.source == flow.destination;
            flow.source == ends.destination && told_by_peer && !self.is_expired(entry)
        };
        self.slab.find(&tuple, accepts).map(|(_, entry)| entry.verdict)
    }

    /// A SYN on the ports of a tracked flow.
    fn reopen(
        &mut self,
        matcher: &Matcher,
        ends: Ends,
        packet: &FlowPacket<'_>,
        at: u32,
        entry: Entry,
        sender: Side,
    ) -> FlowAnswer {
        let verdict = judge(matcher, ends, packet.packet);
        let unanswered = !entry.state.is_replied() && sender == entry.originator;
        match verdict {
            // An attempt that policy no longer wants. An established connection is not ended by a forged SYN.
            Verdict::Deny if unanswered => drop(self.slab.remove(at)),
            Verdict::Deny => {}
            _ if entry.state.is_over() => {
                self.slab.remove(at);
                return self.begin(entry.tuple, ends, sender, packet, verdict);
            }
            _ if unanswered => {
                if let Some(entry) = self.slab.get_mut(at) {
                    entry.verdict = verdict;
                }
                self.slab.touch(at, FlowState::TcpSynSent, self.now);
            }
            _ => {}
        }
        policy(verdict)
    }

    fn begin(
        &mut self,
        tuple: Tuple,
        ends: Ends,
        sender: Side,
        packet: &FlowPacket<'_>,
        verdict: Verdict,
    ) -> FlowAnswer {
        let nobody = ends.source.is_none() && ends.destination.is_none();
        let answer = tuple.is_query() && sender == Side::Upper;
        let state = FlowState::first(packet).filter(|_| verdict != Verdict::Deny && !nobody && !answer);
        let Some(state) = state else { return policy(verdict) };
        if self.slab.is_full() {
            self.make_room();
        }
        let ends = SidedEnds::new(ends, sender);
        self.slab.insert(Entry { tuple, ends, originator: sender, verdict, state, seen: self.now });
        FlowAnswer { verdict, basis: Basis::New }
    }

    fn make_room(&mut self) {
        let oldest = FlowState::ALL.iter().filter_map(|state| self.slab.oldest(*state));
        let victim = oldest.min_by_key(|(_, entry)| {
            let kept = entry.state.is_replied() && !entry.state.is_over();
            (!self.is_expired(entry), kept, entry.seen)
        });
        let Some((at, entry)) = victim else { return };
        self.evicted = self.evicted.saturating_add(u64::from(!self.is_expired(entry)));
        self.slab.remove(at);
    }

    fn flow(&self, entry: &Entry) -> Flow {
        let (packet, echo) = entry.tuple.packet(entry.originator);
        Flow {
            packet,
            echo,
            ends: entry.ends.from(entry.originator),
            verdict: entry.verdict,
            state: entry.state,
            idle: Duration::from_millis(self.now.saturating_sub(entry.seen)),
        }
    }
}

const fn policy(verdict: Verdict) -> FlowAnswer {
    FlowAnswer { verdict, basis: Basis::Policy }
}

/// What policy says to a packet between `ends`: Deny when one denies, else Inspect when one inspects, else Allow.
fn judge(matcher: &Matcher, ends: Ends, packet: &Packet) -> Verdict {
    let Some(key) = PacketKey::new(packet) else { return Verdict::Deny };
    let of = |end: Option<FlowEnd>, direction| {
        end.map(|end| matcher.verdict(end.endpoint, end.gate.hook(direction), &key))
    };
    let both = [of(ends.source, Direction::Egress), of(ends.destination, Direction::Ingress)];
    if both.contains(&Some(Verdict::Deny)) {
        Verdict::Deny
    } else if both.contains(&Some(Verdict::Inspect)) {
        Verdict::Inspect
    } else {
        Verdict::Allow
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<FlowTable>();
};
