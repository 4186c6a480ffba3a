//! What belongs to the nftables backend alone: the marks of others, and interfaces that it is told hold workloads.

use portcullis::backend::{
    Binding, Bindings, Dataplane as _, DataplaneOptions, DesiredState, Interface, LoggedEvents,
};
use portcullis::ir::Snapshot;
use portcullis::model::{EndpointId, Update};
use portcullis::nftables::{Enforcer, Options};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;
use portcullis::verdict::{Cause, Verdict};

use crate::backends::{bind, in_namespaces, next_event};
use crate::node::{Pod, node, tcp, udp};
use crate::{PODS, compile, compiled, place};

/// Runs `test` on a node.
fn on_a_node(pods: usize, test: impl FnOnce(&[Pod]) + Send + 'static) {
    if portcullis_testkit::kernel_can_be_asked() {
        in_namespaces(move || test(&node(pods)));
    }
}

fn load(enforcer: &mut Enforcer, snapshot: &Snapshot, bindings: &Bindings) {
    let applied = enforcer.load(DesiredState::new(snapshot, bindings)).unwrap();
    assert!(applied.is_complete());
}

/// A pod that nobody bound is cut off where its interface or address is known to be a workload's.
#[test]
fn workloads_that_nobody_bound_are_cut_off() {
    on_a_node(2, |pods| {
        let (open, _) = compiled(PODS, pods);
        let from = pods[0].addresses[0];
        let shared = DataplaneOptions::new().with_events(LoggedEvents::Denied);
        for options in [
            shared.clone().with_workload_interfaces(Interface::new("cali").unwrap()),
            shared.with_local_net("10.0.9.0/24".parse().unwrap()),
        ] {
            let mut enforcer = Enforcer::open(options.into()).unwrap();
            load(&mut enforcer, open.snapshot(), &Bindings::new());
            assert!(!pods[1].run(move || udp(from, 80)).recv().unwrap());
            let event = next_event(&mut enforcer);
            assert_eq!((event.decision.verdict, &event.decision.cause), (Verdict::Deny, &Cause::NoPolicy));
            enforcer.remove().unwrap();
            assert!(pods[1].run(move || udp(from, 80)).recv().unwrap());
        }
    });
}

/// The first pod stands for a host outside, behind an interface with a host endpoint.
pub(crate) const EDGE: &str = "
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge, labels: {edge: here}}
spec: {node: node, interfaceName: cali0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: door}
spec:
  order: 1
  selector: has(edge)
  preDNAT: true
  applyOnForward: true
  types: [Ingress]
  ingress:
    - {action: Allow, protocol: TCP, destination: {ports: [8080]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: shut}
spec:
  order: 2
  selector: has(edge)
  applyOnForward: true
  types: [Ingress]
  ingress: [{action: Deny}]
";

/// Somebody else's tables: a service, and a mark that has to be the same behind our hooks as before them.
const OTHERS: &str = "table inet others {
    counter kept { }
    counter lost { }
    chain before {
        type filter hook prerouting priority -400
        iifname cali0 meta mark set 0xdead0001
    }
    chain service {
        type nat hook prerouting priority -100
        ip daddr 10.0.9.100 tcp dport 8080 dnat ip to 10.0.9.11:80
    }
    chain look {
        type filter hook forward priority 300
        iifname cali0 meta mark 0xdead0001 counter name kept
        iifname cali0 meta mark != 0xdead0001 counter name lost
    }
}
";

#[test]
fn policy_before_destination_nat_decides_and_leaves_the_mark_of_others_alone() {
    on_a_node(2, |pods| {
        let scenario = Scenario::parse("edge", &format!("{PODS}{EDGE}"), LoadOptions::new()).unwrap();
        let mut cluster = scenario.cluster().clone();
        let server = EndpointId::workload("shop", "server");
        cluster.apply(Update::Endpoint(place(cluster.endpoints()[&server].clone(), &pods[1])));
        let compiler = compile(&cluster, &Settings::default());
        let mut bindings = bind(&pods[1..], &[server]);
        let interface = Interface::new(&pods[0].interface).unwrap();
        bindings.bind(EndpointId::host("edge"), Binding::Host { interfaces: vec![interface] });
        let path = std::env::temp_dir().join(format!("portcullis-others-{}", std::process::id()));
        std::fs::write(&path, OTHERS).unwrap();
        let loaded = std::process::Command::new("nft").arg("-f").arg(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(loaded.status.success(), "{loaded:?}");
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        load(&mut enforcer, compiler.snapshot(), &bindings);
        let (service, direct) = ("10.0.9.100".parse().unwrap(), pods[1].addresses[0]);
        // The service's port is open before NAT; behind it the pod's own port is not.
        assert!(pods[0].run(move || tcp(service, 8080)).recv().unwrap());
        assert!(!pods[0].run(move || tcp(direct, 80)).recv().unwrap());
        let counters = enforcer.counters().unwrap();
        let counted = |name: &str| {
            let of = counters.iter().filter(|(decision, _)| {
                decision.cause.policy().is_some_and(|policy| policy.name.as_str() == name)
            });
            of.map(|(_, counter)| counter.packets).sum::<u64>()
        };
        assert_eq!((counted("door"), counted("shut") > 0), (1, true));
        let listed = |name: &str| {
            let output =
                std::process::Command::new("nft").args(["list", "counter", "inet", "others", name]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let (kept, lost) = (listed("kept"), listed("lost"));
        assert!(kept.contains("packets") && !kept.contains("packets 0 "), "{kept}");
        assert!(lost.contains("packets 0 "), "{lost}");
    });
}
