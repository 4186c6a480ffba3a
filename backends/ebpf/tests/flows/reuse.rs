//! An address that another workload gets: what its former owner was allowed to send to the node.

use portcullis_core::backend::{Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::*;
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::settings::{Settings, WorkloadToHost};
use portcullis_ebpf::oracle::Sandbox;
use portcullis_ebpf::{Lowering, Options};

use crate::model::{V, W};
use crate::{udp, with_node};

fn labels(app: &str) -> Labels {
    let mut labels = Labels::new();
    labels.insert("app", app);
    labels
}

fn policy(app: &str, action: Action) -> Update {
    let expr = Expr::Eq(LabelRef::new(Scope::Own, "app"), app.into());
    let subject = EntitySelector { kinds: EntityKinds::CALICO, expr };
    let mut policy =
        Policy::new(PolicyId::new("GlobalNetworkPolicy", None, app), "default", subject, Directions::BOTH);
    policy.ingress.push(Rule::new(action));
    policy.egress.push(Rule::new(action));
    Update::Policy(policy)
}

#[test]
fn who_gets_an_address_inherits_no_flow_to_the_node() {
    // A namespace that forwards nothing: the node is the destination of every packet.
    with_node(|_| {
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        for name in ["w", "v"] {
            let mut pod = Endpoint::new(EndpointId::workload("a", name));
            pod.labels = labels("pod");
            compiler.apply(Update::Endpoint(pod)).unwrap();
        }
        let mut all = Endpoint::new(EndpointId::host("all"));
        all.labels = labels("all");
        all.interface = Some("*".into());
        compiler.apply(Update::Endpoint(all)).unwrap();
        compiler.apply(policy("pod", Action::Allow)).unwrap();
        compiler.apply(policy("all", Action::Allow)).unwrap();
        let _ = compiler.commit();
        let pod = |(name, index)| {
            let interface = Interface::new(name).unwrap().with_index(index);
            (EndpointId::workload("a", name), Binding::WorkloadAnyAddress { interface })
        };
        let mut bindings = Bindings::from([("w", W), ("v", V)].map(pod));
        bindings.bind(EndpointId::host("all"), Binding::AllInterfaces { interfaces: Vec::new() });
        let options =
            Options::from(DataplaneOptions::new().with_workload_to_host(WorkloadToHost::HostPolicy));
        let (mut lowering, update) =
            Lowering::load(options, DesiredState::new(compiler.snapshot(), &bindings), &()).unwrap();
        let mut sandbox = Sandbox::tracking(&lowering, &update).unwrap();
        let (known, fresh) = (udp("10.0.0.9", "10.9.9.9", 5_000, 53), udp("10.0.0.9", "10.9.9.9", 5_001, 53));
        assert!(sandbox.from_workload(W, &known.bytes()).unwrap());

        compiler.apply(policy("all", Action::Deny)).unwrap();
        let delta = compiler.commit();
        let update = lowering.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap();
        sandbox.carry_out(&update).unwrap();
        // The flow goes on (decision D16), for the workload that it is of.
        assert!(!sandbox.from_workload(W, &fresh.bytes()).unwrap());
        assert!(!sandbox.from_workload(V, &known.bytes()).unwrap());
        assert!(sandbox.from_workload(W, &known.bytes()).unwrap());
    });
}
