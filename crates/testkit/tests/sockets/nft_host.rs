//! Host endpoints in the nftables backend: at the uplink, for all interfaces, and both. What comes through is compared
//! with the reference.

use std::collections::BTreeSet;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use portcullis::backend::{Binding, Bindings, Dataplane as _, DataplaneOptions, DesiredState, Interface};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::model::{Cluster, EndpointId, Update};
use portcullis::nftables::{Enforcer, Options};
use portcullis::settings::{Settings, WorkloadToHost};

use crate::ebpf_services::{CLIENT, Masquerade, REMOTE, SERVER, kube_proxy, service};
use crate::host_judge::{Judge, compare_all, parties};
use crate::host_scenarios::{Guards, LOCAL, PROBES, SCENARIOS, generated};
use crate::wide::{Site, Tries, nft, site};
use crate::{bind, load, on_a_node, options, options_with};

/// Runs `test` on a node with an uplink and hosts behind it.
fn on_a_site(pods: usize, test: impl FnOnce(&Site) + Send + 'static) {
    on_a_node(0, move |_| {
        // The site mounts a control group.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        test(&site(pods));
    });
}

/// Binds the pods, and the host endpoints that there are: the one at the uplink, the one for all interfaces.
fn bindings(site: &Site, local: &[EndpointId], [named, all]: [Option<EndpointId>; 2]) -> Bindings {
    let mut bindings = bind(&site.pods, local);
    let interface = Interface::new(&site.second.interface).unwrap();
    if let Some(id) = named {
        bindings.bind(id, Binding::Host { interfaces: vec![interface] });
    }
    if let Some(id) = all {
        bindings.bind(id, Binding::AllInterfaces { interfaces: Vec::new() });
    }
    bindings
}

fn compiler(settings: &Settings) -> Compiler {
    Compiler::new(settings.clone(), CompileScope::All)
}

fn compiled(cluster: &Cluster, settings: &Settings) -> Compiler {
    let mut compiler = compiler(settings);
    cluster.updates().for_each(|update| compiler.apply(update).unwrap());
    compiler.commit();
    compiler
}

fn local() -> [EndpointId; 2] {
    LOCAL.map(|name| EndpointId::workload("shop", name))
}

#[test]
fn host_endpoints_guard_the_uplink_and_the_pods_as_the_reference_says() {
    on_a_site(2, |site| {
        site.serve_more(&[22, 179, 53, 68]);
        let (local, remote) = (local(), [EndpointId::workload("west", "remote")]);
        for scenario in SCENARIOS {
            let (cluster, settings) = (scenario.cluster(&site.pods), scenario.settings());
            let guard = scenario.guards.uplink();
            let judge = Judge::new(&cluster, &settings, &guard);
            let options = options_with(DataplaneOptions::new().with_workload_to_host(scenario.to_host));
            let mut enforcer = Enforcer::open(options).unwrap();
            let guards = [scenario.guards.named(), scenario.guards.all()];
            let compiler = compiled(&cluster, &settings);
            load(&mut enforcer, compiler.snapshot(), &bindings(site, &local, guards));
            let parties = parties(site, &local, &remote);
            let (all, came) = compare_all(&judge, &parties, &PROBES, scenario.name).unwrap();
            eprintln!("{}: {all} connections, {came} came through: as the reference says", scenario.name);
            enforcer.remove().unwrap();
        }
    });
}

/// From each scenario to the next, host endpoints coming and going. Here interfaces of workloads are known by their bindings.
#[test]
fn host_endpoints_that_come_and_go_are_followed() {
    on_a_site(2, |site| {
        site.serve_more(&[22, 179, 53, 68]);
        let (local, remote) = (local(), [EndpointId::workload("west", "remote")]);
        let settings = Settings::default();
        let mut compiler = compiler(&settings);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        load(&mut enforcer, compiler.snapshot(), &bindings(site, &local, [None, None]));
        let mut before = Cluster::new();
        let usual = || SCENARIOS.iter().filter(|scenario| scenario.to_host == WorkloadToHost::Accept);
        // Backwards as well, so that other kinds of endpoints follow each other.
        for scenario in usual().chain(usual().rev()) {
            let cluster = scenario.cluster(&site.pods);
            replace(&mut compiler, &before, &cluster);
            let delta = compiler.commit();
            let guards = [scenario.guards.named(), scenario.guards.all()];
            let bindings = bindings(site, &local, guards);
            let desired = DesiredState::new(compiler.snapshot(), &bindings);
            assert!(enforcer.update(desired, &delta).unwrap().is_complete());
            let guard = scenario.guards.uplink();
            let judge = Judge::new(&cluster, &settings, &guard);
            compare_all(&judge, &parties(site, &local, &remote), &PROBES, scenario.name).unwrap();
            before = cluster;
        }
        enforcer.remove().unwrap();
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
    on_a_site(2, |site| {
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
            let mut enforcer =
                Enforcer::open(options_with(DataplaneOptions::new().with_workload_to_host(to_host))).unwrap();
            let bindings = bindings(site, &generated.local, [named, all]);
            load(&mut enforcer, compiled(&cluster, &settings).snapshot(), &bindings);
            let parties = parties(site, &generated.local, &generated.remote);
            if let Some((all, came)) = compare_all(&judge, &parties, &PROBES[..4], &format!("seed {seed}")) {
                (sets, connections, through) = (sets + 1, connections + all, through + came);
            }
            enforcer.remove().unwrap();
        }
        let tried = seed - 7_000;
        eprintln!(
            "{sets} policy sets of {tried}, {connections} connections, {through} came through: as the reference says"
        );
    });
}

/// A packet of the node to a service still names the uplink after destination NAT, whose policy does not decide about it
/// when it goes to a pod of the node (decision D11).
#[test]
fn a_node_reaches_its_own_pods_through_services() {
    on_a_site(2, |site| {
        nft(&kube_proxy(Masquerade::Hairpin));
        let scenario = |name: &str| SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
        for name in ["named, the node reaches its pods only", "*, no policy"] {
            let scenario = scenario(name);
            let (cluster, settings) = (scenario.cluster(&site.pods), scenario.settings());
            let mut enforcer = Enforcer::open(options()).unwrap();
            let guards = [scenario.guards.named(), scenario.guards.all()];
            let bindings = bindings(site, &local(), guards);
            load(&mut enforcer, compiled(&cluster, &settings).snapshot(), &bindings);
            let mut tries = Tries::default();
            for (number, pod) in [CLIENT, SERVER].into_iter().zip(&site.pods) {
                tries.add_here(name, service(number), 8888, true);
                tries.add_here(name, pod.addresses, 80, true);
            }
            tries.add_here(name, service(REMOTE), 8888, false);
            tries.add_here(name, site.far[0].addresses, 80, false);
            tries.check(name);
            enforcer.remove().unwrap();
        }
    });
}
