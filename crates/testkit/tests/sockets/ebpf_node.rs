//! Workloads and the node itself: services that lead to processes of the node, and what workloads may send to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis::backend::Binding;
use portcullis::ebpf::{NodeBackends, Reason};
use portcullis::model::EndpointId;
use portcullis::settings::WorkloadToHost;

use crate::compiled;
use crate::ebpf::{interface, options, remove, start_enforcer, with_to_host};
use crate::ebpf_services::{
    ADMIN, API, CLIENT, Flows, Masquerade, PODS, REMOTE, RULES, SERVER, VAULT, bound, kube_proxy, on_a_site,
    service, with_services,
};
use crate::node::{Pod, ip, tcp, udp};
use crate::wide::{NODE, Site, Tries, answers, datagrams, nft};

fn node() -> [IpAddr; 2] {
    NODE.map(|text| text.parse().unwrap())
}

/// What the client and the vault, which has no policy, reach of the node through services.
fn through_services(site: &Site, admin: bool) -> Tries<'_> {
    let mut tries = Tries::default();
    let [client, vault] = [&site.pods[0], &site.pods[2]];
    tries.add("client", client, service(API), 8888, true);
    tries.add("client", client, service(ADMIN), 8888, admin);
    tries.add("vault", vault, service(ADMIN), 8888, true);
    tries
}

#[test]
fn what_guards_sockets_is_replaced_and_removed() {
    on_a_site(3, |site, pins| {
        let compiler = compiled(&format!("{PODS}{RULES}"), &site.pods);
        nft(&kube_proxy(Masquerade::All));
        let bindings = bound(site, &compiler);
        let start = |options| start_enforcer(options, pins, compiler.0.snapshot(), &bindings);
        let pinned = || {
            let names = std::fs::read_dir(pins).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("to_node")).count()
        };
        // Without the guard there is nobody to ask: the test of the test.
        let unguarded = with_services(site).with_node_backends(NodeBackends::Unguarded);
        drop(start(unguarded.clone()).unwrap());
        through_services(site, true).check("unguarded");
        assert_eq!(pinned(), 0);
        drop(start(with_services(site)).unwrap());
        through_services(site, false).check("guarded, by a process that ended");
        assert_eq!(pinned(), 1);
        // Its place is never empty, while one process after the other takes over.
        let (stop, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut flows: Vec<Flows> =
            service(API).into_iter().map(|to| Flows::begin(&site.pods[0], to, 8888)).collect();
        let tried: Vec<_> = service(ADMIN)
            .into_iter()
            .flat_map(|to| [(to, tcp as fn(IpAddr, u16) -> bool), (to, udp)])
            .map(|(to, probe)| {
                let (stop, wrong) = (Arc::clone(&stop), Arc::clone(&wrong));
                site.pods[0].beside(move || {
                    let mut tried = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        wrong.fetch_add(u64::from(probe(to, 8888)), Ordering::Relaxed);
                        tried += 1;
                    }
                    tried
                })
            })
            .collect();
        for _ in 0..20 {
            drop(start(with_services(site)).unwrap());
            assert_eq!(pinned(), 1);
            flows.iter_mut().for_each(|flow| flow.go_on("while the guard is replaced"));
        }
        stop.store(true, Ordering::Relaxed);
        let tried: u64 = tried.into_iter().map(|tried| tried.recv().unwrap()).sum();
        let wrong = wrong.load(Ordering::Relaxed);
        eprintln!(
            "20 replacements: {tried} forbidden connections through a service to the node, {wrong} came about"
        );
        assert!(tried > 20 && wrong == 0);
        // Options that need no guard take it away again, and so does the end.
        drop(start(unguarded).unwrap());
        assert_eq!(pinned(), 0);
        through_services(site, true).check("unguarded again");
        let enforcer = start(with_services(site)).unwrap();
        remove(enforcer);
        assert!(!pins.exists());
        through_services(site, true).check("without the program");
    });
}

#[test]
fn the_guard_is_at_the_root_of_all_control_groups_unless_told_otherwise() {
    on_a_site(3, |site, pins| {
        let compiler = compiled(&format!("{PODS}{RULES}"), &site.pods);
        nft(&kube_proxy(Masquerade::All));
        let bindings = bound(site, &compiler);
        let start = |backends| {
            // Bits that no other test uses, because packets of other tests' nodes pass the root as well.
            let capacity = portcullis::ebpf::Capacity { classes: 1_024, ..*options().capacity() };
            let options = with_services(site).with_mark(0x3ffc).with_capacity(capacity);
            start_enforcer(options.with_node_backends(backends), pins, compiler.0.snapshot(), &bindings)
        };
        let enforcer = start(NodeBackends::Guarded).unwrap();
        through_services(site, false).check("guarded at the root");
        remove(enforcer);
        let failed = |backends| start(backends).map(drop).unwrap_err().to_string();
        let elsewhere = failed(NodeBackends::GuardedAt("/proc".into()));
        assert_eq!(elsewhere, "`/proc` is not in a cgroup2 hierarchy");
        // This thread has a table of mounts for itself.
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let folders = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let folders: Vec<_> = folders.filter_map(|line| line.split(' ').nth(1)).collect();
        folders.iter().for_each(|folder| nix::mount::umount(*folder).unwrap());
        let none = failed(NodeBackends::Guarded);
        assert!(none.starts_with("no cgroup2 hierarchy is mounted, so services"), "{none}");
        nix::mount::mount(
            Some("groups"),
            folders[folders.len() - 1],
            Some("cgroup2"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
    });
}

/// The host endpoint that guards the node: port 80 is open to the client and to the second node, port 22 to all, because it
/// is a failsafe port.
const GUARD: &str = "
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge, labels: {host: here}}
spec: {node: node, interfaceName: '*', expectedIPs: [172.16.9.1, 'fd00:16::1']}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: node}
spec:
  selector: host == 'here'
  types: [Ingress, Egress]
  ingress:
    - {action: Allow, protocol: TCP, source: {selector: app == 'client'}, destination: {ports: [80]}}
    - {action: Allow, protocol: UDP, source: {selector: app == 'client'}, destination: {ports: [80]}}
    - {action: Allow, source: {nets: [172.16.9.2/32]}}
    - {action: Allow, source: {nets: ['fd00:16::2/128']}}
  egress: [{action: Allow}]
";

/// Everything that has to do with workloads and the node; `client`, `vault` and `failsafe` say whether they reach it.
fn to_the_node(site: &Site, services: bool, [client, vault, failsafe]: [bool; 3]) -> Tries<'_> {
    let mut tries = Tries::default();
    let pods = [&site.pods[0], &site.pods[1], &site.pods[2]];
    for (what, pod, allowed) in
        [("client", pods[0], client), ("server", pods[1], false), ("vault", pods[2], vault)]
    {
        tries.add(what, pod, node(), 80, allowed);
        if services {
            tries.add(what, pod, service(API), 8888, allowed);
        }
    }
    tries.add("client", pods[0], node(), 8080, false);
    tries.add("client", pods[0], service(ADMIN), 8888, false);
    if services {
        tries.add("vault", pods[2], service(ADMIN), 8888, vault);
    }
    tries.add_tcp("vault", pods[2], node(), 22, failsafe);
    // The rest is as it was, answers to the node included.
    for to in [CLIENT, SERVER, REMOTE] {
        if services {
            tries.add("client", pods[0], service(to), 8888, true);
        }
        tries.add_here("node", service(to), 8888, true);
    }
    tries.add_here("node", service(VAULT), 8888, true);
    tries.add("second", &site.second, node(), 80, true);
    tries
}

#[test]
fn what_workloads_send_to_their_node_is_accepted_dropped_or_up_to_host_policy() {
    on_a_site(3, |site, pins| {
        crate::wide::serve_more(&[22]);
        let compiler = compiled(&format!("{PODS}{RULES}{GUARD}"), &site.pods);
        nft(&kube_proxy(Masquerade::All));
        let mut bindings = bound(site, &compiler);
        let uplink = interface(&site.second);
        assert!(bindings.remove_uplink(&uplink));
        let interfaces = vec![uplink];
        bindings.bind(EndpointId::host("edge"), Binding::AllInterfaces { interfaces });
        let actions = [
            (WorkloadToHost::Accept, [true, true, true]),
            (WorkloadToHost::Drop, [false, false, false]),
            (WorkloadToHost::HostPolicy, [true, false, true]),
        ];
        for ((action, reach), services) in actions.into_iter().flat_map(|one| [(one, true), (one, false)]) {
            let options = if services { with_services(site) } else { options() };
            let options = with_to_host(options, action);
            let enforcer = start_enforcer(options, pins, compiler.0.snapshot(), &bindings).unwrap();
            // Neighbours have to be found anew.
            for pod in &site.pods {
                pod.run(|| ip("-4 neigh flush dev eth0\n-6 neigh flush dev eth0\n")).recv().unwrap();
            }
            for Pod { interface, .. } in &site.pods {
                ip(&format!("-4 neigh flush dev {interface}\n-6 neigh flush dev {interface}\n"));
            }
            let (all, came) = to_the_node(site, services, reach).check(&format!("{action:?}"));
            // More than one datagram of a flow: what was allowed until the last question is not remembered as allowed.
            let vault = node().map(|to| {
                let several = move || {
                    let socket = datagrams(to, 80);
                    (0..3).any(|_| answers(&socket))
                };
                site.pods[2].run(several)
            });
            assert!(vault.into_iter().all(|came| came.recv().unwrap() == reach[1]), "{action:?}");
            let dropped = enforcer.reasons().unwrap()[&Reason::WorkloadToHost];
            eprintln!(
                "{action:?}, services: {services}: {all} connections, {came} came through, {dropped} packets dropped as such"
            );
            assert_eq!(dropped > 0, action == WorkloadToHost::Drop);
            remove(enforcer);
        }
    });
}

#[test]
fn flows_to_the_node_go_on_when_host_policy_tightens() {
    on_a_site(3, |site, pins| {
        nft(&kube_proxy(Masquerade::All));
        let open = compiled(&format!("{PODS}{RULES}{GUARD}"), &site.pods);
        let shut = compiled(
            &format!("{PODS}{RULES}{}", GUARD.replace("app == 'client'", "app == 'nobody'")),
            &site.pods,
        );
        let mut bindings = bound(site, &open);
        bindings.bind(EndpointId::host("edge"), Binding::AllInterfaces { interfaces: Vec::new() });
        let start = |policy: &(portcullis::compile::Compiler, Vec<EndpointId>)| {
            let options = with_to_host(with_services(site), WorkloadToHost::HostPolicy);
            start_enforcer(options, pins, policy.0.snapshot(), &bindings).unwrap()
        };
        drop(start(&open));
        let ways = node().into_iter().map(|to| (to, 80)).chain(service(API).into_iter().map(|to| (to, 8888)));
        let mut flows: Vec<Flows> = ways.map(|(to, port)| Flows::begin(&site.pods[0], to, port)).collect();
        let enforcer = start(&shut);
        flows.iter_mut().for_each(|flow| flow.go_on("tighter"));
        let mut tries = Tries::default();
        tries.add("client", &site.pods[0], node(), 80, false);
        tries.add("client", &site.pods[0], service(API), 8888, false);
        tries.check("tighter");
        remove(enforcer);
    });
}
