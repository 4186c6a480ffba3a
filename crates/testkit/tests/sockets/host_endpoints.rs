//! Host endpoints at the uplink, for all interfaces, and both. What comes through is compared with the reference.

use std::collections::BTreeSet;

use portcullis::backend::{Binding, Bindings, DataplaneOptions, DesiredState};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::model::{Cluster, EndpointId, Update};
use portcullis::settings::{Settings, WorkloadToHost};

use crate::backends::{UnderTest, bind, complete, interface, on_every_site, with_services};
use crate::compile;
use crate::host_judge::{Judge, compare_all, parties};
use crate::host_scenarios::{Guards, HostScenario, LOCAL, PROBES, SCENARIOS, generated};
use crate::services::{CLIENT, Masquerade, REMOTE, SERVER, kube_proxy, service};
use crate::wide::{Site, Tries, nft};

/// Binds the pods, and the host endpoints that there are: the one at the uplink and the one for all interfaces.
pub(crate) fn bindings(site: &Site, local: &[EndpointId], [named, all]: [Option<EndpointId>; 2]) -> Bindings {
    let mut bindings = bind(&site.pods, local);
    let uplink = vec![interface(&site.second.interface)];
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

fn local() -> [EndpointId; 2] {
    LOCAL.map(|name| EndpointId::workload("shop", name))
}

/// All scenarios, each put in force with these options.
fn guard(under: &UnderTest, site: &Site, options: &DataplaneOptions) {
    site.serve_more(&[22, 179, 53, 68]);
    let (local, remote) = (local(), [EndpointId::workload("west", "remote")]);
    for scenario in SCENARIOS {
        let (cluster, settings) = (scenario.cluster(&site.pods), scenario.settings());
        let guard = scenario.guards.uplink();
        let judge = Judge::new(&cluster, &settings, &guard);
        let options = options.clone().with_workload_to_host(scenario.to_host);
        let bindings = bindings(site, &local, guards(scenario));
        let mut dataplane = under.load(options, &compile(&cluster, &settings), &bindings);
        let parties = parties(site, &local, &remote);
        let (all, came) = compare_all(&judge, &parties, &PROBES, scenario.name).unwrap();
        eprintln!("{under}, {}: {all} connections, {came} came through", scenario.name);
        dataplane.remove().unwrap();
    }
}

#[test]
fn host_endpoints_guard_the_uplink_and_the_pods_as_the_reference_says() {
    on_every_site(2, |under, site| guard(under, site, &DataplaneOptions::new()));
}

/// Pods leave the cluster under the node's address.
#[test]
fn host_endpoints_guard_a_node_that_masquerades_as_the_reference_says() {
    on_every_site(2, |under, site| {
        nft(&kube_proxy(Masquerade::All));
        guard(under, site, &with_services());
    });
}

/// From each scenario to the next in one process, host endpoints coming and going.
#[test]
fn host_endpoints_that_come_and_go_are_followed() {
    on_every_site(2, |under, site| {
        site.serve_more(&[22, 179, 53, 68]);
        let (local, remote) = (local(), [EndpointId::workload("west", "remote")]);
        let settings = Settings::default();
        let mut compiler = Compiler::new(settings.clone(), CompileScope::All);
        let none = bindings(site, &local, [None, None]);
        let mut dataplane = under.load(DataplaneOptions::new(), &compiler, &none);
        let mut before = Cluster::new();
        let usual = || SCENARIOS.iter().filter(|scenario| scenario.to_host == WorkloadToHost::Accept);
        for scenario in usual().chain(usual().rev()) {
            let cluster = scenario.cluster(&site.pods);
            replace(&mut compiler, &before, &cluster);
            let (delta, bindings) = (compiler.commit(), bindings(site, &local, guards(scenario)));
            complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
            let guard = scenario.guards.uplink();
            let judge = Judge::new(&cluster, &settings, &guard);
            // Flows of UDP have a port of their own for each probe, and SYNs are asked about.
            compare_all(&judge, &parties(site, &local, &remote), &PROBES, scenario.name).unwrap();
            before = cluster;
        }
        dataplane.remove().unwrap();
    });
}

/// Leads `compiler` from one cluster to another.
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
    on_every_site(2, |under, site| {
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
            let options = DataplaneOptions::new().with_workload_to_host(to_host);
            let mut dataplane = under.load(options, &compile(&cluster, &settings), &bindings);
            let parties = parties(site, &generated.local, &generated.remote);
            if let Some((all, came)) = compare_all(&judge, &parties, &PROBES[..4], &format!("seed {seed}")) {
                (sets, connections, through) = (sets + 1, connections + all, through + came);
            }
            dataplane.remove().unwrap();
        }
        let tried = seed - 7_000;
        eprintln!(
            "{under}: {sets} policy sets of {tried}, {connections} connections, {through} came through: as the reference says"
        );
    });
}

/// A packet of the node to a service names the uplink at first, whose policy does not decide about it when it goes to a pod of the
/// node (decision D11).
#[test]
fn a_node_reaches_its_own_pods_through_services() {
    on_every_site(2, |under, site| {
        nft(&kube_proxy(Masquerade::Hairpin));
        for name in ["named, the node reaches its pods only", "*, no policy"] {
            let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
            let compiler = compile(&scenario.cluster(&site.pods), &scenario.settings());
            let bindings = bindings(site, &local(), guards(scenario));
            for options in [DataplaneOptions::new(), with_services()] {
                let mut dataplane = under.load(options, &compiler, &bindings);
                let mut tries = Tries::default();
                for (number, pod) in [CLIENT, SERVER].into_iter().zip(&site.pods) {
                    tries.add_here(name, service(number), 8888, true);
                    tries.add_here(name, pod.addresses, 80, true);
                }
                tries.add_here(name, service(REMOTE), 8888, false);
                tries.add_here(name, site.far[0].addresses, 80, false);
                tries.check(name);
                dataplane.remove().unwrap();
            }
        }
    });
}
