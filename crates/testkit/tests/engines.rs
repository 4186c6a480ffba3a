//! Every engine against the reference evaluator, on generated clusters.
//!
//! `PORTCULLIS_ROUNDS` sets the number of clusters for each property; 40 without it.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

extern crate alloc;

use alloc::collections::BTreeSet;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::{BeforeImages, Delta, Interpreter, Previous, Snapshot, View};
use portcullis::matcher::Matcher;
use portcullis::model::{Action, Cluster, EndpointKind, Update};
use portcullis::packet::Packet;
use portcullis::path::{End, FlowDecision, Topology};
use portcullis::reference::Reference;
use portcullis::settings::{Failsafes, Settings};
use portcullis::verdict::{Cause, Decision, Direction, Hook, RuleRef, Verdict};
use portcullis_testkit::differential::{self, hooks, rules};
use portcullis_testkit::generate::Generator;
use proptest::prelude::*;

fn rounds() -> u64 {
    std::env::var("PORTCULLIS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

fn config() -> ProptestConfig {
    let cases = u32::try_from(rounds()).unwrap_or(u32::MAX);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn compile(cluster: &Cluster) -> Compiler {
    compile_with(cluster, &Settings::default())
}

fn compile_with(cluster: &Cluster, settings: &Settings) -> Compiler {
    let compiler = Compiler::from_cluster(cluster.clone(), settings.clone(), CompileScope::All);
    compiler.unwrap_or_else(|error| panic!("the compiler refuses: {error}"))
}

fn apply(compiler: &mut Compiler, update: Update) {
    compiler.apply(update).unwrap_or_else(|error| panic!("the compiler refuses: {error}"));
}

fn lower(snapshot: &Snapshot) -> Matcher {
    let lowered = Matcher::lower(snapshot);
    lowered.unwrap_or_else(|error| panic!("the matcher refuses: {error}"))
}

fn follow(matcher: &Matcher, delta: &Delta) -> Matcher {
    let next = matcher.apply(delta);
    next.unwrap_or_else(|error| panic!("the matcher refuses a delta: {error}"))
}

/// Holds every engine to the reference, at every hook of every endpoint. Returns the number of comparisons.
fn compare(cluster: &Cluster, snapshot: &Snapshot, packets: &[Packet], what: &str) -> u64 {
    differential::compare(cluster, snapshot, &lower(snapshot), packets, what)
}

fn packets(seed: u64, count: usize) -> Vec<Packet> {
    let mut generator = Generator::new(seed ^ 0x5eed);
    (0..count).map(|_| generator.packet()).collect()
}

proptest! {
    #![proptest_config(config())]

    // A failing cluster shrinks object by object.
    #[test]
    fn engines_agree(objects in prop::collection::vec(any::<u64>(), 0..26), seed: u64) {
        let cluster: Cluster = objects.into_iter().map(|seed| Generator::new(seed).object()).collect();
        let compiler = compile(&cluster);
        compiler.snapshot().verify().map_err(|error| TestCaseError::fail(error.to_string()))?;
        let (text, bytes) = (compiler.snapshot().text().to_string(), compiler.snapshot().to_bytes());
        prop_assert!(Snapshot::parse(&text).is_ok_and(|read| read == *compiler.snapshot()), "{}", text);
        prop_assert!(Snapshot::from_bytes(&bytes).is_ok_and(|read| read == *compiler.snapshot()), "{}", text);
        compare(&cluster, compiler.snapshot(), &packets(seed, 40), "random packets");
    }
}

#[test]
fn engines_agree_on_packets_that_hit_a_rule_and_on_those_that_just_miss_it() {
    let (mut hits, mut misses, mut dead, mut count) = (0u64, 0u64, 0u64, 0);
    for seed in 0..rounds() {
        let mut generator = Generator::new(seed);
        let mut cluster: Cluster = generator.cluster().into_iter().collect();
        // Enough endpoints that few policies select none.
        (0..20).for_each(|_| cluster.apply(generator.object()));
        let compiler = compile(&cluster);
        let mut aimed = Vec::new();
        for (rule, _) in rules(&cluster) {
            let Some(aim) = generator.hit(&cluster, &rule) else {
                dead += 1;
                continue;
            };
            let near = generator.near_misses(&cluster, &rule, &aim);
            hits += 1;
            misses += near.len() as u64;
            aimed.push(aim.packet);
            aimed.extend(near.into_iter().map(|(_, packet)| packet));
        }
        count += compare(&cluster, compiler.snapshot(), &aimed, "aimed packets");
    }
    println!(
        "{hits} rules hit, {misses} near misses, {dead} rules that nothing hits, {count} decisions compared"
    );
    assert!(hits > rounds(), "the generator hits no more than {hits} rules");
    assert!(misses > hits, "{misses} near misses of {hits} hits");
}

/// What the generator calls a hit decides, once the rule stands alone, and a near miss never does.
#[test]
fn a_rule_that_stands_alone_decides_what_hits_it_and_nothing_that_misses_it() {
    let settings = Settings::default().with_failsafes(&Failsafes::none()).with_tunnels(&[]);
    let mut checked = 0;
    for seed in 0..rounds() {
        let mut generator = Generator::new(seed);
        let cluster: Cluster = generator.cluster().into_iter().collect();
        for (rule, action) in rules(&cluster) {
            let Some(aim) = generator.hit(&cluster, &rule) else { continue };
            let alone = alone(&cluster, &rule);
            let compiler = compile_with(&alone, &settings);
            let interpreter = Interpreter::new(compiler.snapshot());
            let decides = |packet: &Packet| {
                let decision = interpreter.decide(&aim.endpoint, aim.hook, packet);
                let logged = decision.logs.iter().any(|log| log.policy == rule.policy);
                logged || matches!(decision.cause, Cause::Rule(found) if found.policy == rule.policy)
            };
            // A Pass leaves no trace in a decision, and a Log waits for HTTP attributes.
            if !matches!(action, Action::Allow | Action::Deny) {
                continue;
            }
            assert!(decides(&aim.packet), "seed {seed}: {rule:?} does not decide {aim:?}");
            for (field, packet) in generator.near_misses(&cluster, &rule, &aim) {
                assert!(
                    !decides(&packet),
                    "seed {seed}: {rule:?} decides {packet:?}, which misses in {field:?}"
                );
                checked += 1;
            }
        }
    }
    println!("{checked} near misses checked");
    assert!(checked > 0);
}

/// `cluster` with no rule but this one.
fn alone(cluster: &Cluster, rule: &RuleRef) -> Cluster {
    let mut alone = Cluster::new();
    for update in cluster.updates() {
        match update {
            Update::Policy(mut policy) if policy.id == rule.policy => {
                let list = match rule.direction {
                    Direction::Ingress => &mut policy.ingress,
                    Direction::Egress => &mut policy.egress,
                };
                *list = vec![list.swap_remove(rule.index)];
                policy.enforcement = portcullis::model::Enforcement::Enforced;
                alone.apply(Update::Policy(policy));
            }
            Update::Policy(_) => {}
            other => alone.apply(other),
        }
    }
    alone
}

#[test]
fn incremental_is_from_scratch_at_every_step() {
    let mut count = 0;
    for seed in 0..rounds().div_ceil(4) {
        let mut generator = Generator::new(seed);
        let mut updates = generator.cluster();
        generator.shuffle(&mut updates);
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut cluster = Cluster::new();
        let mut copy = Snapshot::new();
        let mut matcher = lower(&copy);
        let mut batch = 0;
        // A state of some commits ago, and what leads back to it.
        let mut behind = (copy.clone(), BeforeImages::unchanged(0));
        for step in 0..120 {
            let update = match updates.pop() {
                Some(update) => update,
                None => generator.change(&cluster),
            };
            cluster.apply(update.clone());
            // Now and then twice, or away and back, within one batch.
            match generator.below(8) {
                0 => apply(&mut compiler, update.clone()),
                1 => away_and_back(&mut compiler, &cluster, generator.below(50)),
                _ => {}
            }
            apply(&mut compiler, update);
            if batch > 0 {
                batch -= 1;
                continue;
            }
            batch = generator.below(4);
            let old = copy.clone();
            let delta = compiler.commit();
            let before = copy.apply(&delta).unwrap();
            assert_eq!(&before, compiler.before_images(), "seed {seed} step {step}");
            behind.1.append(before).unwrap();
            let packet = generator.packet();
            was(&compiler.previous(), &old, &packet);
            was(&Previous::new(compiler.snapshot(), &behind.1).unwrap(), &behind.0, &packet);
            if generator.below(8) == 0 {
                behind = (copy.clone(), BeforeImages::unchanged(copy.generation));
            }
            assert_eq!(&copy, compiler.snapshot(), "snapshot + delta, seed {seed} step {step}");
            matcher = follow(&matcher, &delta);
            copy.verify().unwrap_or_else(|error| panic!("seed {seed} step {step}: {error}"));
            let unreferenced = copy.unreferenced();
            assert!(unreferenced.is_empty(), "seed {seed} step {step}: {unreferenced:?}");
            assert!(compiler.commit().is_empty(), "a commit without a change is empty");
            if step % 6 == 0 {
                let scratch = compile(&cluster);
                let (old, new) = (compiler.snapshot().canonical(), scratch.snapshot().canonical());
                assert_eq!(old, new, "incremental and from scratch, seed {seed} step {step}");
                let packets = packets(seed * 1000 + step, 4);
                count +=
                    differential::compare(&cluster, compiler.snapshot(), &matcher, &packets, "incremental");
            }
        }
        matcher = follow(&matcher, &compiler.commit());
        let packets = packets(seed, 20);
        count += differential::compare(
            &cluster,
            compiler.snapshot(),
            &matcher,
            &packets,
            "incremental, at the end",
        );
        // Taking everything away leaves nothing behind.
        for id in cluster.endpoints().keys() {
            apply(&mut compiler, Update::RemoveEndpoint(id.clone()));
        }
        let _ = compiler.commit();
        let rest = compiler.snapshot();
        assert!(rest.endpoints.is_empty() && rest.programs.is_empty() && rest.tables.is_empty());
        assert!(rest.decisions.is_empty() && rest.l7.is_empty() && rest.projections.is_empty());
        assert!(rest.addresses.is_empty(), "{:?}", rest.addresses);
    }
    println!("{count} decisions compared");
}

/// Holds the state before a change to a copy that was made before it.
fn was(previous: &Previous<'_>, copy: &Snapshot, packet: &Packet) {
    for id in copy.endpoints.keys() {
        for hook in hooks(id.kind) {
            for view in [View::Enforced, View::Staged] {
                let want = Interpreter::new(copy).with_view(view).decide(id, hook, packet);
                let got = previous.interpreter().with_view(view).decide(id, hook, packet);
                assert_eq!(want, got, "before the change: {id} {hook}\n{packet:?}");
            }
        }
    }
}

/// Removes one object of `cluster` from `engine` and adds it again.
fn away_and_back(compiler: &mut Compiler, cluster: &Cluster, which: u64) {
    let count = cluster.updates().count().max(1) as u64;
    let which = usize::try_from(which % count).unwrap_or(0);
    let Some(update) = cluster.updates().nth(which) else { return };
    let removal = match &update {
        Update::Policy(o) => Update::RemovePolicy(o.id.clone()),
        Update::Endpoint(o) => Update::RemoveEndpoint(o.id.clone()),
        Update::Tier(o) => Update::RemoveTier(o.name.clone()),
        Update::Profile(o) => Update::RemoveProfile(o.name.clone()),
        Update::NetworkSet(o) => Update::RemoveNetworkSet(o.id.clone()),
        Update::Namespace(o) => Update::RemoveNamespace(o.name.clone()),
        Update::ServiceAccount(o) => Update::RemoveServiceAccount(o.namespace.clone(), o.name.clone()),
        Update::Node(o) => Update::RemoveNode(o.name.clone()),
        Update::Service(o) => Update::RemoveService(o.id.clone()),
        _ => return,
    };
    apply(compiler, removal);
    apply(compiler, update);
}

#[test]
fn what_no_rule_can_see_changes_nothing() {
    for seed in 0..rounds() {
        let mut generator = Generator::new(seed);
        let cluster: Cluster = generator.cluster().into_iter().collect();
        let mut compiler = compile(&cluster);
        let mut one_by_one = Compiler::new(Settings::default(), CompileScope::All);
        cluster.updates().for_each(|update| apply(&mut one_by_one, update));
        let _ = one_by_one.commit();
        assert_eq!(compiler.snapshot().canonical(), one_by_one.snapshot().canonical(), "seed {seed}");
        assert_eq!(compiler.cluster(), one_by_one.cluster(), "seed {seed}");
        for endpoint in cluster.endpoints().values() {
            let mut endpoint = endpoint.clone();
            endpoint.labels.insert("unmentioned", "new");
            apply(&mut compiler, Update::Endpoint(endpoint));
        }
        let delta = compiler.commit();
        assert!(delta.is_empty(), "seed {seed}, a label nobody mentions: {delta:#?}");
        for (at, update) in cluster.updates().enumerate() {
            apply(&mut compiler, update);
            away_and_back(&mut compiler, &cluster, at as u64);
        }
        let delta = compiler.commit();
        assert!(delta.is_empty(), "seed {seed}, everything once more: {delta:#?}");
        assert_eq!(compiler.snapshot().generation, compile(&cluster).snapshot().generation);
    }
}

/// Failsafe ports and tunnels of nodes, while endpoints and policies come, change and move between nodes.
#[test]
fn settings_of_nodes_reach_the_tables() {
    let (mut exempt, mut tunnels) = (0, 0);
    for seed in 0..rounds() {
        let mut generator = Generator::new(seed ^ 0x5e77);
        let settings = generator.settings();
        let mut cluster: Cluster = generator.cluster().into_iter().collect();
        let mut compiler = compile_with(&cluster, &settings);
        for step in 0..6 {
            let (reference, interpreter) =
                (Reference::new(&cluster, &settings), Interpreter::new(compiler.snapshot()));
            let packets: Vec<Packet> = (0..10).map(|_| generator.packet()).collect();
            for packet in &packets {
                for id in cluster.endpoints().keys() {
                    for hook in hooks(id.kind) {
                        let (want, got) =
                            (reference.decide(id, hook, packet), interpreter.decide(id, hook, packet));
                        assert_eq!(want, got, "seed {seed}, step {step}: {id} {hook}\n{packet:?}");
                        exempt += u64::from(want.cause == Cause::Failsafe);
                        tunnels += u64::from(want.cause == Cause::Tunnel);
                    }
                }
            }
            let fresh = compile_with(&cluster, &settings);
            assert_eq!(
                compiler.snapshot().canonical(),
                fresh.snapshot().canonical(),
                "seed {seed}, step {step}: incremental and from scratch"
            );
            for _ in 0..3 {
                let change = generator.change(&cluster);
                cluster.apply(change.clone());
                apply(&mut compiler, change);
            }
            let _ = compiler.commit();
        }
    }
    assert!(exempt > rounds(), "only {exempt} packets met a failsafe port");
    assert!(tunnels > rounds(), "only {tunnels} packets were in a tunnel");
}

/// What flows meet on their way is the same whatever engine is asked: nodes with an endpoint for all interfaces, beside
/// others or alone, and every pair of ends.
#[test]
fn flows_between_any_ends_are_answered_alike() {
    let (mut asked, mut hooks) = (0, BTreeSet::new());
    for seed in 0..rounds() {
        let mut generator = Generator::new(seed ^ 0xf10e);
        let settings = generator.settings();
        let cluster: Cluster = generator.cluster().into_iter().collect();
        let compiler = compile_with(&cluster, &settings);
        let (reference, interpreter) =
            (Reference::new(&cluster, &settings), Interpreter::new(compiler.snapshot()));
        let (topology, matcher) = (Topology::new(&cluster, &settings), lower(compiler.snapshot()));
        let mut ends: Vec<End> = cluster.endpoints().keys().cloned().map(End::Endpoint).collect();
        ends.extend(["n1", "n2"].map(|node| End::Node(node.into())));
        ends.push(End::Outside);
        for (from, to) in ends.iter().flat_map(|from| ends.iter().map(move |to| (from, to))) {
            let packet = generator.packet();
            let want = topology.decide(&reference, from, to, &packet);
            assert_eq!(want, topology.decide(&interpreter, from, to, &packet), "seed {seed}, IR\n{packet:?}");
            assert_eq!(
                want,
                topology.decide(&matcher, from, to, &packet),
                "seed {seed}, matcher\n{packet:?}"
            );
            asked += 1;
            holds_what_no_policy_changes(&cluster, from, to, &want);
            let sides = [want.egress, want.ingress];
            hooks.extend(
                sides.iter().flatten().flat_map(|side| side.consulted.iter().map(|asked| asked.hook)),
            );
        }
    }
    assert_eq!(hooks.len(), Hook::ALL.len(), "{asked} flows met only {hooks:?}");
}

/// What is so whatever the policies are: a host reaches its own workloads (D11); an endpoint for one interface sees nothing
/// between workloads of a node (D24); untracked policy decides nothing on `*`, and opens no workload (D25).
fn holds_what_no_policy_changes(cluster: &Cluster, from: &End, to: &End, answer: &FlowDecision) {
    let endpoint = |end: &End| match end {
        End::Endpoint(id) => cluster.endpoints().get(id).cloned(),
        End::Node(_) | End::Outside => None,
    };
    let node = |end: &End| match end {
        End::Node(node) => Some(node.clone()),
        End::Endpoint(_) | End::Outside => endpoint(end)?.node,
    };
    let is_workload = |end: &End| endpoint(end).is_some_and(|end| end.id.kind == EndpointKind::Workload);
    let of_one_node = from != to && node(from).is_some() && node(from) == node(to);
    let sides = || [&answer.egress, &answer.ingress].into_iter().flatten();
    if of_one_node && !is_workload(from) && is_workload(to) {
        assert!(
            sides().all(|side| side.decision == Decision::new(Verdict::Allow, Cause::Node)),
            "{answer:?}"
        );
        assert!(answer.ingress.is_some(), "{answer:?}");
    }
    for side in sides() {
        for (index, asked) in side.consulted.iter().enumerate() {
            let Some(known) = cluster.endpoints().get(&asked.endpoint) else { panic!("{asked:?}") };
            let is_of_policy = matches!(asked.decision.cause, Cause::Rule(_) | Cause::TierDefault { .. });
            let is_untracked = matches!(asked.hook, Hook::UntrackedIngress | Hook::UntrackedEgress);
            assert!(!(is_untracked && is_of_policy && known.is_wildcard()), "{asked:?}");
            if of_one_node && is_workload(from) && is_workload(to) && known.id.kind == EndpointKind::Host {
                assert!(known.is_wildcard(), "{answer:?}");
            }
            if is_untracked && is_workload(to) && asked.hook.direction() == Direction::Ingress {
                let is_last = index + 1 == side.consulted.len();
                assert!(!is_last || asked.decision.verdict != Verdict::Allow, "{answer:?}");
            }
        }
    }
}
