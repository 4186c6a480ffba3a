//! Loading: time and memory, ours and that of generated programs.

use std::io::Write;
use std::time::Instant;

use portcullis::backend::{DesiredState, Lower as _};
use portcullis::ebpf::oracle::Sandbox;
use portcullis::ebpf::{Lowering, Options, Update};

use super::bytes::{by_name, megabytes, open_maps, since};
use super::changes::{many_pods, pod_bindings};
use super::hot::line_rules;
use super::lines::{Lines, PIECE};
use super::report::Table;
use super::world::{port, rules};
use crate::measure::Times;
use crate::nftables::Failure;
use crate::nftables::world::policy;

const RULES: [usize; 4] = [10, 100, 1_000, 10_000];

pub(super) fn run(out: &mut dyn Write) -> Result<(), Failure> {
    capacity(out)?;
    compare(out)
}

/// The maps at their default sizes.
fn capacity(out: &mut dyn Write) -> Result<(), Failure> {
    let engine = many_pods()?;
    let bindings = pod_bindings()?;
    let before = open_maps()?;
    let start = Instant::now();
    let (lowering, update) =
        Lowering::load(Options::new(), DesiredState::new(engine.snapshot(), &bindings), &())?;
    let lowered = start.elapsed();
    let start = Instant::now();
    let mut sandbox = Sandbox::of(&lowering, &Update::default())?;
    let made = start.elapsed();
    let start = Instant::now();
    sandbox.prepare()?;
    let verified = start.elapsed();
    let start = Instant::now();
    sandbox.carry_out(&update)?;
    let written = start.elapsed();
    writeln!(
        out,
        "ebpf load: 100,000 pods, default capacity: lowered in {:.1} ms; maps made in {:.1} ms, both programs of workloads verified in {:.1} ms, {} writes in {:.1} ms",
        lowered.as_secs_f64() * 1e3,
        made.as_secs_f64() * 1e3,
        verified.as_secs_f64() * 1e3,
        update.writes().len(),
        written.as_secs_f64() * 1e3
    )?;
    writeln!(out, "  {} of maps:", megabytes(since(&before)?))?;
    let mut table = Table::new(["map", "bytes"]);
    let sizes = by_name(&before)?;
    let (large, small): (Vec<_>, Vec<_>) = sizes.into_iter().partition(|(_, bytes)| *bytes >= 100_000);
    for (name, bytes) in &large {
        table.row([name.clone(), bytes.to_string()]);
    }
    let rest: u64 = small.iter().map(|(_, bytes)| bytes).sum();
    table.row([format!("{} more", small.len()), rest.to_string()]);
    table.print(out)?;
    Ok(())
}

/// Our maps beside a generated program, by number of rules.
fn compare(out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "ebpf load: the rules of `hot`, ours in maps (default capacity) and as a generated program; ms, best of 5; a change: one rule gets another port"
    )?;
    let mut table = Table::new(["", "10 rules", "100 rules", "1000 rules", "10000 rules"]);
    let ours = RULES.into_iter().map(ours).collect::<Result<Vec<_>, _>>()?;
    let generated = RULES.into_iter().map(generated).collect::<Result<Vec<_>, _>>()?;
    for (names, cells) in [(OURS, &ours), (GENERATED, &generated)] {
        for (row, name) in names.into_iter().enumerate() {
            let cells = cells.iter().map(|cells| cells.get(row).cloned().unwrap_or_default());
            table.row([name.to_owned()].into_iter().chain(cells));
        }
    }
    table.print(out)?;
    let (most, why) = Lines::new()?.limit()?;
    writeln!(out, "  the verifier takes {most} rules in one program; one more: {why}")?;
    Ok(())
}

const OURS: [&str; 6] = [
    "ours: lowered",
    "ours: maps made, programs verified",
    "ours: maps written",
    "ours: maps",
    "ours: change lowered and written",
    "ours: writes of it",
];
const GENERATED: [&str; 6] = [
    "generated: instructions written",
    "generated: verified",
    "generated: put in force",
    "generated: bytes of instructions, machine code",
    "generated: change written and verified",
    "generated: programs",
];

fn best(times: &Times) -> String {
    format!("{:.3}", times.at(0))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn ours(count: usize) -> Result<[String; 6], Failure> {
    let options = Options::new();
    let (mut engine, bindings) = rules(count)?;
    let [mut lowered, mut made, mut written, mut changed] = [const { Times::new() }; 4];
    let (mut bytes, mut writes) = (0, 0);
    for round in 0..5 {
        let before = open_maps()?;
        let start = Instant::now();
        let (mut lowering, update) =
            Lowering::load(options.clone(), DesiredState::new(engine.snapshot(), &bindings), &())?;
        lowered.push(milliseconds(start));
        let start = Instant::now();
        let mut sandbox = Sandbox::of(&lowering, &Update::default())?;
        sandbox.prepare()?;
        made.push(milliseconds(start));
        let start = Instant::now();
        sandbox.carry_out(&update)?;
        written.push(milliseconds(start));
        bytes = since(&before)?;
        let number = count / 2;
        let moved = port(number)?.saturating_add(20_000).saturating_add(round);
        let peers = format!("peer == 'p{number}'");
        let change = policy(&format!("policy-{number}"), "app == 'pod'", &peers, moved)?;
        engine.apply(change).map_err(|error| error.to_string())?;
        let delta = engine.commit();
        let start = Instant::now();
        let update = lowering.update(DesiredState::new(engine.snapshot(), &bindings), &delta)?;
        sandbox.carry_out(&update)?;
        changed.push(milliseconds(start));
        writes = update.writes().len();
    }
    Ok([best(&lowered), best(&made), best(&written), megabytes(bytes), best(&changed), writes.to_string()])
}

fn generated(count: usize) -> Result<[String; 6], Failure> {
    let mut rules = line_rules(count)?;
    let [mut written, mut verified, mut put, mut changed] = [const { Times::new() }; 4];
    let mut lines = Lines::new()?;
    for _ in 0..5 {
        let start = Instant::now();
        let code = lines.generate(&rules)?;
        written.push(milliseconds(start));
        let start = Instant::now();
        let pieces = lines.verify(&code)?;
        verified.push(milliseconds(start));
        let start = Instant::now();
        lines.put(0, pieces)?;
        put.push(milliseconds(start));
        let middle = count / 2;
        let (_, port) = rules.get_mut(middle).ok_or("no rule")?;
        *port = port.saturating_add(1);
        let start = Instant::now();
        let code = lines.generate(&rules)?;
        let at = middle / PIECE;
        let piece = lines.verify(code.get(at..=at).ok_or("no piece")?)?;
        changed.push(milliseconds(start));
        lines.put(at, piece)?;
    }
    let (instructions, machine) = lines.bytes()?;
    Ok([
        best(&written),
        best(&verified),
        best(&put),
        format!("{instructions} + {machine}"),
        best(&changed),
        count.div_ceil(PIECE).to_string(),
    ])
}
