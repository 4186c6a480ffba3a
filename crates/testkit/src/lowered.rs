//! What the kernel backends make of a snapshot, read without a kernel: an nftables table and the maps of the eBPF program.
//!
//! Both readers know what the kernel does with such data and nothing of how it was made. The tests of the kernel itself show
//! that they read it as the kernel does.

pub mod maps;
pub mod reader;
pub mod table;

use alloc::collections::BTreeMap;

use portcullis::backend::{Binding, Bindings, DesiredState, Interface, Lower as _};
use portcullis::ebpf;
use portcullis::ir::Snapshot;
use portcullis::model::{Cluster, EndpointId, EndpointKind};
use portcullis::nftables;
use portcullis::packet::{Packet, Protocol};
use portcullis::verdict::{Decision, Hook, Verdict};

use maps::Maps;
use reader::{Question, Reader, is_to_itself};
use table::Table;

/// What each endpoint of a cluster is bound to: one interface of its own.
pub type Endpoints = BTreeMap<EndpointId, Interface>;

/// The tables of both backends for one snapshot.
#[derive(Debug)]
pub struct Lowered {
    interfaces: Endpoints,
    maps: Maps,
    table: Table,
}

/// Room for what the generator makes.
const CAPACITY: ebpf::Capacity = ebpf::Capacity {
    endpoints: 64,
    addresses_v4: 1_024,
    addresses_v6: 1_024,
    networks_v4: 1_024,
    networks_v6: 1_024,
    classes: 4_096,
    projections: 512,
    programs: 1_024,
    cells: 262_144,
    runs: 16_384,
    pages: 16_384,
    decisions: 16_384,
    flows_v4: 1_024,
    flows_v6: 1_024,
    cuts: 1_024,
    event_bytes: 65_536,
};

impl Lowered {
    /// Lowers a snapshot in which every endpoint of the cluster is on this node.
    ///
    /// # Panics
    /// When a backend refuses it.
    #[must_use]
    pub fn new(cluster: &Cluster, snapshot: &Snapshot) -> Self {
        let ids = cluster.endpoints().keys().cloned();
        let interfaces: Endpoints = ids.zip(10..).map(|(id, index)| (id, interface(index))).collect();
        let bindings: Bindings = interfaces.iter().map(|(id, at)| (id.clone(), binding(id, at))).collect();
        let desired = || DesiredState::new(snapshot, &bindings);

        let options = ebpf::Options::new().with_capacity(CAPACITY);
        let (_, update) = ebpf::Lowering::load(options, desired(), &())
            .unwrap_or_else(|error| panic!("the eBPF backend refuses: {error}"));
        let mut maps = Maps::new(CAPACITY);
        update.writes().iter().for_each(|write| maps.write(write));

        let (_, update) =
            nftables::Lowering::load(nftables::Options::new(), desired(), &nftables::Existing::default())
                .unwrap_or_else(|error| panic!("the nftables backend refuses: {error}"));
        Self { interfaces, maps, table: Table::parse(&update.to_string()) }
    }

    /// Holds both backends to what the reference says of a packet at a hook of an endpoint. Returns how many of them named the
    /// decision.
    ///
    /// # Panics
    /// When one of them says something else; `what` is part of the message.
    pub fn compare(
        &mut self,
        id: &EndpointId,
        hook: Hook,
        packet: &Packet,
        want: &Decision,
        what: impl Fn() -> String,
    ) -> u64 {
        let Some(interface) = self.interfaces.get(id) else { return 0 };
        let Some(index) = interface.index() else { return 0 };
        let question = Question { interface: index, hook, packet: packet.clone() };
        let got = Reader::ask(&question, &mut self.maps);
        let passes = matches!(want.verdict, Verdict::Allow | Verdict::Continue);
        assert_eq!(got.passed, passes, "eBPF: {}", what());
        let got = got.decision.unwrap_or_else(|| panic!("eBPF: no decision: {}", what()));
        assert_eq!(
            (got.verdict, &got.cause, &got.logs),
            (want.verdict, &want.cause, &want.logs),
            "eBPF: {}",
            what()
        );
        // The table asks where packets that come in go to, in the untracked hook; and it lets through what a workload sends itself.
        if matches!(hook, Hook::UntrackedIngress | Hook::UntrackedEgress) || is_to_itself(packet) {
            return 1;
        }
        let got = self.table.ask(interface.name(), hook, packet);
        assert_eq!(got.passed, passes, "nftables: {got:?}: {}", what());
        match got.comment {
            Some(comment) => {
                let text = format!("{}: {}", want.verdict, want.cause);
                assert!(
                    table::is_label_of(&comment, &text),
                    "nftables: {comment:?} is not {text:?}: {}",
                    what()
                );
                assert_eq!(got.logs, want.logs.len(), "nftables: {}", what());
                2
            }
            // A hook at which nothing can happen to any packet has no programs in the table.
            None => {
                assert!(id.kind == EndpointKind::Host && want.logs.is_empty(), "nftables: {}", what());
                1
            }
        }
    }
}

/// The packet as the kernel sees it: without what only a proxy knows, and ICMP with a type.
#[must_use]
pub fn plain(mut packet: Packet) -> Packet {
    (packet.principal, packet.http) = (None, None);
    if matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6) && packet.icmp.is_none() {
        packet = packet.with_icmp(8, 0);
    }
    packet
}

fn interface(index: u32) -> Interface {
    match Interface::new(&format!("if{index}")) {
        Ok(interface) => interface.with_index(index),
        Err(error) => panic!("{error}"),
    }
}

fn binding(id: &EndpointId, interface: &Interface) -> Binding {
    match id.kind {
        EndpointKind::Workload => Binding::WorkloadAnyAddress { interface: interface.clone() },
        EndpointKind::Host => Binding::Host { interfaces: vec![interface.clone()] },
    }
}
