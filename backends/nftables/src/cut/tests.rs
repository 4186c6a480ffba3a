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

use super::Asked;
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

fn bindings() -> Bindings {
    let pod = |name: &str, address: &str| {
        let interface = Interface::new(&format!("pod-{name}")).unwrap();
        (EndpointId::workload("shop", name), Binding::workload(interface, [address.parse().unwrap()]))
    };
    let all = (EndpointId::host("all"), Binding::AllInterfaces { interfaces: Vec::new() });
    Bindings::from([pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), all])
}

fn is_cut(old: &Snapshot, new: &Snapshot, bindings: &Bindings, source: &str, destination: &str) -> bool {
    let options = Options::new();
    let packet = between(source, destination);
    let allows = |snapshot| Asked::new(&options, bindings, snapshot).allows(&packet, &packet);
    allows(old) && !allows(new)
}

#[test]
fn what_the_endpoint_for_all_interfaces_denies_now_is_cut() {
    let all = bindings();
    for hook in [FORWARD_IN, FORWARD_OUT, BEFORE] {
        let (open, shut, none) = (with(hook, Action::Allow), with(hook, Action::Deny), snapshot(None));
        for old in [&open, &none] {
            for (source, destination) in
                [("10.0.0.1", "10.0.0.2"), ("10.0.0.1", "192.0.2.1"), ("192.0.2.1", "10.0.0.2")]
            {
                assert!(is_cut(old, &shut, &all, source, destination), "{hook:?} {source} {destination}");
                assert!(!is_cut(old, &open, &all, source, destination), "{hook:?} {source} {destination}");
            }
            // The host reaches its pods, a pod reaches itself, and flows of no pod are not asked about.
            assert!(!is_cut(old, &shut, &all, "127.0.0.1", "10.0.0.2"), "{hook:?}");
            assert!(!is_cut(old, &shut, &all, "192.0.2.1", "192.0.2.2"), "{hook:?}");
            assert_eq!(is_cut(old, &shut, &all, "10.0.0.1", "10.0.0.1"), hook == BEFORE, "{hook:?}");
            assert_eq!(is_cut(old, &shut, &all, "10.0.0.1", "127.0.0.1"), hook == BEFORE, "{hook:?}");
        }
    }
}

#[test]
fn another_host_endpoint_may_be_the_one_of_the_uplink() {
    let mut both = bindings();
    both.bind(EndpointId::host("up"), Binding::Host { interfaces: vec![Interface::new("up").unwrap()] });
    for (hook, leaves, enters) in
        [(FORWARD_IN, true, false), (FORWARD_OUT, false, true), (BEFORE, true, false)]
    {
        let (none, shut) = (snapshot(None), with(hook, Action::Deny));
        assert_eq!(is_cut(&none, &shut, &both, "10.0.0.1", "192.0.2.1"), leaves, "{hook:?}");
        assert_eq!(is_cut(&none, &shut, &both, "192.0.2.1", "10.0.0.2"), enters, "{hook:?}");
    }
}
