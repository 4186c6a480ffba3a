//! Packets that are decided on one CPU while another writes what they look up, over and over. As root only.

use core::sync::atomic::{AtomicBool, Ordering};

use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface, Lower as _};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, NetworkSet,
    NetworkSetId, Policy, PolicyId, Rule, Update,
};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_core::wire::craft;
use portcullis_testkit::kernel_can_be_asked;

use crate::layout::hook_index;
use crate::load::object;
use crate::lower::Lowering;
use crate::options::{Capacity, Options};
use crate::oracle::{OTHER_INTERFACE, Sandbox, context, frame};
use crate::write::Write;

fn labels(app: &str) -> Labels {
    let mut labels = Labels::new();
    labels.insert("app", app);
    labels
}

fn select(app: &str) -> EntitySelector {
    EntitySelector {
        kinds: EntityKinds::CALICO,
        expr: Expr::Eq(LabelRef::new(Scope::Own, "app"), app.into()),
    }
}

/// Two workloads: nobody of `shut` may reach the first, all may reach the second. A pod of `shut` is in a network whose
/// others may reach both.
fn compiler() -> Compiler {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    let pods = [
        ("guarded", None, "guarded"),
        ("open", None, "open"),
        ("peer", Some("10.0.0.5"), "shut"),
        ("another", Some("10.0.0.6"), "shut"),
    ];
    for (name, address, app) in pods {
        let mut pod = Endpoint::new(EndpointId::workload("race", name));
        pod.addresses = address.into_iter().map(|address: &str| address.parse().unwrap()).collect();
        pod.labels = labels(app);
        compiler.apply(Update::Endpoint(pod)).unwrap();
    }
    let around = NetworkSet {
        id: NetworkSetId { namespace: None, name: "around".into() },
        labels: labels("let-in"),
        nets: vec!["10.0.0.0/8".parse().unwrap()],
    };
    compiler.apply(Update::NetworkSet(around)).unwrap();
    let mut policy = |name: &str, rules: &[(Action, Option<&str>)]| {
        let id = PolicyId::new("GlobalNetworkPolicy", None, name);
        let mut policy = Policy::new(id, "default", select(name), Directions::INGRESS);
        for (action, peer) in rules {
            let mut rule = Rule::new(*action);
            rule.peers = peer.iter().map(|peer| EntityMatch::select(select(peer))).collect();
            policy.ingress.push(rule);
        }
        compiler.apply(Update::Policy(policy)).unwrap();
    };
    policy("guarded", &[(Action::Deny, Some("shut")), (Action::Allow, Some("let-in"))]);
    policy("open", &[(Action::Allow, None)]);
    let _ = compiler.commit();
    compiler
}

/// Packets that were denied, as they all should be, while the writes that `again` chooses were made over and over. Maps are
/// as small as can be, so that entries meet in one bucket.
fn denied(again: impl Fn(&Write) -> bool + Sync, runs: u32) -> (u64, u64) {
    let compiler = compiler();
    let bind = |(name, index)| {
        let interface = Interface::new(name).unwrap().with_index(index);
        (EndpointId::workload("race", name), Binding::WorkloadAnyAddress { interface })
    };
    let bindings = Bindings::from([("guarded", 1), ("open", 2)].map(bind));
    let capacity = Capacity { endpoints: 2, addresses_v4: 2, ..Capacity::default() };
    let options = Options::new().with_capacity(capacity);
    let (lowering, update) =
        Lowering::load(options, DesiredState::new(compiler.snapshot(), &bindings), &()).unwrap();
    let mut sandbox = Sandbox::of(&lowering, &update).unwrap();
    let packet = Packet::new("10.0.0.5".parse().unwrap(), "172.16.0.9".parse().unwrap(), Protocol::TCP);
    let frame = frame(&craft(&packet.to_port(80)).unwrap());
    let hook = u32::try_from(hook_index(Hook::WorkloadIngress)).unwrap();
    let context = context(OTHER_INTERFACE, [hook, 1]);
    let done = AtomicBool::new(false);
    let mut rewrites = 0;
    let Sandbox { ebpf, maps, .. } = &mut sandbox;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let run = aya::programs::TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: runs,
                ..Default::default()
            };
            aya::programs::TestRun::test_run(object::program(ebpf, "probe").unwrap(), run).unwrap();
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            for write in update.writes().iter().filter(|write| again(write)) {
                maps.write(write).unwrap();
                rewrites += 1;
            }
        }
    });
    let ruled = lowering
        .decisions()
        .filter(|(_, decision)| decision.verdict == Verdict::Deny && decision.cause.policy().is_some());
    let denied = ruled.map(|(number, _)| sandbox.counter(number).unwrap().packets).sum();
    (denied, rewrites)
}

#[test]
fn what_is_there_is_never_missed_while_it_is_written() {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let runs = std::env::var("PORTCULLIS_PACKETS").map_or(2_000_000, |value| value.parse().unwrap());
    let (addresses, rewrites) = denied(|write| matches!(write, Write::Address(..)), runs);
    let (endpoints, more) = denied(|write| matches!(write, Write::Endpoint(..)), runs);
    println!("{runs} packets during {rewrites} writes of addresses, and {runs} during {more} of endpoints");
    assert!(rewrites > 0 && more > 0);
    assert_eq!((addresses, endpoints), (runs.into(), runs.into()));
}
