//! Single changes to a large cluster (W3a), commits included.

use core::error::Error;
use std::io::Write;
use std::time::Instant;

use portcullis::compile::Compiler;
use portcullis::model::{Action, Endpoint, Rule, Update};

use crate::check;
use crate::compile::compiler;
use crate::measure::{Times, peak_megabytes};
use crate::workloads::{self, Names, Random, pod, w3a_pod, w3a_policy};

/// Namespaces of W3a.
pub(crate) const NAMESPACES: u32 = 25_000;
const EVENTS: u32 = 2_000;

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut compiler = compiled()?;
    let mut names = Names::default();
    let mut random = Random::new(11);
    pods(&mut compiler, &mut names, &mut random, out)?;
    classes(&mut compiler, &mut names, &mut random, out)?;
    policies(&mut compiler, &mut names, &mut random, out)?;
    let (allowed, denied) = check::sample(&compiler, 400)?;
    compiler.snapshot().verify().map_err(|error| format!("{error}"))?;
    let memory = peak_megabytes()?;
    writeln!(out, "events: checked {allowed} allowed, {denied} denied; peak memory {memory} MB")?;
    Ok(())
}

/// An engine with W3a in it.
pub(crate) fn compiled() -> Result<Compiler, Box<dyn Error>> {
    let workload = workloads::find("w3a").ok_or("no workload w3a")?;
    let mut compiler = compiler(&workload);
    for update in workload.updates() {
        compiler.apply(update)?;
    }
    let _ = compiler.commit();
    Ok(compiler)
}

/// Microseconds of one change with its commit, and whether the tables changed.
fn timed(compiler: &mut Compiler, update: Update) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    compiler.apply(update)?;
    let delta = compiler.commit();
    let time = start.elapsed().as_secs_f64() * 1e6;
    if delta.is_empty() { Err("a change without effect was timed".into()) } else { Ok(time) }
}

/// Pods of known classes come and go.
fn pods(
    compiler: &mut Compiler,
    names: &mut Names,
    random: &mut Random,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let (mut added, mut removed) = (Times::default(), Times::default());
    for number in 0..EVENTS {
        let ns = random.below(NAMESPACES);
        // Numbers above those of the workload, in both pairs.
        let pod = w3a_pod(names, ns, 200_000 + number);
        let id = pod.id.clone();
        added.push(timed(compiler, Update::Endpoint(pod))?);
        removed.push(timed(compiler, Update::RemoveEndpoint(id))?);
    }
    writeln!(out, "pod added, known label class: {}", added.summary("us"))?;
    writeln!(out, "pod removed, known label class: {}", removed.summary("us"))?;
    Ok(())
}

/// Pods with labels that no pod of the namespace has had so far; policies select one half of them.
fn classes(
    compiler: &mut Compiler,
    names: &mut Names,
    random: &mut Random,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let (mut added, mut removed) = (Times::default(), Times::default());
    for number in 0..EVENTS {
        let ns = format!("ns-{}", random.below(NAMESPACES));
        let class = format!("class-{number}");
        let labels = [("new", class.as_str()), ("app-1", "scale-1"), ("app-2", "scale-2")];
        let labels = labels.get(..if number.is_multiple_of(2) { 1 } else { 3 }).unwrap_or_default();
        let pod: Endpoint = pod(names, &ns, 300_000 + number, labels);
        let id = pod.id.clone();
        added.push(timed(compiler, Update::Endpoint(pod))?);
        removed.push(timed(compiler, Update::RemoveEndpoint(id))?);
    }
    writeln!(out, "pod added, new label class: {}", added.summary("us"))?;
    writeln!(out, "pod removed, last of its label class: {}", removed.summary("us"))?;
    Ok(())
}

/// A policy of a namespace changes, goes, and comes back.
fn policies(
    compiler: &mut Compiler,
    names: &mut Names,
    random: &mut Random,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let (mut added, mut changed, mut removed) = (Times::default(), Times::default(), Times::default());
    for _ in 0..EVENTS {
        let policy = w3a_policy(names, random.below(NAMESPACES), 1 + random.below(2));
        let mut other = policy.clone();
        other.ingress.push(Rule::new(Action::Allow));
        changed.push(timed(compiler, Update::Policy(other))?);
        removed.push(timed(compiler, Update::RemovePolicy(policy.id.clone()))?);
        added.push(timed(compiler, Update::Policy(policy))?);
    }
    writeln!(out, "policy added: {}", added.summary("us"))?;
    writeln!(out, "policy changed: {}", changed.summary("us"))?;
    writeln!(out, "policy removed: {}", removed.summary("us"))?;
    Ok(())
}
