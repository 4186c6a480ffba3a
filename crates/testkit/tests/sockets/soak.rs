//! Changes of every kind, one after the other, and nothing grows.
//!
//! `PORTCULLIS_SOAK` is how many changes there are at least; a few hundred without it. A long run, alone in its process,
//! also looks at descriptors and memory:
//! `PORTCULLIS_SOAK=100000 cargo test -p portcullis-testkit --test sockets soak:: -- --nocapture --test-threads 1`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Instant;

use portcullis::backend::{DataplaneOptions, DesiredState, Usage};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::model::{Cluster, EndpointId, Update};
use portcullis::settings::Settings;

use crate::backends::{Variants, bind, complete, interface, on_every_node};
use crate::cluster::placed;
use crate::node::{Pod, tcp};
use crate::{ONLY_80, PODS};

/// After so many steps, everything is as it was.
const PERIOD: usize = 12;

/// The objects of one step. Only the two pods stay, and what is said of the server.
fn step(number: usize) -> String {
    let mut text = format!("{PODS}{ONLY_80}");
    let mut add = |object: String| write!(text, "\n---\n{object}\n").unwrap();
    add(format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{stage: s{}}}}}",
        number % 3
    ));
    for pod in (0..20).filter(|pod| !(pod + number).is_multiple_of(7)) {
        add(format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{pod}, namespace: shop, labels: {{v: v{}}}}}\n\
             status: {{podIPs: [{{ip: 10.1.0.{pod}}}, {{ip: 'fd00:1::{pod}'}}]}}",
            (pod + number) % 5
        ));
    }
    for policy in (0..6).filter(|policy| !(policy + number).is_multiple_of(4)) {
        add(format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: e{policy}, namespace: shop}}\n\
             spec:\n  podSelector: {{matchLabels: {{app: server}}}}\n  ingress:\n\
             \x20 - from: [{{podSelector: {{matchLabels: {{v: v{}}}}}}}, {{ipBlock: {{cidr: 10.{}.0.0/16}}}}]\n\
             \x20   ports: [{{port: {}}}]",
            (policy + number) % 5,
            20 + (policy * 7 + number) % 50,
            9_000 + (policy + number) % 9
        ));
    }
    add(format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: bad, labels: {{bad: b{}}}}}\n\
         spec: {{nets: [198.51.{number}.0/24, 203.0.{number}.0/28, '2001:db8:{number}::/48']}}",
        number % 2
    ));
    add(format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: bad}}\n\
         spec:\n  order: {number}\n  selector: app == 'server'\n  types: [Egress]\n  egress:\n\
         \x20 - {{action: Deny, destination: {{selector: bad == 'b{}'}}}}\n\x20 - {{action: Pass}}",
        number % 2
    ));
    text
}

/// What leads from one cluster to the other.
fn changes(from: &Cluster, to: &Cluster) -> Vec<Update> {
    let gone = from.policies().keys().filter(|id| !to.policies().contains_key(*id));
    let mut changes: Vec<Update> = gone.cloned().map(Update::RemovePolicy).collect();
    let gone = from.endpoints().keys().filter(|id| !to.endpoints().contains_key(*id));
    changes.extend(gone.cloned().map(Update::RemoveEndpoint));
    let before: Vec<Update> = from.updates().collect();
    changes.extend(to.updates().filter(|update| !before.contains(update)));
    changes
}

/// What the process holds: descriptors, and resident memory in kB.
fn held() -> (usize, u64) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (descriptors, line.trim().trim_end_matches(" kB").parse().unwrap())
}

fn soak(under: &crate::backends::UnderTest, pods: &[Pod]) {
    let wanted = std::env::var("PORTCULLIS_SOAK").ok().map(|text| text.parse::<usize>().unwrap());
    let states: Vec<Cluster> = (0..PERIOD).map(|number| placed(&step(number), pods).0).collect();
    let ids = ["client", "server"].map(|name| EndpointId::workload("shop", name));
    let ways: Vec<Vec<Update>> =
        (0..PERIOD).map(|at| changes(&states[at], &states[(at + 1) % PERIOD])).collect();
    let a_round: usize = ways.iter().map(Vec::len).sum();
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    states[0].updates().for_each(|update| compiler.apply(update).unwrap());
    let _ = compiler.commit();
    let mut bindings = bind(pods, &ids);
    let mut dataplane = under.load(DataplaneOptions::new(), &compiler, &bindings);
    let (begin, mut done, mut updates, mut rounds) = (Instant::now(), 0, 0, Vec::new());
    while rounds.len() < 4 || done < wanted.unwrap_or_default() {
        for (at, way) in ways.iter().enumerate() {
            way.iter().for_each(|update| compiler.apply(update.clone()).unwrap());
            done += way.len();
            // The client comes and goes as well, with its interface as it is.
            if at % 4 == 1 {
                let _ = bindings.unbind(&ids[0]);
                bindings.close(interface(&pods[0].interface));
            } else if at % 4 == 2 {
                bindings = bind(pods, &ids);
            }
            let delta = compiler.commit();
            let desired = DesiredState::new(compiler.snapshot(), &bindings);
            complete(&dataplane.update(desired, &delta).unwrap());
            updates += 1;
        }
        assert!(
            dataplane
                .maintain(DesiredState::new(compiler.snapshot(), &bindings))
                .unwrap()
                .repaired
                .is_empty()
        );
        let usage: Vec<Usage> = dataplane.usage().unwrap();
        rounds.push((usage, held()));
    }
    let of = |at: usize| &rounds[at];
    let (middle, last) = (rounds.len() / 2, rounds.len() - 1);
    for (when, at) in [("after a round", 0), ("in the middle", middle), ("at the end", last)] {
        let (usage, (descriptors, memory)) = of(at);
        let used: Vec<_> = usage.iter().map(|one| format!("{} {}", one.name, one.used)).collect();
        eprintln!("{under}: {when}: {descriptors} descriptors, {memory} kB, {}", used.join(", "));
    }
    eprintln!("{under}: {done} changes in {updates} updates of {:?}, {a_round} a round", begin.elapsed());
    let most = |from: usize, to: usize| -> Vec<(&str, u64)> {
        let names: BTreeSet<&str> = of(0).0.iter().map(|one| one.name).collect();
        let used = |name: &str| {
            let all = rounds[from..to].iter().flat_map(|(usage, _)| usage);
            all.filter(|one| one.name == name).map(|one| one.used).max().unwrap_or_default()
        };
        names.into_iter().map(|name| (name, used(name))).collect()
    };
    for ((name, before), (_, after)) in most(0, middle).into_iter().zip(most(middle, last + 1)) {
        assert!(after <= before, "the kernel holds more than before: {name} {after} instead of {before}");
    }
    if wanted.is_some() {
        assert_eq!(of(last).1.0, of(1).1.0, "descriptors");
        let (before, after) = (of(middle).1.1, of(last).1.1);
        assert!(
            after < before + before / 20,
            "memory grows: {before} kB in the middle, {after} kB at the end"
        );
    }
    let to = pods[1].addresses[0];
    let (open, shut) = pods[0].run(move || (tcp(to, 80), tcp(to, 8080))).recv().unwrap();
    assert!(open && !shut, "policy is in force");
    dataplane.remove().unwrap();
}

#[test]
fn nothing_grows_with_the_number_of_changes() {
    on_every_node(2, Variants::Default, soak);
}
