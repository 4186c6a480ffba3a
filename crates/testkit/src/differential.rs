//! Any objects and any history, held to the reference evaluator and to compiling from nothing. Fuzz targets and tests call this.
//!
//! An input is cut into numbers of four bytes. Each is the seed of one object, change or packet, so a fuzzer that moves, repeats
//! or cuts bytes does the same to objects.

use portcullis::compile::{CompileScope, Compiler};
use portcullis::evaluate::Evaluate;
use portcullis::ir::{Delta, Interpreter, Snapshot, View};
use portcullis::matcher::Matcher;
use portcullis::model::{Action, Cluster, EndpointKind};
use portcullis::packet::Packet;
use portcullis::reference::Reference;
use portcullis::settings::{Settings, StagedPolicies};
use portcullis::verdict::{Direction, Hook, RuleRef};

use crate::generate::Generator;
use crate::lowered::{Lowered, plain};

/// What one input was good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers that were compared with the reference.
    pub decisions: u64,
    /// Those of them that the tables of kernel backends gave.
    pub lowered: u64,
    /// States that were compared with compiling from nothing.
    pub states: u64,
}

/// Most objects of one input: what it costs to ask about them all grows with their product.
const MOST_OBJECTS: usize = 24;

/// Most states of one history.
const MOST_STATES: u64 = 12;

/// Most packets that an input chooses.
const MOST_PACKETS: usize = 8;

/// Most rules that packets are aimed at.
const MOST_AIMED: usize = 8;

/// Compiles the objects of an input at once. Every engine has to say what the reference says, at every hook of every endpoint, on
/// packets that hit rules, on those that just miss them, and on others. The tables of both kernel backends are engines, too.
///
/// # Panics
/// When an engine disagrees, or the tables break an invariant.
pub fn evaluate(input: &[u8]) -> Tally {
    let (packets, objects) = seeds(input);
    let cluster: Cluster =
        objects.iter().take(MOST_OBJECTS).map(|seed| Generator::new(*seed).object()).collect();
    let compiler = compile(&cluster);
    check_forms(compiler.snapshot());
    let mut generator = Generator::new(objects.last().copied().unwrap_or(1));
    let mut aimed: Vec<Packet> = packets.iter().map(|seed| Generator::new(*seed).packet()).collect();
    for (rule, _) in rules(&cluster).iter().take(MOST_AIMED) {
        if let Some(aim) = generator.hit(&cluster, rule) {
            let misses = generator.near_misses(&cluster, rule, &aim);
            aimed.extend(misses.into_iter().map(|(_, packet)| packet));
            aimed.push(aim.packet);
        }
    }
    let snapshot = compiler.snapshot();
    let engines = compare(&cluster, snapshot, &lower(snapshot), &aimed, "one input");
    let lowered = compare_lowered(&cluster, snapshot, &aimed);
    Tally { decisions: engines.saturating_add(lowered), lowered, states: 0 }
}

/// The same for what both kernel backends lower to, read without a kernel.
fn compare_lowered(cluster: &Cluster, snapshot: &Snapshot, packets: &[Packet]) -> u64 {
    let settings = Settings::default();
    let reference = Reference::new(cluster, &settings);
    let mut lowered = Lowered::new(cluster, snapshot);
    let mut count = 0;
    for packet in packets.iter().cloned().map(plain) {
        for id in cluster.endpoints().keys() {
            for hook in hooks(id.kind) {
                let want = reference.decide(id, hook, &packet);
                let what = || format!("{id} {hook}\n{packet:?}\n{cluster:#?}");
                count += lowered.compare(id, hook, &packet, &want, what);
            }
        }
    }
    count
}

/// Applies the changes of an input one after the other, with a commit after each that its seed says so. After each commit the tables
/// have to be those of compiling from nothing, the delta has to lead there, the way back has to lead to the state before, and
/// both forms have to give the tables back.
///
/// # Panics
/// When one of these does not hold.
pub fn incremental(input: &[u8]) -> Tally {
    let (packets, changes) = seeds(input);
    let packets: Vec<Packet> = packets.iter().map(|seed| Generator::new(*seed).packet()).collect();
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    let mut replica = compiler.snapshot().clone();
    let mut matcher = lower(&replica);
    let mut tally = Tally::default();
    for seed in changes {
        let mut generator = Generator::new(seed);
        let change = generator.change(compiler.cluster());
        // The generator makes nothing that has no meaning.
        assert_eq!(compiler.apply(change.clone()), Ok(()), "{change:?}");
        if seed % 4 == 0 {
            continue;
        }
        let delta = compiler.commit();
        follow(&compiler, &delta, &mut replica, &mut matcher);
        tally.states += 1;
        if tally.states >= MOST_STATES {
            break;
        }
    }
    let delta = compiler.commit();
    follow(&compiler, &delta, &mut replica, &mut matcher);
    tally.states += 1;
    tally.decisions = compare(compiler.cluster(), &replica, &matcher, &packets, "a history");
    tally
}

/// Holds a commit to what it promises.
fn follow(compiler: &Compiler, delta: &Delta, replica: &mut Snapshot, matcher: &mut Matcher) {
    let before = replica.clone();
    match replica.apply(delta) {
        Ok(images) => assert_eq!(&images, compiler.before_images(), "the way back"),
        Err(error) => panic!("a delta leads on: {error}"),
    }
    assert_eq!(replica, compiler.snapshot(), "a delta leads to the tables");
    assert!(!delta.is_empty() || before == *replica, "an empty delta changes nothing");
    *matcher = matcher.apply(delta).unwrap_or_else(|error| panic!("the matcher refuses a delta: {error}"));
    check_forms(replica);
    let again = compile(compiler.cluster());
    assert_eq!(compiler.snapshot().canonical(), again.snapshot().canonical(), "incremental is from nothing");
}

/// The tables keep their invariants, hold nothing that nothing leads to, and come back from both forms.
fn check_forms(snapshot: &Snapshot) {
    if let Err(error) = snapshot.verify() {
        panic!("the tables break an invariant: {error}");
    }
    let unreferenced = snapshot.unreferenced();
    assert!(unreferenced.is_empty(), "{unreferenced:?}");
    assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()).as_ref(), Ok(snapshot), "the binary form");
    assert_eq!(Snapshot::parse(&snapshot.text().to_string()).as_ref(), Ok(snapshot), "the text form");
}

fn compile(cluster: &Cluster) -> Compiler {
    Compiler::from_cluster(cluster.clone(), Settings::default(), CompileScope::All)
        .unwrap_or_else(|error| panic!("the compiler refuses: {error}"))
}

fn lower(snapshot: &Snapshot) -> Matcher {
    Matcher::lower(snapshot).unwrap_or_else(|error| panic!("the matcher refuses: {error}"))
}

/// Holds the tables and the matcher, enforced and staged, to the reference at every hook of every endpoint. Returns the number of
/// comparisons.
///
/// # Panics
/// When one of them disagrees; `what` says in the message what was compared.
pub fn compare(
    cluster: &Cluster,
    snapshot: &Snapshot,
    matcher: &Matcher,
    packets: &[Packet],
    what: &str,
) -> u64 {
    let settings = Settings::default();
    let staged_settings = Settings { staged: StagedPolicies::Enforce, ..Settings::default() };
    let (enforced, staged) = (Reference::new(cluster, &settings), Reference::new(cluster, &staged_settings));
    let interpreter = Interpreter::new(snapshot);
    let staged_interpreter = interpreter.with_view(View::Staged);
    let staged_matcher = matcher.view(View::Staged);
    let engines: [(&str, &Reference<'_>, &dyn Evaluate); 4] = [
        ("IR", &enforced, &interpreter),
        ("IR, staged", &staged, &staged_interpreter),
        ("matcher", &enforced, matcher),
        ("matcher, staged", &staged, &staged_matcher),
    ];
    let mut count = 0;
    for id in cluster.endpoints().keys() {
        for hook in hooks(id.kind) {
            for packet in packets {
                for (name, reference, engine) in engines {
                    let want = reference.decide(id, hook, packet);
                    let got = engine.evaluate(id, hook, packet);
                    assert_eq!(want, got, "{what}, {name}: {id} {hook}\n{packet:?}\n{cluster:#?}");
                    count += 1;
                }
            }
        }
    }
    count
}

/// The hooks that endpoints of a kind have.
#[must_use]
pub fn hooks(kind: EndpointKind) -> Vec<Hook> {
    let workload = |hook: &Hook| matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
    Hook::ALL.into_iter().filter(|hook| workload(hook) == (kind == EndpointKind::Workload)).collect()
}

/// Every rule of every policy, and what it does.
#[must_use]
pub fn rules(cluster: &Cluster) -> Vec<(RuleRef, Action)> {
    let mut all = Vec::new();
    for policy in cluster.policies().values() {
        let lists = [(Direction::Ingress, &policy.ingress), (Direction::Egress, &policy.egress)];
        for (direction, list) in lists {
            all.extend(list.iter().enumerate().map(|(index, rule)| {
                let (policy, tier) = (policy.id.clone(), policy.tier.clone());
                (RuleRef { policy, tier, direction, index }, rule.action)
            }));
        }
    }
    all
}

/// The seeds of an input: those of packets, up to the first zero byte in the place of one, and those of objects.
fn seeds(input: &[u8]) -> (Vec<u64>, Vec<u64>) {
    let (numbers, _) = input.as_chunks::<4>();
    let mut numbers = numbers.iter().map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
    let packets = numbers.by_ref().take_while(|seed| *seed != 0).take(MOST_PACKETS).collect();
    (packets, numbers.collect())
}
