//! Host endpoints in the eBPF backend: at the uplink, for all interfaces, and both. What comes through is compared with the
//! reference.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portcullis::backend::{Binding, Bindings};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ebpf::{Options, Reason};
use portcullis::model::{Cluster, EndpointId, Update};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::{Settings, WorkloadToHost};

use crate::ebpf::{
    bind, interface, options, remove, start_enforcer, update, with_more_services, with_to_host,
};
use crate::ebpf_services::{
    API, CLIENT, Flows, Masquerade, REMOTE, SERVER, kube_proxy, on_a_site, service, with_services,
};
use crate::host_judge::{Judge, compare_all, parties};
use crate::host_scenarios::{Guards, HostScenario, LOCAL, PROBES, SCENARIOS, generated};
use crate::place;
use crate::wide::{NODE, Site, Tries, nft};

/// Binds the pods, and the host endpoints that there are: the one at the uplink and the one for all interfaces.
fn bindings(site: &Site, local: &[EndpointId], [named, all]: [Option<EndpointId>; 2]) -> Bindings {
    let mut bindings = bind(&site.pods, local);
    let uplink = vec![interface(&site.second)];
    let left = if named.is_none() { uplink.clone() } else { Vec::new() };
    if let Some(id) = named {
        bindings.bind(id, Binding::Host { interfaces: uplink });
    }
    if let Some(id) = all {
        bindings.bind(id, Binding::AllInterfaces { interfaces: left });
    }
    bindings
}

fn guards(scenario: &HostScenario) -> [Option<EndpointId>; 2] {
    [scenario.guards.named(), scenario.guards.all()]
}

fn compiled(cluster: &Cluster, settings: &Settings) -> Compiler {
    let mut compiler = Compiler::new(settings.clone(), CompileScope::All);
    cluster.updates().for_each(|update| compiler.apply(update).unwrap());
    compiler.commit();
    compiler
}

fn local() -> [EndpointId; 2] {
    LOCAL.map(|name| EndpointId::workload("shop", name))
}

#[test]
fn host_endpoints_guard_the_uplink_and_the_pods_as_the_reference_says() {
    on_a_site(2, |site, pins| {
        site.serve_more(&[22, 179, 53, 68]);
        let (local, remote) = (local(), [EndpointId::workload("west", "remote")]);
        for services in [false, true] {
            if services {
                // Pods leave the cluster under the node's address, so their class has to come along.
                nft(&kube_proxy(Masquerade::All));
            }
            for scenario in SCENARIOS {
                let (cluster, settings) = (scenario.cluster(&site.pods), scenario.settings());
                let guard = scenario.guards.uplink();
                let judge = Judge::new(&cluster, &settings, &guard);
                let options = if services { with_services(site) } else { options() };
                let options = with_to_host(options, scenario.to_host);
                let compiler = compiled(&cluster, &settings);
                let bindings = bindings(site, &local, guards(scenario));
                let enforcer = start_enforcer(options, pins, compiler.snapshot(), &bindings).unwrap();
                let parties = parties(site, &local, &remote);
                let (all, came) = compare_all(&judge, &parties, &PROBES, scenario.name).unwrap();
                eprintln!("{}: {all} connections, {came} came through: as the reference says", scenario.name);
                remove(enforcer);
            }
        }
    });
}

/// From each scenario to the next in one process, host endpoints coming and going.
#[test]
fn host_endpoints_that_come_and_go_are_followed() {
    on_a_site(2, |site, pins| {
        site.serve_more(&[22, 179, 53, 68]);
        let (local, remote) = (local(), [EndpointId::workload("west", "remote")]);
        let settings = Settings::default();
        let mut compiler = Compiler::new(settings.clone(), CompileScope::All);
        let none = bindings(site, &local, [None, None]);
        let mut enforcer = start_enforcer(options(), pins, compiler.snapshot(), &none).unwrap();
        let mut before = Cluster::new();
        let usual = || SCENARIOS.iter().filter(|scenario| scenario.to_host == WorkloadToHost::Accept);
        for scenario in usual().chain(usual().rev()) {
            let cluster = scenario.cluster(&site.pods);
            replace(&mut compiler, &before, &cluster);
            let (delta, bindings) = (compiler.commit(), bindings(site, &local, guards(scenario)));
            update(&mut enforcer, compiler.snapshot(), &delta, &bindings);
            let guard = scenario.guards.uplink();
            let judge = Judge::new(&cluster, &settings, &guard);
            // Flows of UDP have a port of their own for each probe, and SYNs are asked about.
            compare_all(&judge, &parties(site, &local, &remote), &PROBES, scenario.name).unwrap();
            before = cluster;
        }
        remove(enforcer);
    });
}

/// Leads `engine` from one cluster to another.
fn replace(compiler: &mut Compiler, before: &Cluster, after: &Cluster) {
    let policies: BTreeSet<_> = after.policies().keys().collect();
    for id in before.policies().keys().filter(|id| !policies.contains(*id)) {
        compiler.apply(Update::RemovePolicy(id.clone())).unwrap();
    }
    for id in before.endpoints().keys().filter(|id| !after.endpoints().contains_key(*id)) {
        compiler.apply(Update::RemoveEndpoint(id.clone())).unwrap();
    }
    after.updates().for_each(|update| compiler.apply(update).unwrap());
}

#[test]
fn random_policies_of_two_host_endpoints_hold() {
    on_a_site(2, |site, pins| {
        let rounds = std::env::var("PORTCULLIS_ROUNDS").map_or(12, |rounds| rounds.parse().unwrap());
        let (mut seed, mut sets, mut connections, mut through) = (7_000, 0, 0, 0);
        while sets < rounds {
            seed += 1;
            let generated = generated(site, seed);
            let guards = [Guards::All, Guards::Named, Guards::Both][sets % 3];
            let cluster = generated.guarded_by(guards);
            let to_host = if seed % 2 == 0 { WorkloadToHost::Accept } else { WorkloadToHost::HostPolicy };
            let settings = Settings::default().with_workload_to_host(to_host);
            let named = (guards != Guards::All).then(|| generated.named.clone());
            let all = (guards != Guards::Named).then(|| generated.all.clone());
            let guard = named.clone().unwrap_or_else(|| generated.all.clone());
            let judge = Judge::new(&cluster, &settings, &guard);
            let bindings = bindings(site, &generated.local, [named, all]);
            let options = with_to_host(options(), to_host);
            let compiler = compiled(&cluster, &settings);
            let enforcer = start_enforcer(options, pins, compiler.snapshot(), &bindings).unwrap();
            let parties = parties(site, &generated.local, &generated.remote);
            if let Some((all, came)) = compare_all(&judge, &parties, &PROBES[..4], &format!("seed {seed}")) {
                (sets, connections, through) = (sets + 1, connections + all, through + came);
            }
            remove(enforcer);
        }
        let tried = seed - 7_000;
        eprintln!(
            "{sets} policy sets of {tried}, {connections} connections, {through} came through: as the reference says"
        );
    });
}

/// A packet of the node to a service names the uplink at first, whose policy does not decide about it when it goes to a pod of the
/// node (decision D11).
#[test]
fn a_node_reaches_its_own_pods_through_services() {
    on_a_site(2, |site, pins| {
        nft(&kube_proxy(Masquerade::Hairpin));
        for name in ["named, the node reaches its pods only", "*, no policy"] {
            let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
            let compiler = compiled(&scenario.cluster(&site.pods), &scenario.settings());
            let bindings = bindings(site, &local(), guards(scenario));
            for options in [options(), with_services(site)] {
                let enforcer = start_enforcer(options, pins, compiler.snapshot(), &bindings).unwrap();
                let mut tries = Tries::default();
                for (number, pod) in [CLIENT, SERVER].into_iter().zip(&site.pods) {
                    tries.add_here(name, service(number), 8888, true);
                    tries.add_here(name, pod.addresses, 80, true);
                }
                tries.add_here(name, service(REMOTE), 8888, false);
                tries.add_here(name, site.far[0].addresses, 80, false);
                tries.check(name);
                remove(enforcer);
            }
        }
    });
}

const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: b}}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: guard, labels: {host: here}}
spec: {node: node, interfaceName: INTERFACE, expectedIPs: [172.16.9.1, 'fd00:16::1']}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: answers}
spec: {selector: host == 'here', types: [Egress], egress: [{action: Allow}]}
";

/// Policies of the host endpoint, each with how it applies and its ingress rules.
fn guarded(site: &Site, interface: &str, policies: &[(&str, &str)]) -> Compiler {
    let mut text = OBJECTS.replace("INTERFACE", interface);
    for (number, (how, ingress)) in policies.iter().enumerate() {
        text.push_str(&format!(
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number}}}\nspec:\n  \
             order: {number}\n  selector: host == 'here'\n  {how}\n  types: [Ingress]\n  ingress: {ingress}\n"
        ));
    }
    let mut cluster = Scenario::parse("guarded", &text, LoadOptions::new()).unwrap().cluster().clone();
    for (name, pod) in ["a", "b"].into_iter().zip(&site.pods) {
        let endpoint = cluster.endpoints()[&EndpointId::workload("shop", name)].clone();
        cluster.apply(Update::Endpoint(place(endpoint, pod)));
    }
    compiled(&cluster, &Settings::default())
}

const FORWARD: &str = "applyOnForward: true";
const BEFORE: &str = "{applyOnForward: true, preDNAT: true}";
const UNTRACKED: &str = "{applyOnForward: true, doNotTrack: true}";

/// Fields of a flow mapping as lines of a block mapping.
fn lines(how: &str) -> String {
    how.trim_matches(['{', '}']).replace(", ", "\n  ")
}

fn pods() -> [EndpointId; 2] {
    ["a", "b"].map(|name| EndpointId::workload("shop", name))
}

/// Pre-DNAT policy of `*` sees the service's port, its forward policy the backend's, unless pre-DNAT policy allowed the packet.
#[test]
fn services_meet_the_hooks_of_the_endpoint_for_all_interfaces() {
    on_a_site(2, |site, pins| {
        nft(&kube_proxy(Masquerade::All));
        let guard = [None, Some(EndpointId::host("guard"))];
        let port = |action: &str, port: u16| {
            let one = |protocol| {
                format!("{{action: {action}, protocol: {protocol}, destination: {{ports: [{port}]}}}}")
            };
            format!("[{}, {}]", one("TCP"), one("UDP"))
        };
        let none = "[{action: Deny}]".to_owned();
        let all = "[{action: Allow}]".to_owned();
        // Through a service to a pod here, to one elsewhere, to the node; and directly to each of them.
        for (what, policies, through, away, node, direct, direct_away) in [
            (
                "denied before",
                vec![(BEFORE, port("Deny", 8888)), (FORWARD, all.clone())],
                false,
                false,
                false,
                true,
                true,
            ),
            ("allowed as forwarded", vec![(FORWARD, port("Allow", 80))], true, true, true, true, true),
            ("denied as forwarded", vec![(FORWARD, port("Allow", 8888))], false, false, true, false, false),
            (
                "freed before",
                vec![(BEFORE, port("Allow", 8888)), (FORWARD, none.clone())],
                true,
                true,
                true,
                false,
                false,
            ),
            (
                "freed directly",
                vec![(BEFORE, port("Allow", 80)), (FORWARD, none)],
                false,
                false,
                true,
                true,
                true,
            ),
        ] {
            let policies: Vec<_> = policies.iter().map(|(how, rules)| (lines(how), rules.as_str())).collect();
            let policies: Vec<_> = policies.iter().map(|(how, rules)| (how.as_str(), *rules)).collect();
            let compiler = guarded(site, "'*'", &policies);
            let bindings = bindings(site, &pods(), guard.clone());
            let enforcer = start_enforcer(with_services(site), pins, compiler.snapshot(), &bindings).unwrap();
            let mut tries = Tries::default();
            let (a, b, far) = (&site.pods[0], &site.pods[1], &site.far[0]);
            tries.add(what, a, service(SERVER), 8888, through);
            tries.add(what, a, service(REMOTE), 8888, away);
            tries.add(what, a, service(API), 8888, node);
            tries.add(what, a, b.addresses, 80, direct);
            tries.add(what, a, far.addresses, 80, direct_away);
            tries.add(what, a, site.far[2].addresses, 80, direct_away);
            tries.add_here(what, service(CLIENT), 8888, true);
            tries.check(what);
            // More than the first packet, there and back.
            if through {
                service(SERVER).into_iter().for_each(|to| drop(Flows::begin(a, to, 8888)));
            }
            if direct_away {
                drop(Flows::begin(a, site.far[2].addresses[0], 80));
            }
            remove(enforcer);
        }
    });
}

/// What an untracked rule allows is open at the node; a port of the node leads to a pod only as the other policies say.
#[test]
fn an_untracked_allow_is_for_the_node_itself() {
    on_a_site(2, |site, pins| {
        nft(&kube_proxy(Masquerade::All));
        let node: [IpAddr; 2] = NODE.map(|text| text.parse().unwrap());
        let own = NODE.map(|text| portcullis::net::Cidr::host(text.parse().unwrap()));
        let names_node = || with_more_services(with_services(site), own);
        let any = "[{action: Allow}]";
        let none = "[{action: Deny}]";
        let [untracked, before] = [UNTRACKED, BEFORE].map(lines);
        let tried = |what: &str, options: Options, policies: &[(&str, &str)], pod: bool, port: bool| {
            let compiler = guarded(site, "up0", policies);
            let bindings = bindings(site, &pods(), [Some(EndpointId::host("guard")), None]);
            let enforcer = start_enforcer(options, pins, compiler.snapshot(), &bindings).unwrap();
            let mut tries = Tries::default();
            let far = &site.far[0];
            tries.add(what, far, node, 80, true);
            tries.add(what, far, site.pods[1].addresses, 80, pod);
            tries.add(what, far, node, 30_080, port);
            tries.check(what);
            let confined = enforcer.reasons().unwrap()[&Reason::Confined];
            // Answers to a pod, whose address is the node's on the way.
            let mut tries = Tries::default();
            tries.add(what, &site.pods[0], site.far[2].addresses, 80, true);
            tries.add(what, &site.pods[0], service(REMOTE), 8888, true);
            tries.check(what);
            drop(Flows::begin(&site.pods[0], site.far[2].addresses[0], 80));
            remove(enforcer);
            confined
        };
        for (named, options) in [(false, with_services(site)), (true, names_node())] {
            let what = |text: &str| format!("{text}, the node named: {named}");
            let with = |second: (&str, &str)| {
                [(untracked.as_str(), any), (second.0, second.1)].map(|(a, b)| (a.to_owned(), b.to_owned()))
            };
            for (text, second, pod, port, is_confined) in [
                ("forward policy denies", (FORWARD, none), false, false, false),
                ("forward policy allows", (FORWARD, any), true, true, false),
                ("pre-DNAT policy denies", (before.as_str(), none), false, false, true),
                ("pre-DNAT policy allows", (before.as_str(), any), true, true, false),
            ] {
                let policies = with(second);
                let policies: Vec<_> = policies.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                let confined = tried(&what(text), options.clone(), &policies, pod, port);
                assert_eq!(confined > 0, is_confined, "{text}");
            }
        }
    });
}

/// Policy of `*` tightens: flows between its pods go on, and are cut when that is asked for.
fn flows_are_cut(how: &'static str, rules: &'static str) {
    on_a_site(2, move |site, pins| {
        let bindings = bindings(site, &pods(), [None, Some(EndpointId::host("guard"))]);
        let open = guarded(site, "'*'", &[(FORWARD, "[{action: Allow}]")]);
        let shut = guarded(site, "'*'", &[(&lines(how), rules)]);
        drop(start_enforcer(options(), pins, open.snapshot(), &bindings).unwrap());
        let (to, back) = (site.pods[1].addresses, site.pods[0].addresses);
        let mut cut = to.map(|to| Flows::begin(&site.pods[0], to, 80));
        let mut kept = back.map(|to| Flows::begin(&site.pods[1], to, 80));
        let mut enforcer = start_enforcer(options(), pins, shut.snapshot(), &bindings).unwrap();
        cut.iter_mut().chain(&mut kept).for_each(|flows| flows.go_on("tighter"));
        // One of TCP and one of UDP for each family, at the sender.
        assert_eq!(enforcer.cut_tightened(open.snapshot(), shut.snapshot()).unwrap(), 4);
        kept.iter_mut().for_each(|flows| flows.go_on("after the cut"));
        assert!(cut.iter_mut().all(Flows::are_dead));
        let mut tries = Tries::default();
        tries.add(how, &site.pods[0], to, 80, false);
        tries.add(how, &site.pods[1], back, 80, true);
        tries.check(how);
        remove(enforcer);
    });
}

#[test]
fn flows_that_forward_policy_of_all_interfaces_denies_now_are_cut() {
    flows_are_cut(FORWARD, "[{action: Deny, destination: {selector: app == 'b'}}, {action: Allow}]");
}

#[test]
fn flows_that_policy_before_destination_nat_denies_now_are_cut() {
    flows_are_cut(BEFORE, "[{action: Deny, destination: {selector: app == 'b'}}]");
}
