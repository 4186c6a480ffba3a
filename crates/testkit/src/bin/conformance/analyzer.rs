//! `netpol_analyzer`: whole connectivity matrices between the workloads of a folder of manifests.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::ControlFlow;
use std::fs;
use std::path::Path;

use portcullis::manifest::{Limits, Reader};
use portcullis::model::{EndpointId, EndpointKind, PortMatch};
use portcullis::net::IpVersion;
use portcullis::packet::{Packet, Protocol};
use portcullis::path::{End, Topology};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;
use portcullis::verdict::Verdict;
use portcullis_testkit::{Engines, to_json};
use serde_json::Value;

use crate::{Tally, list, read, text};

const PROTOCOLS: [(&str, Protocol); 3] =
    [("TCP", Protocol::TCP), ("UDP", Protocol::UDP), ("SCTP", Protocol::SCTP)];

/// (source, destination) to what is allowed between them, at the sampled ports.
type Matrix = BTreeMap<(String, String), BTreeSet<(Protocol, u16)>>;

pub(crate) fn run(folder: &Path) -> Result<Tally, String> {
    let folder = folder.join("netpol_analyzer");
    let index = read(&folder.join("index.json"))?;
    let mut tally = Tally::default();
    for case in list(&index, "list") {
        let is = |key| case.get(key) == Some(&Value::Bool(true));
        let focus = ["focus_workloads", "focus_peers"].iter().any(|key| !list(case, key).is_empty())
            || ["focus_direction", "focus_conn"].iter().any(|key| !text(case, key).is_empty());
        if !is("plain_k8s") || is("exposure") || is("multi_networks") || focus {
            continue;
        }
        let name = text(case, "dir");
        let mut expected = list(case, "expected").iter().filter_map(Value::as_str);
        let Some(file) = expected.find(|file| file.ends_with(".txt")) else { continue };
        tally.cases = tally.cases.saturating_add(1);
        let path = folder.join("expected/connlist").join(file);
        let expected = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        match evaluate(&folder.join("tests").join(name), name, &mut tally) {
            Ok(cluster) => compare(name, &cluster, &expected, &mut tally),
            Err(error) => tally.check(false, name, || error),
        }
    }
    Ok(tally)
}

/// A folder's matrix, with what is needed to read the expected one.
struct Evaluated {
    matrix: Matrix,
    names: BTreeSet<String>,
    /// Workloads of the input that are no endpoints.
    unplaced: BTreeSet<String>,
    ports: BTreeSet<u16>,
}

fn compare(name: &str, cluster: &Evaluated, expected: &str, tally: &mut Tally) {
    let mut wanted = Matrix::new();
    for line in expected.lines() {
        let Some((ends, connections)) = line.split_once(" : ") else { continue };
        let Some((from, to)) = ends.split_once(" => ") else { continue };
        let known = |end: &str| cluster.names.contains(end);
        if !known(from) || !known(to) {
            // Outside addresses, and pods in their node's network (decision D9), are not compared.
            let outside = |end: &str| {
                end.contains("External")
                    || end.starts_with('{')
                    || known(end)
                    || cluster.unplaced.contains(end)
            };
            tally.check(outside(from) && outside(to), name, || {
                format!("{from} or {to} is not a workload here")
            });
            continue;
        }
        wanted.insert((from.to_owned(), to.to_owned()), connections_of(connections, &cluster.ports));
    }
    let pairs: BTreeSet<&(String, String)> = wanted.keys().chain(cluster.matrix.keys()).collect();
    let none = BTreeSet::new();
    for pair in pairs {
        let (want, got) = (wanted.get(pair).unwrap_or(&none), cluster.matrix.get(pair).unwrap_or(&none));
        tally.check(want == got, name, || {
            let show = |ports: Vec<&(Protocol, u16)>| {
                let shown: Vec<String> =
                    ports.iter().take(6).map(|(p, port)| format!("{p} {port}")).collect();
                shown.join(", ")
            };
            format!(
                "{} => {}: missing [{}], too much [{}]",
                pair.0,
                pair.1,
                show(want.difference(got).collect()),
                show(got.difference(want).collect())
            )
        });
    }
}

/// Reads `TCP 80,443,8000-9000,UDP 53` or `All Connections`, at the sampled ports.
fn connections_of(text: &str, ports: &BTreeSet<u16>) -> BTreeSet<(Protocol, u16)> {
    let mut found = BTreeSet::new();
    let mut protocol = None;
    for part in text.split(',').map(str::trim) {
        let mut words = part.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        if first == "All" {
            found.extend(PROTOCOLS.iter().flat_map(|(_, p)| ports.iter().map(|port| (*p, *port))));
            continue;
        }
        let mut range = second;
        match PROTOCOLS.iter().find(|(name, _)| *name == first) {
            Some((_, named)) => protocol = Some(*named),
            None => range = Some(first),
        }
        let Some(range) = range else { continue };
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) else { continue };
        found.extend(ports.range(low..=high).filter_map(|port| Some((protocol?, *port))));
    }
    found
}

fn evaluate(folder: &Path, name: &str, tally: &mut Tally) -> Result<Evaluated, String> {
    let scenario = Scenario::load([folder], LoadOptions::new()).map_err(|error| error.to_string())?;
    let cluster = scenario.cluster();
    let titles = titles(folder);
    let title =
        |id: &EndpointId| titles.get(&id.to_string()).cloned().unwrap_or_else(|| format!("{id}[Pod]"));
    let mut ports: BTreeSet<u16> = BTreeSet::from([1, u16::MAX]);
    let mut around = |first: u16, last: u16| {
        ports.extend([first.saturating_sub(1).max(1), first.max(1), last, last.saturating_add(1)]);
    };
    for policy in cluster.policies().values() {
        let l4 = policy.ingress.iter().chain(&policy.egress).flat_map(|rule| &rule.l4);
        for port in l4.flat_map(|l4| &l4.destination_ports) {
            if let PortMatch::Range(range) = port {
                around(range.first(), range.last());
            }
        }
    }
    for port in cluster.endpoints().values().flat_map(|endpoint| &endpoint.ports) {
        around(port.port, port.port);
    }
    let settings = Settings::default();
    let (topology, engine) = (Topology::new(cluster, &settings), Engines::new(cluster, &settings)?);
    let workloads: Vec<_> =
        cluster.endpoints().values().filter(|e| e.id.kind == EndpointKind::Workload).collect();
    let (mut matrix, mut seen) = (Matrix::new(), BTreeSet::new());
    for from in &workloads {
        for to in &workloads {
            let pair = (title(&from.id), title(&to.id));
            if pair.0 == pair.1 || !seen.insert(pair.clone()) {
                continue;
            }
            let shared = |version| {
                let of = |e: &portcullis::model::Endpoint| {
                    e.addresses.iter().copied().find(|a| IpVersion::of(a) == version)
                };
                Some((of(from)?, of(to)?))
            };
            let Some((source, destination)) = shared(IpVersion::V4).or_else(|| shared(IpVersion::V6)) else {
                continue;
            };
            let mut allowed = BTreeSet::new();
            for (_, protocol) in PROTOCOLS {
                for port in &ports {
                    let packet = Packet::new(source, destination, protocol).to_port(*port);
                    let (a, b) = (End::Endpoint(from.id.clone()), End::Endpoint(to.id.clone()));
                    if topology.decide(&engine, &a, &b, &packet).verdict == Verdict::Allow {
                        allowed.insert((protocol, *port));
                    }
                }
            }
            if !allowed.is_empty() {
                matrix.insert(pair, allowed);
            }
        }
    }
    tally.agree(&engine, name);
    let names: BTreeSet<String> = workloads.iter().map(|e| title(&e.id)).collect();
    let unplaced = titles.values().filter(|title| !names.contains(*title)).cloned().collect();
    Ok(Evaluated { matrix, names, unplaced, ports })
}

/// How the corpus calls pods and workloads: by their owner, where they have one.
fn titles(folder: &Path) -> BTreeMap<String, String> {
    let mut titles = BTreeMap::new();
    let _ = Reader::new(Limits::default()).read_path(folder, &mut |next| {
        if let Ok(document) = next {
            let kind = document.kind();
            let namespace = document.namespace().filter(|n| !n.is_empty()).unwrap_or("default");
            let name = document.name().unwrap_or_default();
            let object = to_json(document.root());
            let owner = object.pointer("/metadata/ownerReferences/0");
            let title = match owner.filter(|owner| kind == "Pod" && text(owner, "kind") != "Node") {
                Some(owner) => format!("{namespace}/{}[{}]", text(owner, "name"), text(owner, "kind")),
                None => format!("{namespace}/{name}[{kind}]"),
            };
            let makes_pods = matches!(
                kind,
                "Pod"
                    | "Deployment"
                    | "StatefulSet"
                    | "DaemonSet"
                    | "ReplicaSet"
                    | "ReplicationController"
                    | "Job"
                    | "CronJob"
            );
            if makes_pods {
                titles.entry(format!("{namespace}/{name}")).or_insert(title.clone());
                titles.insert(format!("{namespace}/{name}-{}", kind.to_ascii_lowercase()), title);
            }
        }
        ControlFlow::Continue(())
    });
    titles
}
