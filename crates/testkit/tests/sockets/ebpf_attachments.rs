//! TCX and clsact: the same enforcement, with other programs beside ours.

use std::net::IpAddr;
use std::path::Path;

use aya::programs::SchedClassifier;
use aya::programs::TcAttachType::{Egress, Ingress};
use portcullis::backend::{Binding, Bindings};
use portcullis::ebpf::{AttachMode, Enforcer};
use portcullis::ir::Delta;
use portcullis::model::{EndpointId, Update};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;

use crate::backends::{bind, interface};
use crate::ebpf::{attached, on_a_node_with_bpf, remove, start_enforcer, update};
use crate::foreign::{ACCEPT, At, Foreign, NEXT, leftovers};
use crate::nftables::EDGE;
use crate::node::{Pod, carries, connect, tcp, udp};
use crate::{ONLY_80, PODS, compile, compiled, place};

const BOTH: [AttachMode; 2] = [AttachMode::Tcx, AttachMode::Clsact];

/// Runs `test` with two pods, where the first may reach port 80 of the second and no other.
fn with_port_80_open(test: impl FnOnce(&[Pod], &Path, &dyn Fn(AttachMode) -> Enforcer) + Send + 'static) {
    on_a_node_with_bpf(2, |pods, pins| {
        let (compiler, ids) = compiled(&format!("{PODS}{ONLY_80}"), pods);
        let bindings = bind(pods, &ids);
        let start =
            |attachment| start_enforcer(attached(attachment), pins, compiler.snapshot(), &bindings).unwrap();
        test(pods, pins, &start);
    });
}

fn reaches(pods: &[Pod], port: u16) -> bool {
    let to: IpAddr = pods[1].addresses[0];
    pods[0].run(move || tcp(to, port)).recv().unwrap()
}

fn is_answered(pods: &[Pod], port: u16) -> bool {
    let to: IpAddr = pods[1].addresses[0];
    pods[0].run(move || udp(to, port)).recv().unwrap()
}

const ONLY_UDP: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-udp, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{ports: [{port: 80, protocol: UDP}, {port: 8080, protocol: UDP}]}]
";

#[test]
fn tcx_is_taken_where_the_kernel_has_it() {
    with_port_80_open(|pods, _, start| {
        let has_tcx = SchedClassifier::query_tcx("lo", Ingress).is_ok();
        let enforcer = start(AttachMode::Auto);
        let expected = if has_tcx { AttachMode::Tcx } else { AttachMode::Clsact };
        assert_eq!(enforcer.attach_mode(), Some(expected));
        assert!(!reaches(pods, 8080) && reaches(pods, 80));
        remove(enforcer);
    });
}

/// Somebody else's programs, there before ours and added behind and before them, see what ours pass, and drop what they
/// want; ours come and go beside them.
#[test]
fn programs_of_others_keep_working() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (compiler, ids) = compiled(&format!("{PODS}{ONLY_UDP}"), pods);
        let bindings = bind(pods, &ids);
        let start =
            |attachment| start_enforcer(attached(attachment), pins, compiler.snapshot(), &bindings).unwrap();
        let mut foreign: Vec<(String, Foreign)> = Vec::new();
        let mut add = |what: &str, pod: usize, direction, at| {
            foreign.push((what.to_owned(), Foreign::attach(&pods[pod], direction, at, 8080, NEXT)));
        };
        add("a link from before", 1, Egress, At::TcxLast);
        // Each of them alone is enough to drop datagrams to port 8080.
        assert!(!is_answered(pods, 8080) && is_answered(pods, 80));
        let tc = |line: &str| {
            assert!(std::process::Command::new("tc").args(line.split(' ')).status().unwrap().success());
        };
        tc(&format!("qdisc add dev {} clsact", pods[1].interface));
        add("a filter from before", 1, Egress, At::Filter(0));
        let before = leftovers(pods);
        let check = |foreign: &[(String, Foreign)], what: &str, guarded: bool| {
            let seen: Vec<u64> = foreign.iter().map(|(_, foreign)| foreign.seen()).collect();
            assert!(is_answered(pods, 80), "{what}");
            for ((name, foreign), seen) in foreign.iter().zip(seen) {
                assert!(foreign.seen() > seen, "{what}: {name} is not shown what passes");
            }
            assert!(!is_answered(pods, 8080), "{what}: policy lets it pass, the others do not");
            assert_eq!(reaches(pods, 80), !guarded, "{what}");
        };
        check(&foreign, "before", false);
        for attachment in BOTH {
            let enforcer = start(attachment);
            check(&foreign, &format!("{attachment:?}"), true);
            drop(enforcer);
            let enforcer = start(attachment);
            check(&foreign, &format!("{attachment:?}, restarted"), true);
            remove(enforcer);
            assert_eq!(leftovers(pods), before, "{attachment:?}");
            check(&foreign, "removed", false);
        }
        // Now some that come after ours, before and behind them.
        let mut enforcer = start(AttachMode::Tcx);
        let mut add = |what: &str, at| {
            foreign.push((what.to_owned(), Foreign::attach(&pods[1], Egress, at, 8080, NEXT)));
        };
        add("a link that goes before ours", At::TcxFirst);
        add("a link that goes behind ours", At::TcxLast);
        check(&foreign, "links added", true);
        enforcer = {
            drop(enforcer);
            start(AttachMode::Clsact)
        };
        let mut add = |what: &str, at| {
            foreign.push((what.to_owned(), Foreign::attach(&pods[1], Egress, at, 8080, NEXT)));
        };
        add("a filter in our own priority", At::Filter(1));
        add("a filter behind ours", At::Filter(2));
        check(&foreign, "filters added", true);
        drop(enforcer);
        enforcer = start(AttachMode::Clsact);
        check(&foreign, "filters added, restarted", true);
        let both = foreign.len();
        let present = leftovers(pods).iter().filter(|line| line.contains("foreign")).count();
        remove(enforcer);
        check(&foreign, "all removed", false);
        assert_eq!((both, present), (6, 6));
        assert_eq!(leftovers(pods).iter().filter(|line| line.contains("foreign")).count(), 6);
        assert!(!leftovers(pods).iter().any(|line| line.contains("workload")), "{:?}", leftovers(pods));
    });
}

/// A program that accepts everything would hide packets from those behind it.
#[test]
fn programs_that_accept_do_not_hide_packets_from_ours() {
    with_port_80_open(|pods, _, start| {
        for (attachment, at) in [(AttachMode::Tcx, At::TcxLast), (AttachMode::Clsact, At::Filter(0))] {
            if attachment == AttachMode::Clsact {
                let add = ["qdisc", "add", "dev", &pods[1].interface, "clsact"];
                assert!(std::process::Command::new("tc").args(add).status().unwrap().success());
            }
            let foreign = Foreign::attach(&pods[1], Egress, at, 0, ACCEPT);
            assert!(reaches(pods, 8080));
            let enforcer = start(attachment);
            assert!(!reaches(pods, 8080) && reaches(pods, 80), "{attachment:?}");
            remove(enforcer);
            drop(foreign);
        }
    });
}

/// The clsact qdisc goes with our filters, unless it was there before or somebody uses it by now.
#[test]
fn the_qdisc_stays_for_others_only() {
    with_port_80_open(|pods, pins, start| {
        let nothing = Vec::<String>::new();
        remove(start(AttachMode::Clsact));
        assert_eq!((leftovers(pods), pins.exists()), (nothing.clone(), false));
        let enforcer = start(AttachMode::Clsact);
        let foreign = Foreign::attach(&pods[0], Ingress, At::Filter(7), 0, NEXT);
        let seen = foreign.seen();
        remove(enforcer);
        let left = leftovers(pods);
        assert_eq!(left.iter().filter(|line| line.contains("clsact")).count(), 1, "{left:?}");
        assert!(left.iter().any(|line| line.contains("foreign")), "{left:?}");
        assert!(!is_answered(pods, 8081) && foreign.seen() > seen);
        // It is not ours any more, even when it is empty again.
        let delete = ["filter", "del", "dev", &pods[0].interface, "ingress"];
        assert!(std::process::Command::new("tc").args(delete).status().unwrap().success());
        remove(start(AttachMode::Clsact));
        let left = leftovers(pods);
        assert!(left.len() == 1 && left[0].contains("clsact"), "{left:?}");
    });
}

/// An interface that is not bound any more, one that goes, and one that comes back under the same number.
#[test]
fn filters_follow_bindings_and_interfaces() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (compiler, ids) = compiled(&format!("{PODS}{ONLY_80}"), pods);
        let bindings = bind(pods, &ids);
        let start = |bindings: &Bindings| {
            start_enforcer(attached(AttachMode::Clsact), pins, compiler.snapshot(), bindings).unwrap()
        };
        let enforcer = start(&bindings);
        assert!(!reaches(pods, 8080) && reaches(pods, 80));
        drop(enforcer);
        let server = bindings.endpoints().filter(|(id, _)| **id == ids[1]);
        let server: Bindings = server.map(|(id, binding)| (id.clone(), binding.clone())).collect();
        let enforcer = start(&server);
        let on = |pod: usize| leftovers(&pods[pod..=pod]).len();
        assert_eq!((on(0), on(1) > 0), (0, true), "{:?}", leftovers(pods));
        assert!(!reaches(pods, 8080) && reaches(pods, 80));
        // Somebody deletes our filters; the next start brings them back.
        let qdisc = ["qdisc", "del", "dev", &pods[1].interface, "clsact"];
        assert!(std::process::Command::new("tc").args(qdisc).status().unwrap().success());
        assert!(reaches(pods, 8080));
        drop(enforcer);
        let to = pods[1].addresses[0];
        let mut flow = pods[0].run(move || connect(to, 80)).recv().unwrap();
        let enforcer = start(&bindings);
        assert!(!reaches(pods, 8080) && reaches(pods, 80) && carries(&mut flow));
        let link = ["link", "del", "dev", &pods[0].interface];
        assert!(std::process::Command::new("ip").args(link).status().unwrap().success());
        drop(enforcer);
        remove(start(&server));
        assert_eq!((leftovers(&pods[1..]), pins.exists()), (Vec::new(), false));
    });
}

/// Behind one interface there is a pod, then a host endpoint, then a pod again.
#[test]
fn another_kind_of_endpoint_gets_its_own_programs() {
    on_a_node_with_bpf(2, |pods, pins| {
        let scenario = Scenario::parse("edge", &format!("{PODS}{EDGE}"), LoadOptions::new()).unwrap();
        let mut cluster = scenario.cluster().clone();
        let ids = ["client", "server"].map(|name| EndpointId::workload("shop", name));
        for (id, pod) in ids.iter().zip(pods) {
            cluster.apply(Update::Endpoint(place(cluster.endpoints()[id].clone(), pod)));
        }
        let compiler = compile(&cluster, &Settings::default());
        let (snapshot, workloads) = (compiler.snapshot(), bind(pods, &ids));
        let mut hosts = bind(&pods[1..], &ids[1..]);
        hosts.bind(
            EndpointId::host("edge"),
            Binding::Host { interfaces: vec![interface(&pods[0].interface)] },
        );
        let same = Delta { from: snapshot.generation, to: snapshot.generation, ..Delta::default() };
        for attachment in BOTH {
            let mut enforcer = start_enforcer(attached(attachment), pins, snapshot, &workloads).unwrap();
            assert!(reaches(pods, 80) && reaches(pods, 8080));
            update(&mut enforcer, snapshot, &same, &hosts);
            assert!(!reaches(pods, 80) && reaches(pods, 8080), "{attachment:?}");
            update(&mut enforcer, snapshot, &same, &workloads);
            assert!(reaches(pods, 80) && reaches(pods, 8080), "{attachment:?}");
            remove(enforcer);
            assert_eq!(leftovers(pods), Vec::<String>::new());
        }
    });
}
