//! Policies as the reference says: random ones, and the steps of an example.

use std::collections::BTreeMap;

use portcullis::backend::{Dataplane, DataplaneOptions};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::label::Labels;
use portcullis::model::{
    Action, Cluster, Endpoint, EndpointId, EndpointKind, Profile, ProfileOrigin, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::path::{End, Topology};
use portcullis::reference::Reference;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;
use portcullis::verdict::Verdict;
use portcullis_testkit::generate::Generator;

use crate::backends::{Variants, bind, on_every_node};
use crate::node::{PORTS, Pod, tcp, udp};
use crate::place;

/// A connection that is tried: the number of the pod it starts from, its first packet, and whether the reference allows
/// it.
pub(crate) type Probe = (usize, Packet, bool);

/// Every pair of pods, every port, TCP and UDP, both families.
pub(crate) fn probes(pods: &[Pod], ids: &[EndpointId], cluster: &Cluster) -> Vec<Probe> {
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
    on_every_node(4, Variants::AttachModes, |under, pods| {
        let mut last: Option<Box<dyn Dataplane>> = None;
        random_policies(pods, |compiler, ids| {
            // Without the flows of the last policies.
            last.take().into_iter().for_each(|mut last| last.remove().unwrap());
            last = Some(under.load(DataplaneOptions::new(), compiler, &bind(pods, ids)));
        });
    });
}

/// Random policies, each put in force by `enforce`.
fn random_policies(pods: &[Pod], mut enforce: impl FnMut(&Compiler, &[EndpointId])) {
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
        let _ = compiler.commit();
        enforce(&compiler, &ids);
        let (count, came) = compare(pods, probes, &format!("seed {seed}"));
        connections += count;
        through += came;
    }
    eprintln!(
        "{sets} policy sets of {seed}, {connections} connections between pods, {through} came through: as the reference says"
    );
}

#[test]
fn the_steps_of_yaobank_hold() {
    on_every_node(3, Variants::AttachModes, |under, pods| {
        // Each step is taken over from the last.
        yaobank(pods, |compiler, ids| drop(under.load(DataplaneOptions::new(), compiler, &bind(pods, ids))));
    });
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

/// The steps of the example, each put in force by `enforce`.
fn yaobank(pods: &[Pod], mut enforce: impl FnMut(&Compiler, &[EndpointId])) {
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
        let _ = compiler.commit();
        enforce(&compiler, &ids);
        let (count, through) = compare(pods, probes(pods, &ids, &cluster), step);
        eprintln!("{step}: {count} connections, {through} came through: as the reference says");
    }
}
