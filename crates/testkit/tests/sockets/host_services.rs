//! Host endpoints on a node with services, and what their policies do to flows that are there already.

use std::net::IpAddr;

use portcullis::backend::{DataplaneOptions, DesiredState};
use portcullis::compile::Compiler;
use portcullis::model::{EndpointId, Update};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;

use crate::backends::{complete, on_every_site, with_services};
use crate::host_endpoints::bindings;
use crate::services::{API, CLIENT, Flows, Masquerade, REMOTE, SERVER, kube_proxy, service};
use crate::terminate::{settle, terminate};
use crate::wide::{NODE, Site, Tries, nft};
use crate::{compile, place, tighten};

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

/// Two pods, a host endpoint, and policies of it, each with how it applies and its ingress rules.
fn manifests(interface: &str, policies: &[(&str, &str)]) -> String {
    let mut text = OBJECTS.replace("INTERFACE", interface);
    for (number, (how, ingress)) in policies.iter().enumerate() {
        text.push_str(&format!(
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number}}}\nspec:\n  \
             order: {number}\n  selector: host == 'here'\n  {how}\n  types: [Ingress]\n  ingress: {ingress}\n"
        ));
    }
    text
}

fn guarded(site: &Site, interface: &str, policies: &[(&str, &str)]) -> Compiler {
    let text = manifests(interface, policies);
    let mut cluster = Scenario::parse("guarded", &text, LoadOptions::new()).unwrap().cluster().clone();
    for (name, pod) in ["a", "b"].into_iter().zip(&site.pods) {
        let endpoint = cluster.endpoints()[&EndpointId::workload("shop", name)].clone();
        cluster.apply(Update::Endpoint(place(endpoint, pod)));
    }
    compile(&cluster, &Settings::default())
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
    on_every_site(2, |under, site| {
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
            let mut dataplane = under.load(with_services(), &compiler, &bindings);
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
            dataplane.remove().unwrap();
        }
    });
}

/// What an untracked rule allows is open at the node; a port of the node leads to a pod only as the other policies say.
#[test]
fn an_untracked_allow_is_for_the_node_itself() {
    on_every_site(2, |under, site| {
        nft(&kube_proxy(Masquerade::All));
        let node: [IpAddr; 2] = NODE.map(|text| text.parse().unwrap());
        let own = NODE.map(|text| portcullis::net::Cidr::host(text.parse().unwrap()));
        let names_node = || own.into_iter().fold(with_services(), DataplaneOptions::with_services);
        let any = "[{action: Allow}]";
        let none = "[{action: Deny}]";
        let [untracked, before] = [UNTRACKED, BEFORE].map(lines);
        let tried =
            |what: &str, options: DataplaneOptions, policies: &[(&str, &str)], pod: bool, port: bool| {
                let compiler = guarded(site, "up0", policies);
                let bindings = bindings(site, &pods(), [Some(EndpointId::host("guard")), None]);
                let mut dataplane = under.load(options, &compiler, &bindings);
                let mut tries = Tries::default();
                let far = &site.far[0];
                tries.add(what, far, node, 80, true);
                tries.add(what, far, site.pods[1].addresses, 80, pod);
                tries.add(what, far, node, 30_080, port);
                tries.check(what);
                // Answers to a pod, whose address is the node's on the way.
                let mut tries = Tries::default();
                tries.add(what, &site.pods[0], site.far[2].addresses, 80, true);
                tries.add(what, &site.pods[0], service(REMOTE), 8888, true);
                tries.check(what);
                drop(Flows::begin(&site.pods[0], site.far[2].addresses[0], 80));
                dataplane.remove().unwrap();
            };
        for (named, options) in [(false, with_services()), (true, names_node())] {
            let what = |text: &str| format!("{text}, the node named: {named}");
            let with = |second: (&str, &str)| {
                [(untracked.as_str(), any), (second.0, second.1)].map(|(a, b)| (a.to_owned(), b.to_owned()))
            };
            for (text, second, pod, port) in [
                ("forward policy denies", (FORWARD, none), false, false),
                ("forward policy allows", (FORWARD, any), true, true),
                ("pre-DNAT policy denies", (before.as_str(), none), false, false),
                ("pre-DNAT policy allows", (before.as_str(), any), true, true),
            ] {
                let policies = with(second);
                let policies: Vec<_> = policies.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                tried(&what(text), options.clone(), &policies, pod, port);
            }
        }
    });
}

/// Policy of `*` tightens: flows between its pods go on, and end when that is asked for.
fn flows_are_terminated(how: &'static str, rules: &'static str) {
    on_every_site(2, move |under, site| {
        let bindings = bindings(site, &pods(), [None, Some(EndpointId::host("guard"))]);
        let mut compiler = guarded(site, "'*'", &[(FORWARD, "[{action: Allow}]")]);
        let options = DataplaneOptions::new();
        let mut dataplane = under.load(options.clone(), &compiler, &bindings);
        let (to, back) = (site.pods[1].addresses, site.pods[0].addresses);
        let mut ended = to.map(|to| Flows::begin(&site.pods[0], to, 80));
        let mut kept = back.map(|to| Flows::begin(&site.pods[1], to, 80));
        let delta = tighten(&mut compiler, &manifests("'*'", &[(&lines(how), rules)]));
        complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
        ended.iter_mut().chain(&mut kept).for_each(|flows| flows.go_on("tighter"));
        settle();
        // One of TCP and one of UDP for each family.
        assert_eq!(terminate(&mut *dataplane, &compiler, &bindings, &options), 4);
        kept.iter_mut().for_each(|flows| flows.go_on("after others were ended"));
        assert!(ended.iter_mut().all(Flows::are_dead));
        let mut tries = Tries::default();
        tries.add(how, &site.pods[0], to, 80, false);
        tries.add(how, &site.pods[1], back, 80, true);
        tries.check(how);
        dataplane.remove().unwrap();
    });
}

#[test]
fn flows_that_forward_policy_of_all_interfaces_denies_now_are_terminated() {
    flows_are_terminated(FORWARD, "[{action: Deny, destination: {selector: app == 'b'}}, {action: Allow}]");
}

#[test]
fn flows_that_policy_before_destination_nat_denies_now_are_terminated() {
    flows_are_terminated(BEFORE, "[{action: Deny, destination: {selector: app == 'b'}}]");
}
