//! Flows that are older than the first load on a node: the kernel's connection tracking knows them.
//!
//! They go on, as they do when policy changes (decision D16), and as those do that Calico's eBPF mode finds: it lets what
//! connection tracking calls established or related pass for "flows that pre-date the BPF programs" (`setUpIptablesBPF` in
//! Felix's `dataplane/linux/int_dataplane.go`). The nftables backend does the same by `ct state`. Flows that only one end has sent in are
//! not taken over: policy decides their next packet.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_conntrack::{Conntrack, Flow, TcpState, Tuple};
use portcullis_core::backend::{Binding, Bindings, Interface};
use portcullis_core::net::{Cidr, canonical};
use portcullis_core::packet::Protocol;
use portcullis_core::settings::WorkloadToHost;

use crate::error::{Context as _, LoadError};
use crate::layout::NODE;
use crate::load::flow_tables::{BEGAN_LOCAL, CLOSING, DEFERRED, FlowTables, SENT, Seen, idle_seconds};
use crate::load::rtnetlink::{Route, route_to};
use crate::options::{Capacity, Options};

/// What is behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    Workload(u32),
    /// An interface of the host that is bound.
    Host(u32),
    /// The node itself.
    Node,
    /// An interface that nobody is bound to.
    Nobody,
}

impl Behind {
    const fn interface(self) -> u32 {
        match self {
            Self::Workload(index) | Self::Host(index) => index,
            Self::Node | Self::Nobody => NODE,
        }
    }
}

/// What was taken over, and how much of it.
pub(crate) struct OlderFlows {
    workloads: BTreeMap<IpAddr, u32>,
    /// Interfaces of workloads, and of the host.
    interfaces: BTreeMap<u32, bool>,
    routes: BTreeMap<IpAddr, Behind>,
    services: Vec<Cidr>,
    /// Whether host policy decides what workloads send to the node.
    guards_node: bool,
    tcp_idle_seconds: u32,
    /// By family: the most flows of a workload and of an interface of the host.
    bounds: [[u32; 2]; 2],
    /// By payer and family: entries at its interface and elsewhere.
    held: BTreeMap<(u32, bool), [u32; 2]>,
    taken: BTreeSet<Seen>,
    /// Flows that there was no room for, each as it is seen first.
    left_out: BTreeSet<Seen>,
}

impl OlderFlows {
    /// None yet, on a node with these bindings.
    pub(crate) fn none_yet(bindings: &Bindings, options: &Options) -> Self {
        let (mut workloads, mut interfaces) = (BTreeMap::new(), BTreeMap::new());
        for (_, binding) in bindings.endpoints() {
            let indexes = binding.interfaces().iter().filter_map(Interface::index);
            interfaces.extend(indexes.map(|index| (index, binding.is_workload())));
            if let Binding::Workload { interface, addresses } = binding
                && let Some(index) = interface.index()
            {
                workloads.extend(addresses.iter().map(|address| (canonical(*address), index)));
            }
        }
        let uplinks = bindings.uplinks().filter_map(Interface::index);
        for index in uplinks {
            interfaces.entry(index).or_insert(false);
        }
        let (shared, capacity) = (&options.dataplane, options.capacity());
        let bounds = |table| Capacity::flow_bounds(table, shared.flows_per_interface);
        Self {
            workloads,
            interfaces,
            routes: BTreeMap::new(),
            services: shared.services.clone(),
            guards_node: shared.workload_to_host == WorkloadToHost::HostPolicy,
            tcp_idle_seconds: shared.tcp_idle_seconds,
            bounds: [bounds(capacity.flows_v4), bounds(capacity.flows_v6)],
            held: BTreeMap::new(),
            taken: BTreeSet::new(),
            left_out: BTreeSet::new(),
        }
    }

    /// Writes the flows that the kernel tracks into `tables`, but for those that an earlier call found. `now` is the kernel's coarse
    /// monotonic clock in nanoseconds.
    /// How many of them there was no room for.
    pub(crate) fn take_over(&mut self, tables: &mut FlowTables, now: u64) -> Result<usize, LoadError> {
        let what = "connection tracking";
        let mut flows = Vec::new();
        let mut conntrack = Conntrack::open().context(what)?;
        conntrack.list(|flow| flows.extend(goes_on(&flow).then_some(flow))).context(what)?;
        let before = self.left_out.len();
        let found = self.entries(flows, now, route_to);
        tables.add(found)?;
        Ok(self.left_out.len().saturating_sub(before))
    }

    /// What the programs would have noted of `flows`, had they been there.
    fn entries(
        &mut self,
        mut flows: Vec<Flow>,
        now: u64,
        route: impl Fn(IpAddr) -> Route,
    ) -> Vec<(Seen, u64)> {
        // Those that were silent for long have the least claim to room.
        flows.sort_by_key(|flow| core::cmp::Reverse(flow.remaining));
        let mut entries = Vec::new();
        for flow in flows {
            let seen = self.seen_of(&flow, &route);
            let new: Vec<Seen> = seen.into_iter().filter(|seen| !self.taken.contains(seen)).collect();
            if !self.has_room(&new) {
                self.left_out.extend(new.into_iter().take(1));
                continue;
            }
            let is_closing = flow.tcp == Some(TcpState::Closing);
            let idle = idle_seconds(flow.first.protocol, is_closing, self.tcp_idle_seconds);
            // It is remembered no longer than the kernel would have done.
            let silence = u64::from(idle).saturating_sub(flow.remaining.as_secs());
            let since = now.saturating_sub(silence.saturating_mul(1_000_000_000));
            self.taken.extend(new.iter().cloned());
            entries.extend(new.into_iter().map(|seen| (seen, since)));
        }
        entries
    }

    /// The flow as each interface on its way sees it: packets come in as their sender made them and leave rewritten. On a node with
    /// services, the interface where it comes in is asked about the rewritten ones as well.
    fn seen_of(&mut self, flow: &Flow, route: &impl Fn(IpAddr) -> Route) -> Vec<Seen> {
        let (Some(sent), Some(left)) = (Ends::sent(&flow.first), Ends::left(flow)) else { return Vec::new() };
        let (from, to) = (self.behind(flow.first.source, route), self.behind(flow.answer.source, route));
        let payer = from.interface();
        let closing = if flow.tcp == Some(TcpState::Closing) { CLOSING } else { 0 };
        let is_deferred = flow.first.protocol.has_ports()
            && self.services.iter().any(|net| net.contains(&flow.first.destination));
        let deferred = if is_deferred { DEFERRED } else { 0 };
        let at = |ends: &Ends, interface: u32, began: Began| {
            let Ends { source, destination, ports: [sent, received], protocol } = *ends;
            let flags = SENT | closing;
            match began {
                Began::Local => Seen {
                    interface,
                    local: source,
                    remote: destination,
                    ports: sent,
                    protocol,
                    flags: flags | BEGAN_LOCAL,
                    peer: 0,
                    payer,
                },
                Began::Remote => Seen {
                    interface,
                    local: destination,
                    remote: source,
                    ports: received,
                    protocol,
                    flags,
                    peer: 0,
                    payer,
                },
            }
        };
        let mut found = Vec::new();
        if let Behind::Workload(index) | Behind::Host(index) = from {
            let began = if matches!(from, Behind::Workload(_)) { Began::Local } else { Began::Remote };
            let mut seen = at(&sent, index, began);
            seen.flags |= deferred;
            found.push(seen);
            if left != sent {
                found.push(at(&left, index, began));
            }
        }
        match (from, to) {
            (_, Behind::Workload(index)) => {
                // Behind an interface of the host, nobody gets another's address.
                let peer = match from {
                    Behind::Workload(peer) => peer,
                    Behind::Node => OF_NODE,
                    Behind::Host(_) | Behind::Nobody => 0,
                };
                found.push(Seen { peer, ..at(&left, index, Began::Remote) });
            }
            (_, Behind::Host(index)) => found.push(at(&left, index, Began::Local)),
            (Behind::Workload(peer), Behind::Node) if self.guards_node => {
                found.push(Seen { peer, ..at(&left, NODE, Began::Remote) });
                if left != sent {
                    found.push(Seen { peer, ..at(&sent, NODE, Began::Remote) });
                }
            }
            (_, Behind::Node | Behind::Nobody) => {}
        }
        found
    }

    fn behind(&mut self, address: IpAddr, route: &impl Fn(IpAddr) -> Route) -> Behind {
        if let Some(index) = self.workloads.get(&address) {
            return Behind::Workload(*index);
        }
        let interfaces = &self.interfaces;
        *self.routes.entry(address).or_insert_with(|| match route(address) {
            Route::Here => Behind::Node,
            Route::By(index) => match interfaces.get(&index) {
                Some(true) => Behind::Workload(index),
                Some(false) => Behind::Host(index),
                None => Behind::Nobody,
            },
            Route::Nowhere => Behind::Nobody,
        })
    }

    /// Whether the account that pays has room for all of them, which is taken then.
    fn has_room(&mut self, seen: &[Seen]) -> bool {
        let Some(Seen { payer, local, .. }) = seen.first() else { return true };
        let (payer, is_v6) = (*payer, local.is_ipv6());
        let [v4, v6] = self.bounds;
        let [workload, host] = if is_v6 { v6 } else { v4 };
        let most = if self.interfaces.get(&payer) == Some(&true) { workload } else { host };
        let [here, elsewhere] = self.held.entry((payer, is_v6)).or_default();
        let is_here = |seen: &&Seen| seen.interface == payer && seen.flags & DEFERRED == 0;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let new_here = count(seen.iter().filter(is_here).count());
        let new_elsewhere = count(seen.len()).saturating_sub(new_here);
        let (now_here, now_elsewhere) =
            (here.saturating_add(new_here), elsewhere.saturating_add(new_elsewhere));
        if now_here > most || now_elsewhere > most.saturating_mul(2) {
            return false;
        }
        (*here, *elsewhere) = (now_here, now_elsewhere);
        true
    }
}

/// Whether connection tracking would let its packets pass as those of an established flow.
fn goes_on(flow: &Flow) -> bool {
    flow.is_answered && flow.tcp != Some(TcpState::Closed)
}

/// The end of a flow that began it, as an interface sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Began {
    Local,
    Remote,
}

/// The ends of a packet from the end that began the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    source: IpAddr,
    destination: IpAddr,
    /// As the tables have them, from the source's and the destination's side: see `ports_of` and `query_ports` in `bpf/packet.h`.
    ports: [u32; 2],
    protocol: Protocol,
}

impl Ends {
    /// As they are when it comes in. `None` for ICMP that asks nothing.
    fn sent(first: &Tuple) -> Option<Self> {
        let identifier = first.icmp.map(|(.., identifier)| identifier);
        let ports = ports(first, [first.source_port, first.destination_port], identifier)?;
        Some(Self { source: first.source, destination: first.destination, ports, protocol: first.protocol })
    }

    /// As they are when it leaves: answers come from where it goes.
    fn left(flow: &Flow) -> Option<Self> {
        let answer = &flow.answer;
        let identifier = answer.icmp.map(|(.., identifier)| identifier);
        let ports = ports(&flow.first, [answer.destination_port, answer.source_port], identifier)?;
        let (source, destination) = (answer.destination, answer.source);
        Some(Self { source, destination, ports, protocol: answer.protocol })
    }
}

fn ports(first: &Tuple, [source, destination]: [u16; 2], identifier: Option<u16>) -> Option<[u32; 2]> {
    let word = |upper: u16, lower: u16| u32::from(upper) << 16 | u32::from(lower);
    if first.protocol.has_ports() {
        return Some([word(source, destination), word(destination, source)]);
    }
    let asks = |kind| match first.protocol {
        Protocol::ICMP => matches!(kind, 8 | 13 | 15 | 17),
        _ => kind == 128,
    };
    match first.protocol {
        Protocol::ICMP | Protocol::ICMPV6 => {
            let ((kind, ..), identifier) = (first.icmp?, identifier?);
            let question = u16::from(kind) << 8;
            asks(kind).then_some([word(identifier, question | 1), word(identifier, question | 2)])
        }
        _ => Some([0, 0]),
    }
}

/// `OF_NODE` of `bpf/flows.h`.
const OF_NODE: u32 = 0xffff_ffff;
