//! What workloads may send to their own node, and services that lead there.

use std::net::IpAddr;

use portcullis::backend::{Binding, DataplaneOptions};
use portcullis::model::EndpointId;
use portcullis::settings::WorkloadToHost;

use crate::backends::{bind, interface, on_every_site, with_services};
use crate::compiled;
use crate::node::{Pod, ip};
use crate::services::{
    ADMIN, API, CLIENT, Flows, Masquerade, PODS, REMOTE, RULES, SERVER, VAULT, kube_proxy, service,
};
use crate::wide::{NODE, Site, Tries, answers, datagrams, nft};

fn node() -> [IpAddr; 2] {
    NODE.map(|text| text.parse().unwrap())
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
    on_every_site(3, |under, site| {
        crate::wide::serve_more(&[22]);
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}{GUARD}"), &site.pods);
        nft(&kube_proxy(Masquerade::All));
        let mut bindings = bind(&site.pods, &ids);
        let interfaces = vec![interface(&site.second.interface)];
        bindings.bind(EndpointId::host("edge"), Binding::AllInterfaces { interfaces });
        let actions = [
            (WorkloadToHost::Accept, [true, true, true]),
            (WorkloadToHost::Drop, [false, false, false]),
            (WorkloadToHost::HostPolicy, [true, false, true]),
        ];
        for ((action, reach), services) in actions.into_iter().flat_map(|one| [(one, true), (one, false)]) {
            let options = if services { with_services() } else { DataplaneOptions::new() };
            let mut dataplane = under.load(options.with_workload_to_host(action), &compiler, &bindings);
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
            eprintln!("{under}, {action:?}, services: {services}: {all} connections, {came} came through");
            dataplane.remove().unwrap();
        }
    });
}

/// The kernel takes an eBPF program off sockets some time after the last pin of its link is gone, on a busy machine late. Here it never
/// does, so the program of the process before sees every packet as well.
fn hold_socket_guards() {
    let Ok(pins) = std::fs::read_dir("/sys/fs/bpf/portcullis") else { return };
    for pin in pins.flatten().filter(|pin| pin.file_name().to_string_lossy().starts_with("to_node")) {
        std::fs::hard_link(pin.path(), "/sys/fs/bpf/held").unwrap();
    }
}

#[test]
fn flows_to_the_node_go_on_when_host_policy_tightens() {
    on_every_site(3, |under, site| {
        nft(&kube_proxy(Masquerade::All));
        let (open, ids) = compiled(&format!("{PODS}{RULES}{GUARD}"), &site.pods);
        let nobody = GUARD.replace("app == 'client'", "app == 'nobody'");
        let (shut, _) = compiled(&format!("{PODS}{RULES}{nobody}"), &site.pods);
        let mut bindings = bind(&site.pods, &ids);
        let interfaces = vec![interface(&site.second.interface)];
        bindings.bind(EndpointId::host("edge"), Binding::AllInterfaces { interfaces });
        let start = |compiler| {
            let options = with_services().with_workload_to_host(WorkloadToHost::HostPolicy);
            under.load(options, compiler, &bindings)
        };
        drop(start(&open));
        hold_socket_guards();
        let ways = node().into_iter().map(|to| (to, 80)).chain(service(API).into_iter().map(|to| (to, 8888)));
        let mut flows: Vec<Flows> = ways.map(|(to, port)| Flows::begin(&site.pods[0], to, port)).collect();
        let mut dataplane = start(&shut);
        flows.iter_mut().for_each(|flow| flow.go_on("tighter"));
        let mut tries = Tries::default();
        tries.add("client", &site.pods[0], node(), 80, false);
        tries.add("client", &site.pods[0], service(API), 8888, false);
        tries.check("tighter");
        dataplane.remove().unwrap();
    });
}
