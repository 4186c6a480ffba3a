//! The eBPF program on the interfaces of pods.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use portcullis::backend::{
    Binding, Bindings, Dataplane as _, DataplaneError, DataplaneOptions, DesiredState, EventAction,
    Interface, LoggedEvents,
};
use portcullis::ebpf::{AttachMode, Capacity, Enforcer, NodeBackends, Options, Reason};
use portcullis::ir::{Delta, Snapshot};
use portcullis::model::EndpointId;
use portcullis::net::Cidr;
use portcullis::settings::WorkloadToHost;
use portcullis::verdict::Verdict;

use crate::foreign::leftovers;
use crate::node::{Pod, carries, connect, tcp, udp};
use crate::traffic::Traffic;
use crate::{PODS, SHUT, compiled, on_a_node, random_policies, yaobank};

/// Runs `test` on a node with a BPF file system of its own, which goes with it.
pub(crate) fn on_a_node_with_bpf(pods: usize, test: impl FnOnce(&[Pod], &Path) + Send + 'static) {
    on_a_node(pods, |pods| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let folder = std::env::temp_dir().join(format!("portcullis-bpf-{}", nix::unistd::gettid()));
        std::fs::create_dir_all(&folder).unwrap();
        mount(Some("bpf"), &folder, Some("bpf"), MsFlags::empty(), none).unwrap();
        test(pods, &folder.join("pins"));
        nix::mount::umount(&folder).unwrap();
        std::fs::remove_dir(&folder).unwrap();
    });
}

pub(crate) fn options() -> Options {
    let capacity = Capacity { addresses_v4: 1_024, addresses_v6: 1_024, ..Capacity::default() };
    Options::new().with_capacity(capacity)
}

/// Brings a snapshot in force, for every endpoint of `bindings`.
pub(crate) fn start_enforcer(
    options: Options,
    pins: &Path,
    snapshot: &Snapshot,
    bindings: &Bindings,
) -> Result<Enforcer, DataplaneError> {
    let mut enforcer = Enforcer::open(options.with_pins(pins))?;
    let applied = enforcer.load(DesiredState::new(snapshot, bindings))?;
    assert!(applied.is_complete(), "{applied:?}");
    Ok(enforcer)
}

pub(crate) fn update(enforcer: &mut Enforcer, snapshot: &Snapshot, delta: &Delta, bindings: &Bindings) {
    let applied = enforcer.update(DesiredState::new(snapshot, bindings), delta).unwrap();
    assert!(applied.is_complete(), "{applied:?}");
}

pub(crate) fn remove(mut enforcer: Enforcer) {
    enforcer.remove().unwrap();
}

/// The same with another action for what workloads send to the node.
pub(crate) fn with_to_host(options: Options, action: WorkloadToHost) -> Options {
    let shared = options.dataplane().clone().with_workload_to_host(action);
    options.with_dataplane(shared)
}

/// The same with more addresses that the node rewrites.
pub(crate) fn with_more_services(options: Options, services: impl IntoIterator<Item = Cidr>) -> Options {
    let shared = services.into_iter().fold(options.dataplane().clone(), DataplaneOptions::with_services);
    options.with_dataplane(shared)
}

/// The same, attached in one way.
pub(crate) fn attached(attachment: AttachMode) -> Options {
    options().with_attach_mode(attachment)
}

pub(crate) fn index(pod: &Pod) -> u32 {
    nix::net::if_::if_nametoindex(pod.interface.as_str()).unwrap()
}

pub(crate) fn interface(pod: &Pod) -> Interface {
    Interface::new(&pod.interface).unwrap().with_index(index(pod))
}

pub(crate) fn bind(pods: &[Pod], ids: &[EndpointId]) -> Bindings {
    let bind =
        |(pod, id): (&Pod, &EndpointId)| (id.clone(), Binding::workload(interface(pod), pod.addresses));
    pods.iter().zip(ids).map(bind).collect()
}

pub(crate) fn random_policies_hold(attachment: AttachMode) {
    on_a_node_with_bpf(4, move |pods, pins| {
        let mut last: Option<Enforcer> = None;
        random_policies(pods, |snapshot, ids| {
            // Without the flows of the last policies.
            last.take().into_iter().for_each(remove);
            last = Some(start_enforcer(attached(attachment), pins, snapshot, &bind(pods, ids)).unwrap());
        });
    });
}

pub(crate) fn the_steps_of_yaobank_hold(attachment: AttachMode) {
    on_a_node_with_bpf(3, move |pods, pins| {
        let mut last = None;
        yaobank(pods, |snapshot, ids| {
            last = Some(start_enforcer(attached(attachment), pins, snapshot, &bind(pods, ids)).unwrap());
        });
        drop(last);
    });
}

pub(crate) fn established_flows_survive_tighter_policy_and_restarts(attachment: AttachMode) {
    on_a_node_with_bpf(2, move |pods, pins| {
        let (open, ids) = compiled(PODS, pods);
        let (shut, _) = compiled(&format!("{PODS}{SHUT}"), pods);
        let bindings = bind(pods, &ids);
        let enforcer = start_enforcer(attached(attachment), pins, open.snapshot(), &bindings).unwrap();
        for to in pods[1].addresses {
            let client = &pods[0];
            let mut flow = client.run(move || connect(to, 80)).recv().unwrap();
            assert!(carries(&mut flow));
            let second = start_enforcer(attached(attachment), pins, shut.snapshot(), &bindings).unwrap();
            assert!(carries(&mut flow) && !client.run(move || tcp(to, 80)).recv().unwrap());
            drop(second);
            assert!(carries(&mut flow) && !client.run(move || udp(to, 80)).recv().unwrap());
            drop(start_enforcer(attached(attachment), pins, open.snapshot(), &bindings).unwrap());
            assert!(carries(&mut flow) && client.run(move || tcp(to, 80)).recv().unwrap());
        }
        remove(enforcer);
        assert!(!pins.exists());
        assert_eq!(leftovers(pods), Vec::<String>::new());
        let to = pods[1].addresses[0];
        assert!(pods[0].run(move || tcp(to, 80)).recv().unwrap());
    });
}

/// A transfer goes on and new connections are tried all the time, while the program is replaced over and over, attached in
/// the one way and the other in turn.
pub(crate) fn replacing_the_program_drops_no_flow_and_lets_nothing_through(attachments: [AttachMode; 2]) {
    on_a_node_with_bpf(2, move |pods, pins| {
        let (shut, ids) = compiled(&format!("{PODS}{ONLY_80}"), pods);
        let bindings = bind(pods, &ids);
        let start = |attachment| {
            let options = attached(attachment)
                .with_dataplane(DataplaneOptions::new().with_events(LoggedEvents::Denied));
            let enforcer = start_enforcer(options, pins, shut.snapshot(), &bindings).unwrap();
            assert_eq!(enforcer.attach_mode(), Some(attachment));
            enforcer
        };
        let mut enforcer = start(attachments[0]);
        let to = pods[1].addresses[0];
        let traffic = Traffic::start(&pods[0], to);
        // Each program tells what it dropped until the next took over, and a little of what came after.
        let mut denied = 0;
        let mut look = |enforcer: &mut Enforcer| {
            while let Some(event) = enforcer.next_event().unwrap() {
                assert_eq!(event.packet.destination_port, 8080, "{event:?}");
                denied += 1;
            }
            let reasons = enforcer.reasons().unwrap();
            for reason in [Reason::UnknownInterface, Reason::Malformed, Reason::Fragment] {
                assert_eq!(reasons[&reason], 0, "{reasons:?}");
            }
        };
        for attachment in attachments.into_iter().cycle().skip(1).take(20) {
            let next = start(attachment);
            look(&mut enforcer);
            enforcer = next;
        }
        let counts = traffic.finish();
        look(&mut enforcer);
        eprintln!("20 replacements, {attachments:?}: {counts:?}, {denied} events");
        assert!(counts.moved.is_some_and(|moved| moved > 100), "the transfer broke off");
        assert!(counts.allowed > 20 && counts.forbidden > 0 && counts.datagrams > 1_000 && denied > 0);
        assert_eq!(counts.wrong, 0);
        remove(enforcer);
        assert_eq!(leftovers(pods), Vec::<String>::new());
    });
}

pub(crate) const ONLY_80: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-80, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{ports: [{port: 80}]}]
";

#[test]
fn counters_events_and_reasons_say_what_happened() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (shut, ids) = compiled(&format!("{PODS}{SHUT}"), pods);
        let options = options().with_dataplane(DataplaneOptions::new().with_events(LoggedEvents::Denied));
        let mut enforcer = start_enforcer(options, pins, shut.snapshot(), &bind(pods, &ids)).unwrap();
        let (to, from) = (pods[1].addresses[0], pods[0].addresses[0]);
        assert!(!pods[0].run(move || udp(to, 80)).recv().unwrap());
        let event = enforcer.next_event().unwrap().unwrap();
        assert_eq!((event.action, event.interface), (EventAction::Dropped, Some(index(&pods[1]))));
        assert_eq!((event.packet.source, event.packet.destination_port), (from, 80));
        let decision = &event.decision;
        assert_eq!(decision.verdict, Verdict::Deny);
        assert_eq!(decision.cause.policy().unwrap().to_string(), "NetworkPolicy shop/shut");
        let counters = enforcer.counters().unwrap();
        let (_, counted) = counters.iter().find(|(counted, _)| counted == decision).unwrap();
        assert_eq!((counted.packets, counted.bytes), (1, 33));
        // An interface that nobody is bound to any more has no program; one whose endpoint is unknown lets nothing pass.
        let none = |reason| enforcer.reasons().unwrap()[&reason];
        assert_eq!(none(Reason::UnknownInterface), 0);
        // An address that is not the pod's own.
        let alias = "10.0.9.77";
        let inside = move || {
            let add =
                Command::new("ip").args(["addr", "add", &format!("{alias}/32"), "dev", "eth0"]).status();
            assert!(add.unwrap().success());
            let socket = std::net::UdpSocket::bind((alias, 0)).unwrap();
            socket.send_to(b"hello", (to, 80)).unwrap();
        };
        let before = none(Reason::Address);
        pods[0].run(inside).recv().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(none(Reason::Address) > before);
        remove(enforcer);
    });
}

/// As kube-proxy writes them: a service whose backend is rewritten to, and masquerading of what needs it.
const KUBE_PROXY: &str = "table ip kube {
    chain services {
        type nat hook prerouting priority -100
        ip daddr 10.96.0.10 tcp dport 8888 dnat to 10.0.9.11:80
        ip daddr 10.96.0.11 tcp dport 8888 dnat to 10.0.9.12:80
        ip daddr 10.96.0.12 tcp dport 8888 dnat to 10.0.9.10:80
    }
    chain after {
        type nat hook postrouting priority 100
        ct status dnat ip saddr 10.0.9.0/24 masquerade
    }
}
";

/// The client may reach the pod `server` and nobody else; the third pod lets in the client only.
pub(crate) const BACKENDS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
---
apiVersion: v1
kind: Pod
metadata: {name: vault, namespace: shop, labels: {app: vault}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: server}}}], ports: [{port: 80}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
";

/// Loads the services' rules.
pub(crate) fn kube_proxy() {
    let path = std::env::temp_dir().join(format!("portcullis-kube-{}", nix::unistd::gettid()));
    std::fs::write(&path, KUBE_PROXY).unwrap();
    let loaded = Command::new("nft").arg("-f").arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
}

#[test]
fn policy_names_backends_and_services_rewrite_to_them() {
    on_a_node_with_bpf(3, |pods, pins| {
        let (engine, ids) = compiled(BACKENDS, pods);
        kube_proxy();
        let bindings = bind(pods, &ids);
        let service = |last: u8| -> IpAddr { [10, 96, 0, last].into() };
        let try_it =
            |from: usize, to: IpAddr, port: u16| pods[from].run(move || tcp(to, port)).recv().unwrap();
        // The test of the test: without policy, all three services work, also from the pod behind one of them.
        for last in [10, 11, 12] {
            assert!(try_it(0, service(last), 8888), "{last}");
        }
        let shared = DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
        let services = options().with_dataplane(shared);
        let options = services.with_node_backends(NodeBackends::Unguarded);
        let enforcer = start_enforcer(options, pins, engine.snapshot(), &bindings).unwrap();
        let [client, server, vault] = [0, 1, 2];
        let direct = |pod: usize| pods[pod].addresses[0];
        for (what, from, to, port, allowed) in [
            ("the backend that policy names", client, service(10), 8888, true),
            ("another backend", client, service(11), 8888, false),
            ("itself, through a service", client, service(12), 8888, true),
            ("the server, directly", client, direct(server), 80, true),
            ("the server, another port", client, direct(server), 8080, false),
            ("the vault, directly", client, direct(vault), 80, false),
            // The server sees the vault, not the node, though the packet has the node's address by then.
            ("a source that policy does not name, masqueraded", vault, service(10), 8888, false),
            ("a pod without policy", server, service(11), 8888, true),
        ] {
            assert_eq!(try_it(from, to, port), allowed, "{what}");
        }
        remove(enforcer);
    });
}
