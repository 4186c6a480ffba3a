//! The rule for newly denied flows against the reference evaluator, on generated clusters and changes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

extern crate alloc;

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, Interface, NewlyDenied, NodeInterfaces, TrackedAt,
    TrackedFlow,
};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::model::{Cluster, EndpointId, EndpointKind};
use portcullis::net::canonical;
use portcullis::packet::Packet;
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};
use portcullis_testkit::generate::Generator;

/// The workloads with an interface each, and the addresses that no other has.
fn workloads(cluster: &Cluster) -> BTreeMap<EndpointId, (u32, Vec<IpAddr>)> {
    let mut taken = BTreeSet::new();
    let workloads =
        cluster.endpoints().values().filter(|endpoint| endpoint.id.kind == EndpointKind::Workload);
    let with_addresses = |(index, endpoint): (u32, &portcullis::model::Endpoint)| {
        let own = endpoint.addresses.iter().map(|address| canonical(*address));
        (endpoint.id.clone(), (index, own.filter(|address| taken.insert(*address)).collect()))
    };
    (1..).zip(workloads).map(with_addresses).collect()
}

fn bindings(workloads: &BTreeMap<EndpointId, (u32, Vec<IpAddr>)>) -> Bindings {
    let bound = |(id, (index, addresses)): (&EndpointId, &(u32, Vec<IpAddr>))| {
        let interface = Interface::new(&format!("w{index}")).unwrap().with_index(*index);
        (id.clone(), Binding::workload(interface, addresses.iter().copied()))
    };
    workloads.iter().map(bound).collect()
}

/// The cluster before and after a change.
struct Steps<'a> {
    before: &'a Cluster,
    after: &'a Cluster,
    settings: &'a Settings,
}

impl Steps<'_> {
    /// Whether the hooks that were asked allowed the packet before, and one of them denies it now.
    fn newly_deny(&self, asked: &[(&EndpointId, Hook)], packet: &Packet) -> bool {
        let allows = |cluster: &Cluster, (id, hook): &(&EndpointId, Hook)| {
            let decision = Reference::new(cluster, self.settings).decide(id, *hook, packet);
            decision.verdict == Verdict::Allow
        };
        let was_there = |id: &EndpointId| self.before.endpoints().contains_key(id);
        asked.iter().all(|one| !was_there(one.0) || allows(self.before, one))
            && !asked.iter().all(|one| allows(self.after, one))
    }
}

#[test]
fn newly_denied_flows_are_those_that_the_reference_allowed_and_denies() {
    let rounds: u64 = std::env::var("PORTCULLIS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let (options, node, settings) = (DataplaneOptions::new(), NodeInterfaces::new(), Settings::default());
    let (mut denied, mut kept) = (0, 0);
    for seed in 0..rounds.div_ceil(4) {
        let mut generator = Generator::new(seed);
        let mut cluster: Cluster = generator.cluster().into_iter().collect();
        let mut compiler =
            Compiler::from_cluster(cluster.clone(), settings.clone(), CompileScope::All).unwrap();
        for step in 0..8 {
            let before = cluster.clone();
            for _ in 0..=generator.below(3) {
                let update = generator.change(&cluster);
                cluster.apply(update.clone());
                compiler.apply(update).unwrap();
            }
            let _ = compiler.commit();
            let workloads = workloads(&cluster);
            let bindings = bindings(&workloads);
            let desired = DesiredState::new(compiler.snapshot(), &bindings);
            let rule = NewlyDenied::new(compiler.previous(), desired, &options, &node);
            let steps = Steps { before: &before, after: &cluster, settings: &settings };
            let owner = |address: &IpAddr| {
                workloads.iter().find(|(_, (_, own))| own.contains(address)).map(|(id, _)| id)
            };
            let mut check = |at, packet: &Packet, want: bool| {
                let flow = TrackedFlow { packet: packet.clone(), arrived: packet.clone(), at };
                assert_eq!(rule.contains(&flow), want, "seed {seed} step {step}: {flow:?}");
                if want { denied += 1 } else { kept += 1 }
            };
            for _ in 0..20 {
                let mut packet = generator.packet();
                packet.principal = None;
                packet.http = None;
                packet.source = canonical(packet.source);
                let (from, to) = (owner(&packet.source), owner(&packet.destination));
                let asked: Vec<_> = from
                    .zip(Some(Hook::WorkloadEgress))
                    .into_iter()
                    .chain(to.zip(Some(Hook::WorkloadIngress)))
                    .collect();
                check(TrackedAt::Node, &packet, from != to && steps.newly_deny(&asked, &packet));
                for (id, (index, own)) in &workloads {
                    for source in own.iter().filter(|own| own.is_ipv4() == packet.destination.is_ipv4()) {
                        let sent = Packet { source: *source, ..packet.clone() };
                        let to_itself = own.contains(&sent.destination);
                        let want = !to_itself && steps.newly_deny(&[(id, Hook::WorkloadEgress)], &sent);
                        check(TrackedAt::Interface { index: *index, from_endpoint: true }, &sent, want);
                    }
                    for destination in own.iter().filter(|own| own.is_ipv4() == packet.source.is_ipv4()) {
                        let received = Packet { destination: *destination, ..packet.clone() };
                        let from_itself = own.contains(&received.source);
                        let want =
                            !from_itself && steps.newly_deny(&[(id, Hook::WorkloadIngress)], &received);
                        check(TrackedAt::Interface { index: *index, from_endpoint: false }, &received, want);
                    }
                }
            }
        }
    }
    println!("{denied} flows newly denied, {kept} kept");
    assert!(denied > 50 && kept > 50);
}
