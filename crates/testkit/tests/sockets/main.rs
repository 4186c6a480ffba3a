//! The kernel backends under real sockets: TCP and UDP between pods of a node.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod contract;
mod contract_recording;
mod ebpf;
mod ebpf_attachments;
mod ebpf_cut;
mod ebpf_flows;
mod ebpf_guards;
mod ebpf_host;
mod ebpf_kill;
mod ebpf_node;
mod ebpf_services;
mod foreign;
mod host_judge;
mod host_scenarios;
mod nft_host;
mod node;
mod traffic;
mod wide;

use std::collections::BTreeMap;

use portcullis::backend::{
    Binding, Bindings, Dataplane as _, DataplaneOptions, DesiredState, Event, EventAction, Interface,
    LoggedEvents, NewlyDenied, NodeInterfaces,
};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::{Previous, Snapshot};
use portcullis::label::Labels;
use portcullis::model::{
    Action, Cluster, Endpoint, EndpointId, EndpointKind, Profile, ProfileOrigin, Rule, Update,
};
use portcullis::nftables::{Enforcer, Options};
use portcullis::packet::{Packet, Protocol};
use portcullis::path::{End, Topology};
use portcullis::reference::Reference;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;
use portcullis::verdict::{Cause, Verdict};
use portcullis_testkit::generate::Generator;
use portcullis_testkit::kernel_can_be_asked;

use node::{PORTS, Pod, carries, connect, node, tcp, udp};

/// Runs `test` in a thread that becomes the node.
fn on_a_node(pods: usize, test: impl FnOnce(&[Pod]) + Send + 'static) {
    if !kernel_can_be_asked() {
        eprintln!("SKIPPED: real sockets need root, `nft` and `ip`");
        return;
    }
    let run = move || test(&node(pods));
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

fn bind(pods: &[Pod], ids: &[EndpointId]) -> Bindings {
    let bind = |(pod, id): (&Pod, &EndpointId)| {
        (id.clone(), Binding::workload(Interface::new(&pod.interface).unwrap(), pod.addresses))
    };
    pods.iter().zip(ids).map(bind).collect()
}

fn load(enforcer: &mut Enforcer, snapshot: &Snapshot, bindings: &Bindings) {
    let applied = enforcer.load(DesiredState::new(snapshot, bindings)).unwrap();
    assert!(applied.is_complete());
}

fn options() -> Options {
    options_with(DataplaneOptions::new())
}

fn options_with(shared: DataplaneOptions) -> Options {
    Options::from(shared)
        .with_workload_interfaces(Interface::new("cali").unwrap())
        .with_local_net("10.0.9.0/24".parse().unwrap())
}

/// Gives the endpoint the addresses of the pod.
fn place(mut endpoint: Endpoint, pod: &Pod) -> Endpoint {
    endpoint.addresses = pod.addresses.to_vec();
    endpoint.node = Some("node".into());
    endpoint
}

/// A connection that is tried: the number of the pod it starts from, its first packet, and whether the reference allows
/// it.
type Probe = (usize, Packet, bool);

/// Every pair of pods, every port, TCP and UDP, both families.
fn probes(pods: &[Pod], ids: &[EndpointId], cluster: &Cluster) -> Vec<Probe> {
    let settings = Settings::default();
    let (reference, topology) = (Reference::new(cluster, &settings), Topology::new(cluster, &settings));
    let mut probes = Vec::new();
    for (number, (from, from_id)) in pods.iter().zip(ids).enumerate() {
        for (to, to_id) in pods.iter().zip(ids).filter(|(_, id)| *id != from_id) {
            for (source, destination) in from.addresses.into_iter().zip(to.addresses) {
                for (port, protocol) in
                    PORTS.into_iter().flat_map(|p| [(p, Protocol::TCP), (p, Protocol::UDP)])
                {
                    let packet = Packet::new(source, destination, protocol).to_port(port).from_port(40_000);
                    let ends = [from_id, to_id].map(|id| End::Endpoint(id.clone()));
                    let answer = topology.decide(&reference, &ends[0], &ends[1], &packet);
                    probes.push((number, packet, answer.verdict == Verdict::Allow));
                }
            }
        }
    }
    probes
}

/// Whether packets come through exactly where the reference says. Returns the number of connections and of those that
/// came about.
fn compare(pods: &[Pod], probes: Vec<Probe>, what: &str) -> (usize, usize) {
    let begin = |(from, packet, allowed): Probe| {
        let (to, port, protocol) = (packet.destination, packet.destination_port, packet.protocol);
        let probe = move || if protocol == Protocol::TCP { tcp(to, port) } else { udp(to, port) };
        (pods[from].beside(probe), packet, allowed)
    };
    let waiting: Vec<_> = probes.into_iter().map(begin).collect();
    let count = waiting.len();
    let mut through = 0;
    for (came, packet, allowed) in waiting {
        let came = came.recv().unwrap();
        assert_eq!(came, allowed, "{what}: {packet:?}");
        through += usize::from(came);
    }
    (count, through)
}

#[test]
fn random_policies_hold_for_tcp_and_udp() {
    on_a_node(4, |pods| {
        let mut enforcer = Enforcer::open(options()).unwrap();
        random_policies(pods, |snapshot, ids| load(&mut enforcer, snapshot, &bind(pods, ids)));
    });
}

/// Random policies, each put in force by `enforce`.
fn random_policies(pods: &[Pod], mut enforce: impl FnMut(&Snapshot, &[EndpointId])) {
    let rounds = std::env::var("PORTCULLIS_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap());
    let (mut connections, mut through) = (0, 0);
    let (mut seed, mut sets) = (0, 0);
    while sets < rounds {
        seed += 1;
        let mut generator = Generator::new(seed);
        let mut endpoints: BTreeMap<EndpointId, Endpoint> = BTreeMap::new();
        let (mut cluster, mut policies) = (Cluster::new(), 0);
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut apply = |update: Update| {
            cluster.apply(update.clone());
            compiler.apply(update).unwrap();
        };
        let wanted = 1 + generator.below(3);
        while endpoints.len() < pods.len() || policies < wanted {
            match generator.object() {
                Update::Endpoint(endpoint) if endpoint.id.kind == EndpointKind::Workload => {
                    if endpoints.len() < pods.len() {
                        endpoints.insert(endpoint.id.clone(), endpoint);
                    }
                }
                Update::Endpoint(_) => {}
                Update::Policy(policy) if policies < wanted => {
                    policies += 1;
                    apply(Update::Policy(policy));
                }
                Update::Policy(_) => {}
                other => apply(other),
            }
        }
        let ids: Vec<EndpointId> = endpoints.keys().cloned().collect();
        // Most generated profiles deny everything, which would leave little for policy to decide.
        let rules = vec![Rule::new(Action::Allow)];
        apply(Update::Profile(Profile {
            name: "all".into(),
            ingress: rules.clone(),
            egress: rules,
            labels: Labels::new(),
            origin: ProfileOrigin::Declared,
        }));
        for (mut endpoint, pod) in endpoints.into_values().zip(pods) {
            endpoint.profiles = vec!["all".into()];
            apply(Update::Endpoint(place(endpoint, pod)));
        }
        let probes = probes(pods, &ids, &cluster);
        // Policies that allow or deny everything show little.
        if probes.iter().all(|(_, _, allowed)| *allowed) || !probes.iter().any(|(_, _, allowed)| *allowed) {
            continue;
        }
        sets += 1;
        compiler.commit();
        enforce(compiler.snapshot(), &ids);
        let (count, came) = compare(pods, probes, &format!("seed {seed}"));
        connections += count;
        through += came;
    }
    eprintln!(
        "{sets} policy sets of {seed}, {connections} connections between pods, {through} came through: as the reference says"
    );
}

fn example(step: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/yaobank");
    let mut text = String::new();
    for folder in [folder.join("base"), folder.join(step)] {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")) {
            text.push_str(&std::fs::read_to_string(file).unwrap());
            text.push_str("\n---\n");
        }
    }
    text
}

#[test]
fn the_steps_of_yaobank_hold() {
    on_a_node(3, |pods| {
        let mut enforcer = Enforcer::open(options()).unwrap();
        yaobank(pods, |snapshot, ids| load(&mut enforcer, snapshot, &bind(pods, ids)));
    });
}

/// The steps of the example, each put in force by `enforce`.
fn yaobank(pods: &[Pod], mut enforce: impl FnMut(&Snapshot, &[EndpointId])) {
    for step in ["1-attack", "2-database-policy", "3-default-deny", "4-tiers"] {
        let scenario = Scenario::parse(step, &example(step), LoadOptions::new()).unwrap();
        let mut cluster = scenario.cluster().clone();
        let all = cluster.endpoints().values().filter(|e| e.id.kind == EndpointKind::Workload);
        let chosen: Vec<Endpoint> =
            all.filter(|e| e.id.namespace.as_deref() == Some("yaobank")).take(pods.len()).cloned().collect();
        assert_eq!(chosen.len(), pods.len());
        let ids: Vec<EndpointId> = chosen.iter().map(|endpoint| endpoint.id.clone()).collect();
        for (endpoint, pod) in chosen.into_iter().zip(pods) {
            cluster.apply(Update::Endpoint(place(endpoint, pod)));
        }
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        for update in cluster.updates() {
            compiler.apply(update).unwrap();
        }
        compiler.commit();
        enforce(compiler.snapshot(), &ids);
        let (count, through) = compare(pods, probes(pods, &ids, &cluster), step);
        eprintln!("{step}: {count} connections, {through} came through: as the reference says");
    }
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
";

const SHUT: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: shop}
spec: {podSelector: {matchLabels: {app: server}}}
";

/// Loads `text` for two pods, client and server.
fn snapshot(text: &str, pods: &[Pod]) -> (Compiler, Bindings) {
    let (compiler, ids) = compiled(text, pods);
    (compiler, bind(pods, &ids))
}

/// Compiles `text`, whose first endpoints are the pods.
fn compiled(text: &str, pods: &[Pod]) -> (Compiler, Vec<EndpointId>) {
    let scenario = Scenario::parse("test", text, LoadOptions::new()).unwrap();
    let mut cluster = scenario.cluster().clone();
    let ids: Vec<EndpointId> = cluster.endpoints().keys().cloned().collect();
    for (id, pod) in ids.iter().zip(pods) {
        let endpoint = cluster.endpoints()[id].clone();
        cluster.apply(Update::Endpoint(place(endpoint, pod)));
    }
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for update in cluster.updates() {
        compiler.apply(update).unwrap();
    }
    compiler.commit();
    (compiler, ids)
}

#[test]
fn established_flows_survive_until_they_are_cut() {
    on_a_node(2, |pods| {
        let (open, bindings) = snapshot(PODS, pods);
        let (shut, _) = snapshot(&format!("{PODS}{SHUT}"), pods);
        let mut enforcer = Enforcer::open(options()).unwrap();
        load(&mut enforcer, open.snapshot(), &bindings);
        let to = pods[1].addresses[0];
        let client = &pods[0];
        let mut flow = client.run(move || connect(to, 80)).recv().unwrap();
        assert!(carries(&mut flow));
        // Policy tightens: what was established goes on, also over a restart; what is new does not come about.
        load(&mut enforcer, shut.snapshot(), &bindings);
        assert!(carries(&mut flow) && !client.run(move || tcp(to, 80)).recv().unwrap());
        drop(enforcer);
        assert!(carries(&mut flow) && !client.run(move || tcp(to, 80)).recv().unwrap());
        let mut enforcer = Enforcer::open(options()).unwrap();
        load(&mut enforcer, shut.snapshot(), &bindings);
        assert!(carries(&mut flow));
        // Only the flow that was allowed and is not any more is cut.
        let answer = pods[1].addresses[1];
        let back = pods[0].addresses[0];
        let mut other = pods[1].run(move || connect(back, 8080)).recv().unwrap();
        let (options, node) = (DataplaneOptions::new(), NodeInterfaces::new());
        let desired = DesiredState::new(shut.snapshot(), &bindings);
        let denied = NewlyDenied::new(Previous::from(open.snapshot()), desired, &options, &node);
        assert_eq!(enforcer.terminate(&|flow| denied.contains(flow)).unwrap(), 1);
        assert!(!carries(&mut flow) && carries(&mut other), "{answer}");
        enforcer.remove().unwrap();
        assert!(client.run(move || tcp(to, 80)).recv().unwrap());
    });
}

#[test]
fn counters_and_events_name_policy_and_rule() {
    on_a_node(2, |pods| {
        let (shut, bindings) = snapshot(&format!("{PODS}{SHUT}"), pods);
        let options = options_with(DataplaneOptions::new().with_events(LoggedEvents::Denied));
        let mut enforcer = Enforcer::open(options).unwrap();
        load(&mut enforcer, shut.snapshot(), &bindings);
        let (to, from) = (pods[1].addresses[0], pods[0].addresses[0]);
        assert!(!pods[0].run(move || udp(to, 80)).recv().unwrap());
        let event = next_event(&mut enforcer);
        assert_eq!((event.decision.verdict, event.action), (Verdict::Deny, EventAction::Dropped));
        assert_eq!(event.decision.cause.policy().unwrap().to_string(), "NetworkPolicy shop/shut");
        let packet = Packet::new(from, to, Protocol::UDP).from_port(event.packet.source_port).to_port(80);
        assert_eq!((event.packet, enforcer.next_event().unwrap(), enforcer.lost_events()), (packet, None, 0));
        let counters = enforcer.counters().unwrap();
        let (_, counted) = counters.iter().find(|(decision, _)| *decision == event.decision).unwrap();
        assert_eq!((counted.packets, counted.bytes), (1, 33));
        // A pod that nobody bound is cut off, and so is an address that is not the pod's.
        load(&mut enforcer, shut.snapshot(), &Bindings::new());
        assert!(!pods[1].run(move || udp(from, 80)).recv().unwrap());
        let event = next_event(&mut enforcer);
        assert_eq!((event.decision.verdict, &event.decision.cause), (Verdict::Deny, &Cause::NoPolicy));
        // What the policy that is gone counted is told once more.
        let told = |enforcer: &mut Enforcer| {
            let counters = enforcer.counters().unwrap();
            let of_shut = counters.iter().filter(|(decision, _)| decision.cause.policy().is_some());
            of_shut.map(|(_, counter)| counter.packets).sum::<u64>()
        };
        assert_eq!((told(&mut enforcer), told(&mut enforcer)), (1, 0));
    });
}

/// Waits for the next event.
fn next_event(enforcer: &mut Enforcer) -> Event {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    loop {
        if let Some(event) = enforcer.next_event().unwrap() {
            return event;
        }
        assert!(std::time::Instant::now() < end, "no event came");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The first pod stands for a host outside, behind an interface with a host endpoint.
const EDGE: &str = "
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
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        for update in cluster.updates() {
            compiler.apply(update).unwrap();
        }
        compiler.commit();
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
