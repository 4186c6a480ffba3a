//! A host endpoint at the uplink: traffic of the node itself, forwarded traffic, before destination NAT, untracked, failsafe
//! ports. What comes through is compared with the reference.

use std::net::IpAddr;

use portcullis::backend::DataplaneOptions;
use portcullis::label::Labels;
use portcullis::model::{
    Action, Cluster, Endpoint, EndpointId, EndpointKind, Profile, ProfileOrigin, Rule, Update,
};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;
use portcullis_testkit::generate::Generator;

use crate::backends::{on_every_site, with_services};
use crate::host_endpoints::bindings;
use crate::host_judge::{Judge, compare, parties};
use crate::host_scenarios::PROBES;
use crate::services::{Flows, Masquerade, REMOTE, kube_proxy, service};
use crate::wide::{NODE, Site, Tries, nft};
use crate::{compile, place};

const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: work, namespace: shop, labels: {app: work}}
---
apiVersion: v1
kind: Pod
metadata: {name: remote, namespace: west, labels: {app: remote}}
spec: {nodeName: second}
status: {podIP: 10.0.8.10, podIPs: [{ip: 10.0.8.10}, {ip: 'fd00:8::10'}]}
---
apiVersion: v1
kind: Node
metadata: {name: node}
status: {addresses: [{type: InternalIP, address: 172.16.9.1}, {type: InternalIP, address: 'fd00:16::1'}]}
---
apiVersion: v1
kind: Node
metadata: {name: second}
status: {addresses: [{type: InternalIP, address: 172.16.9.2}, {type: InternalIP, address: 'fd00:16::2'}]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge, labels: {host: here}}
spec: {node: node, interfaceName: up0, expectedIPs: [172.16.9.1, 'fd00:16::1']}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: work, namespace: shop}
spec:
  podSelector: {matchLabels: {app: work}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 80}]}]
  egress: [{ports: [{port: 8080}, {port: 80, protocol: UDP}]}]
";

/// A name, and policies of a host endpoint: how they apply, their ingress rules and their egress rules.
struct Set(&'static str, &'static [(&'static str, &'static str, &'static str)]);

const SETS: [Set; 8] = [
    Set("nothing", &[]),
    Set(
        "traffic of the node",
        &[(
            "",
            "[{action: Allow, protocol: TCP, source: {selector: app == 'remote'}, destination: {ports: [80]}}]",
            "[{action: Allow, protocol: UDP, destination: {ports: [8080]}}, {action: Deny}]",
        )],
    ),
    Set(
        "forwarded traffic",
        &[(
            "applyOnForward: true",
            "[{action: Allow, protocol: TCP, destination: {ports: [80, 8080]}}, {action: Allow, source: {nets: [192.0.2.10/32]}}]",
            "[{action: Deny, protocol: UDP, destination: {selector: app == 'remote'}}, {action: Allow}]",
        )],
    ),
    Set(
        "before destination NAT",
        &[
            (
                "applyOnForward: true, preDNAT: true",
                "[{action: Allow, protocol: TCP, destination: {ports: [8080]}}, {action: Deny, source: {nets: [192.0.2.0/24]}}, {action: Deny, source: {nets: ['2001:db8:2::/64']}}]",
                "",
            ),
            ("applyOnForward: true", "[{action: Allow, protocol: UDP}]", "[{action: Allow}]"),
        ],
    ),
    Set(
        "untracked, answers too",
        &[(
            "applyOnForward: true, doNotTrack: true",
            "[{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Deny, protocol: UDP, destination: {ports: [8080]}}]",
            "[{action: Allow, protocol: TCP, source: {ports: [80]}}, {action: Allow, protocol: UDP, destination: {ports: [80]}}]",
        )],
    ),
    Set(
        "untracked, answers not",
        &[
            (
                "applyOnForward: true, doNotTrack: true",
                "[{action: Allow, protocol: TCP, destination: {ports: [80]}}]",
                "[{action: Deny, protocol: UDP, source: {ports: [80]}}]",
            ),
            (
                "applyOnForward: true",
                "[{action: Allow, protocol: UDP}]",
                "[{action: Deny, protocol: TCP}, {action: Allow}]",
            ),
        ],
    ),
    Set("everything denied", &[("applyOnForward: true", "[{action: Deny}]", "[{action: Deny}]")]),
    Set(
        "all at once",
        &[
            (
                "applyOnForward: true, doNotTrack: true",
                "[{action: Deny, source: {selector: app == 'remote'}, protocol: UDP}]",
                "[]",
            ),
            (
                "applyOnForward: true, preDNAT: true",
                "[{action: Allow, protocol: UDP, destination: {ports: [80]}}]",
                "",
            ),
            (
                "applyOnForward: true",
                "[{action: Allow, destination: {selector: app == 'web'}}]",
                "[{action: Deny, source: {selector: app == 'web'}, protocol: TCP, destination: {ports: [80]}}, {action: Allow}]",
            ),
            ("", "[{action: Allow, protocol: TCP}]", "[{action: Deny}]"),
        ],
    ),
];

fn policies(set: &[(&str, &str, &str)]) -> String {
    let policy = |(number, (how, ingress, egress)): (usize, &(&str, &str, &str))| {
        let how = how
            .split(", ")
            .filter(|field| !field.is_empty())
            .map(|field| format!("  {field}\n"))
            .collect::<String>();
        let types = if egress.is_empty() {
            "[Ingress]".to_owned()
        } else {
            format!("[Ingress, Egress]\n  egress: {egress}")
        };
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number}}}\nspec:\n  order: {number}\n  selector: host == 'here'\n{how}  types: {types}\n  ingress: {ingress}\n"
        )
    };
    set.iter().enumerate().map(policy).collect()
}

/// The cluster, with these workloads at the pods of the node.
fn load(site: &Site, text: &str, names: [&str; 2]) -> Cluster {
    let scenario = Scenario::parse("host", text, LoadOptions::new()).unwrap();
    let mut cluster = scenario.cluster().clone();
    for (name, pod) in names.into_iter().zip(&site.pods) {
        let endpoint = cluster.endpoints()[&EndpointId::workload("shop", name)].clone();
        cluster.apply(Update::Endpoint(place(endpoint, pod)));
    }
    cluster
}

#[test]
fn every_hook_of_a_host_endpoint_decides_as_the_reference_says() {
    on_every_site(2, |under, site| {
        site.serve_more(&[22, 179, 53, 68]);
        let local = ["web", "work"].map(|name| EndpointId::workload("shop", name));
        let remote = [EndpointId::workload("west", "remote")];
        let (guard, settings) = (EndpointId::host("edge"), Settings::default());
        // The answers are the same when destinations may be rewritten.
        for options in [DataplaneOptions::new(), with_services()] {
            for Set(name, set) in SETS {
                let cluster = load(site, &format!("{CLUSTER}{}", policies(set)), ["web", "work"]);
                let judge = Judge::new(&cluster, &settings, &guard);
                let bindings = bindings(site, &local, [Some(guard.clone()), None]);
                let mut dataplane = under.load(options.clone(), &compile(&cluster, &settings), &bindings);
                let parties = parties(site, &local, &remote);
                let (all, came) = compare(&judge, &parties, &PROBES, name).unwrap();
                eprintln!("{under}, {name}: {all} connections, {came} came through: as the reference says");
                dataplane.remove().unwrap();
            }
        }
    });
}

#[test]
fn random_policies_of_host_endpoints_hold() {
    on_every_site(2, |under, site| {
        let rounds = std::env::var("PORTCULLIS_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
        let settings = Settings::default();
        let (mut seed, mut sets, mut connections, mut through) = (1_000, 0, 0, 0);
        while sets < rounds {
            seed += 1;
            let (cluster, [workloads, hosts]) = generated(site, seed);
            let (local, remote) = workloads.split_at(2);
            let judge = Judge::new(&cluster, &settings, &hosts[0]);
            let parties = parties(site, local, remote);
            let bindings = bindings(site, local, [Some(hosts[0].clone()), None]);
            let mut dataplane = under.load(DataplaneOptions::new(), &compile(&cluster, &settings), &bindings);
            if let Some((all, came)) = compare(&judge, &parties, &PROBES[..4], &format!("seed {seed}")) {
                (sets, connections, through) = (sets + 1, connections + all, through + came);
            }
            dataplane.remove().unwrap();
        }
        let tried = seed - 1_000;
        eprintln!(
            "{under}: {sets} policy sets of {tried}, {connections} connections over the uplink, {through} came through: as the reference says"
        );
    });
}

/// A random cluster with two pods here, one behind the second node, and a host endpoint at the uplink.
fn generated(site: &Site, seed: u64) -> (Cluster, [Vec<EndpointId>; 2]) {
    let mut generator = Generator::new(seed);
    let mut cluster = Cluster::new();
    let (mut workloads, mut hosts, mut policies) = (Vec::<Endpoint>::new(), Vec::<Endpoint>::new(), 0);
    let wanted = 2 + generator.below(4);
    while workloads.len() < 3 || hosts.is_empty() || policies < wanted {
        match generator.object() {
            Update::Endpoint(endpoint) => {
                let (list, room) = match endpoint.id.kind {
                    EndpointKind::Workload => (&mut workloads, 3),
                    EndpointKind::Host => (&mut hosts, 1),
                };
                if list.len() < room && list.iter().all(|other| other.id != endpoint.id) {
                    list.push(endpoint);
                }
            }
            Update::Policy(policy) if policies < wanted => {
                policies += 1;
                cluster.apply(Update::Policy(policy));
            }
            Update::Policy(_) => {}
            other => cluster.apply(other),
        }
    }
    let rules = vec![Rule::new(Action::Allow)];
    cluster.apply(Update::Profile(Profile {
        name: "all".into(),
        ingress: rules.clone(),
        egress: rules,
        labels: Labels::new(),
        origin: ProfileOrigin::Declared,
    }));
    let pods = site.pods.iter().map(|pod| (pod, "node")).chain([(&site.far[0], "second")]);
    for (endpoint, (pod, node)) in workloads.iter().zip(pods) {
        let mut endpoint = place(endpoint.clone(), pod);
        endpoint.node = Some(node.into());
        endpoint.profiles = vec!["all".into()];
        cluster.apply(Update::Endpoint(endpoint));
    }
    for endpoint in &hosts {
        let mut endpoint = endpoint.clone();
        endpoint.addresses = NODE.map(|text| text.parse().unwrap()).to_vec();
        (endpoint.node, endpoint.interface) = (Some("node".into()), Some("up0".into()));
        endpoint.profiles = vec!["all".into()];
        cluster.apply(Update::Endpoint(endpoint));
    }
    let ids = |endpoints: Vec<Endpoint>| endpoints.into_iter().map(|endpoint| endpoint.id).collect();
    (cluster, [ids(workloads), ids(hosts)])
}

/// Node ports: a policy before destination NAT sees the port of the node, the others see the pod's.
#[test]
fn ports_of_the_node_meet_the_hooks_of_forwarded_traffic() {
    on_every_site(3, |under, site| {
        nft(&kube_proxy(Masquerade::All));
        let node: [IpAddr; 2] = NODE.map(|text| text.parse().unwrap());
        let local = ["work", "web"].map(|name| EndpointId::workload("shop", name));
        let guard = EndpointId::host("edge");
        let own = NODE.map(|text| portcullis::net::Cidr::host(text.parse().unwrap()));
        let names_node = || own.into_iter().fold(with_services(), DataplaneOptions::with_services);
        let both = "{action: Allow, protocol: TCP, destination: {ports: [PORT]}}, {action: Allow, protocol: UDP, destination: {ports: [PORT]}}";
        let rules = |port: &str| format!("[{}]", both.replace("PORT", port));
        let (of_node, of_pod, none) = (rules("30080"), rules("80"), "[]".to_owned());
        let all = "[{action: Allow}]";
        let before = "applyOnForward: true, preDNAT: true";
        let after = "applyOnForward: true";
        for (name, set, options, port, own) in [
            // The node's port is decided before destination NAT, for all hooks of the host endpoint.
            (
                "allowed before",
                vec![(before, of_node.as_str(), ""), (after, none.as_str(), all)],
                with_services(),
                true,
                false,
            ),
            (
                "allowed before, the node named",
                vec![(before, of_node.as_str(), ""), (after, none.as_str(), all)],
                names_node(),
                true,
                false,
            ),
            (
                "denied before",
                vec![
                    (
                        before,
                        "[{action: Deny, source: {nets: [10.0.8.10/32]}}, {action: Deny, source: {nets: ['fd00:8::10/128']}}]",
                        "",
                    ),
                    (after, all, all),
                ],
                names_node(),
                false,
                false,
            ),
            // Forward policy names the pod's port, and so does not open the node's own.
            ("allowed as forwarded", vec![(after, of_pod.as_str(), all)], names_node(), true, true),
            ("denied as forwarded", vec![(after, of_node.as_str(), all)], names_node(), false, false),
        ] {
            let cluster = load(site, &format!("{CLUSTER}{}", policies(&set)), ["work", "web"]);
            let bindings = bindings(site, &local, [Some(guard.clone()), None]);
            let mut dataplane = under.load(options, &compile(&cluster, &Settings::default()), &bindings);
            let mut tries = Tries::default();
            tries.add(name, &site.far[0], node, 30_080, port);
            tries.add(name, &site.far[0], node, 80, own);
            tries.add(name, &site.far[0], node, 8080, false);
            // A pod goes out through a service and gets the node's address; its answers are no new traffic.
            tries.add(name, &site.pods[1], service(REMOTE), 8888, true);
            tries.check(name);
            service(REMOTE).into_iter().for_each(|to| drop(Flows::begin(&site.pods[1], to, 8888)));
            if port {
                node.into_iter().for_each(|to| drop(Flows::begin(&site.far[0], to, 30_080)));
            }
            dataplane.remove().unwrap();
        }
    });
}
