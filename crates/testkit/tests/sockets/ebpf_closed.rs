//! A policy that does not fit the maps closes its own subjects, and everybody else is served (sockets, kernel maps).

use std::net::Ipv4Addr;

use portcullis::backend::Binding;
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ebpf::{Capacity, Enforcer};
use portcullis::local_node::LocalNode;
use portcullis::model::{EntityMatch, EntitySelector, L4Match, Policy, PolicyId, Rule, Update};
use portcullis::net::Cidr;
use portcullis::settings::Settings;

use crate::backends::interface;
use crate::cluster::placed;
use crate::ebpf::{on_a_node_with_bpf, options};
use crate::node::{Pod, tcp};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: a}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: greedy}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: modest}
";

/// Port 80 from anyone, and a port of its own for each of so many networks, so that each is a class of its own.
fn policy(namespace: &str, networks: u16) -> Policy {
    let subject = EntitySelector::workloads("all()").unwrap().in_namespace(namespace);
    let network = |at: u16| {
        let net = Cidr::new(Ipv4Addr::from_bits(0xC000_0000 + u32::from(at) * 16).into(), 28).unwrap();
        Rule::allow().from(EntityMatch::nets(vec![net])).to_port(L4Match::tcp(1_000 + at))
    };
    let rules = core::iter::once(Rule::allow().to_port(L4Match::tcp(80))).chain((0..networks).map(network));
    Policy::ingress(PolicyId::new("NetworkPolicy", Some(namespace.into()), "p"), subject, rules)
}

#[test]
fn a_policy_that_does_not_fit_the_maps_closes_its_own_subjects() {
    on_a_node_with_bpf(3, |pods, pins| {
        let capacity = Capacity { classes: 256, ..*options().capacity() };
        let open = || Enforcer::open(options().with_capacity(capacity).with_pins(pins)).unwrap();
        let compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut node = LocalNode::new(compiler, Box::new(open())).unwrap();
        let (cluster, ids) = placed(PODS, pods);
        let changed = node.change(|change| {
            cluster.updates().for_each(|update| change.apply(update));
            for (pod, id) in pods.iter().zip(&ids) {
                change.bind(id.clone(), Binding::workload(interface(&pod.interface), pod.addresses));
            }
            change.apply(Update::Policy(policy("greedy", 2)));
            change.apply(Update::Policy(policy("modest", 2)));
        });
        assert!(changed.unwrap().closed.is_empty());
        let serves = |pod: &Pod| {
            let to = pod.addresses;
            pods[0].run(move || to.map(|to| tcp(to, 80))).recv().unwrap()
        };
        let ([yes, no], [_, greedy, modest]) = ([[true; 2], [false; 2]], [&pods[0], &pods[1], &pods[2]]);
        assert_eq!((serves(greedy), serves(modest)), (yes, yes));

        let changed = node.change(|change| change.apply(Update::Policy(policy("greedy", 400)))).unwrap();
        assert!(changed.applied.is_complete(), "{changed:?}");
        let [closed] = &changed.closed[..] else { panic!("{changed:?}") };
        assert_eq!(closed.policy.namespace.as_deref(), Some("greedy"));
        assert!(closed.reason.to_string().contains("`classes` holds 256"), "{closed}");
        assert_eq!((serves(greedy), serves(modest)), (no, yes));

        let changed = node.change(|change| change.apply(Update::Policy(policy("modest", 5)))).unwrap();
        assert!(
            changed.closed.is_empty() && changed.applied.is_complete() && node.is_current(),
            "{changed:?}"
        );
        assert_eq!((serves(greedy), serves(modest)), (no, yes));

        let changed = node.change(|change| change.apply(Update::Policy(policy("greedy", 3)))).unwrap();
        assert!(changed.closed.is_empty() && node.closed_policies().next().is_none(), "{changed:?}");
        assert_eq!((serves(greedy), serves(modest)), (yes, yes));
        node.remove().unwrap();
    });
}
