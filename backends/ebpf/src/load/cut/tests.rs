use portcullis_core::backend::{Binding, Bindings, Interface};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::Snapshot;
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntitySelector, Placement, Policy, PolicyId, Rule,
    Update,
};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::settings::Settings;

use super::Tightened;
use crate::load::flow_tables::Flow;
use crate::options::Options;

fn labels(app: &str) -> Labels {
    let mut labels = Labels::new();
    labels.insert("app", app);
    labels
}

fn policy(name: &str, app: &str, placement: Placement, directions: Directions, action: Action) -> Update {
    let expr = Expr::Eq(LabelRef::new(Scope::Own, "app"), app.into());
    let subject = EntitySelector { kinds: EntityKinds::CALICO, expr };
    let mut policy =
        Policy::new(PolicyId::new("GlobalNetworkPolicy", None, name), "default", subject, directions);
    policy.placement = placement;
    if directions.ingress {
        policy.ingress.push(Rule::new(action));
    }
    if directions.egress {
        policy.egress.push(Rule::new(action));
    }
    Update::Policy(policy)
}

/// Two pods that allow everything, and the host endpoint `*` with one policy, where there is one.
fn snapshot(of_all: Option<(Placement, Directions, Action)>) -> Snapshot {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let mut pod = Endpoint::new(EndpointId::workload("shop", name));
        pod.labels = labels("pod");
        pod.addresses = vec![address.parse().unwrap()];
        compiler.apply(Update::Endpoint(pod)).unwrap();
    }
    compiler.apply(policy("pods", "pod", Placement::Normal, Directions::BOTH, Action::Allow)).unwrap();
    if let Some((placement, directions, action)) = of_all {
        let mut all = Endpoint::new(EndpointId::host("all"));
        all.labels = labels("all");
        all.interface = Some("*".into());
        compiler.apply(Update::Endpoint(all)).unwrap();
        compiler.apply(policy("all", "all", placement, directions, action)).unwrap();
    }
    let _ = compiler.commit();
    compiler.snapshot().clone()
}

const FORWARD_IN: (Placement, Directions) = (Placement::ApplyOnForward, Directions::INGRESS);
const FORWARD_OUT: (Placement, Directions) = (Placement::ApplyOnForward, Directions::EGRESS);
const BEFORE: (Placement, Directions) = (Placement::PreDnat, Directions::INGRESS);

fn with((placement, directions): (Placement, Directions), action: Action) -> Snapshot {
    snapshot(Some((placement, directions, action)))
}

fn between(source: &str, destination: &str) -> Packet {
    Packet::new(source.parse().unwrap(), destination.parse().unwrap(), Protocol::TCP)
        .from_port(40_000)
        .to_port(80)
}

#[test]
fn flows_from_before_the_endpoint_for_all_interfaces_are_cut() {
    let pod = |name, interface, address: &str| {
        let interface = Interface::new(name).unwrap().with_index(interface);
        (EndpointId::workload("shop", name), Binding::workload(interface, [address.parse().unwrap()]))
    };
    let all = (EndpointId::host("all"), Binding::AllInterfaces { interfaces: Vec::new() });
    let bindings = Bindings::from([pod("a", 4, "10.0.0.1"), pod("b", 5, "10.0.0.2"), all]);
    let options = Options::new();
    let packet = between("10.0.0.1", "10.0.0.2");
    let sent = Flow { interface: 4, began_local: true, packet, is_known: true };
    let received = Flow { interface: 5, began_local: false, ..sent.clone() };
    for (hook, at_sender) in [(FORWARD_IN, true), (FORWARD_OUT, false), (BEFORE, true)] {
        let (open, shut, none) = (with(hook, Action::Allow), with(hook, Action::Deny), snapshot(None));
        for old in [&open, &none] {
            let tightened = Tightened::new(&options, &bindings, old, &shut);
            assert_eq!(tightened.contains(&sent), at_sender, "{hook:?}");
            assert_eq!(tightened.contains(&received), !at_sender, "{hook:?}");
            let loosened = Tightened::new(&options, &bindings, old, &open);
            assert!(!loosened.contains(&sent) && !loosened.contains(&received), "{hook:?}");
        }
    }
}
