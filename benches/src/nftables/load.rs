//! What loads and updates cost, and how much memory the kernel takes for them.

use std::fs;
use std::io::Write;
use std::time::Instant;

use portcullis::backend::{Bindings, Dataplane as _, DesiredState, Lower as _};
use portcullis::model::{EndpointId, Update};
use portcullis::nftables::{Enforcer, Existing, Lowering, Nft, Options};

use super::Failure;
use super::world::{POD, bindings, compiler, endpoint, isolated, peer, policy};
use crate::measure::Times;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

pub(super) fn run(out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "nftables: one set of peers of one local pod")?;
    for size in SIZES {
        let line = isolated(move || one(size))?;
        writeln!(out, "{size:>8} elements  {line}")?;
        out.flush()?;
    }
    writeln!(out, "nftables: 1,000 local pods, each with a policy of its own")?;
    writeln!(out, "{}", isolated(programs)?)?;
    Ok(())
}

/// A load, then pods that come and go.
fn one(size: usize) -> Result<String, Failure> {
    let far = |number| endpoint(&format!("peer-{number}"), ("group", "g"), peer(number), "far");
    let mut updates: Vec<Update> = (0..size).map(far).collect();
    updates.push(endpoint("pod", ("app", "pod"), POD, "here"));
    updates.push(policy("own", "app == 'pod'", "group == 'g'", 80)?);
    let mut compiler = compiler(updates)?;
    let bindings = bindings(0)?;

    let start = Instant::now();
    let (_, update) = Lowering::load(
        Options::new(),
        DesiredState::new(compiler.snapshot(), &bindings),
        &Existing::default(),
    )?;
    let lowered = start.elapsed().as_secs_f64() * 1e3;
    drop(update);

    let before = kernel_kilobytes()?;
    let mut enforcer = Enforcer::open(Options::new())?;
    let start = Instant::now();
    drop(enforcer.load(DesiredState::new(compiler.snapshot(), &bindings))?);
    let loaded = start.elapsed().as_secs_f64() * 1e3;
    let memory = kernel_kilobytes()?.saturating_sub(before) / 1_000;

    let (mut added, mut removed) = (Times::default(), Times::default());
    for number in size..size.saturating_add(300) {
        for (update, times) in [
            (far(number), &mut added),
            (Update::RemoveEndpoint(EndpointId::workload("bench", format!("peer-{number}"))), &mut removed),
        ] {
            compiler.apply(update).map_err(|error| error.to_string())?;
            let delta = compiler.commit();
            let start = Instant::now();
            drop(enforcer.update(DesiredState::new(compiler.snapshot(), &bindings), &delta)?);
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    // The same event by starting `nft`.
    let program = Nft::probe()?;
    let mut started = Times::default();
    let (mut lowering, _) = Lowering::load(
        Options::new(),
        DesiredState::new(compiler.snapshot(), &bindings),
        &Existing::default(),
    )?;
    isolated_load(&mut enforcer, &mut lowering, &compiler, &bindings)?;
    for number in size..size.saturating_add(10) {
        compiler.apply(far(number)).map_err(|error| error.to_string())?;
        let delta = compiler.commit();
        let update = lowering.update(DesiredState::new(compiler.snapshot(), &bindings), &delta)?;
        let start = Instant::now();
        program.carry_out(&update)?;
        started.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(format!(
        "lowered {lowered:.1} ms, loaded {loaded:.1} ms with that, kernel memory {memory} MB; pod added {:.1} us, removed \
         {:.1} us (median, with lowering); added through `nft` {:.1} ms",
        added.at(50_000),
        removed.at(50_000),
        started.at(50_000)
    ))
}

/// Brings the table to the names of `lowering`, which was made for an empty one.
fn isolated_load(
    enforcer: &mut Enforcer,
    lowering: &mut Lowering,
    compiler: &portcullis::compile::Compiler,
    bindings: &Bindings,
) -> Result<(), Failure> {
    let options = Options::new();
    let (fresh, update) = Lowering::load(
        options.clone(),
        DesiredState::new(compiler.snapshot(), bindings),
        &Existing::default(),
    )?;
    *lowering = fresh;
    core::mem::replace(enforcer, Enforcer::open(options)?).remove()?;
    Nft::probe()?.carry_out(&update)?;
    Ok(())
}

/// 1,000 programs, of which one changes.
fn programs() -> Result<String, Failure> {
    let count = 1_000_u32;
    let mut updates: Vec<Update> = Vec::new();
    for number in 0..count {
        let address = core::net::Ipv4Addr::from_bits(POD.to_bits().saturating_add(number).saturating_add(1));
        updates.push(endpoint(&format!("local-{number}"), ("app", &format!("a{number}")), address, "here"));
        updates.push(endpoint(
            &format!("peer-{number}"),
            ("group", &format!("g{number}")),
            peer(usize::try_from(number)?),
            "far",
        ));
        let (subject, peers) = (format!("app == 'a{number}'"), format!("group == 'g{number}'"));
        updates.push(policy(&format!("p{number}"), &subject, &peers, 80)?);
    }
    let mut compiler = compiler(updates)?;
    let bindings = bindings(usize::try_from(count)?)?;
    let mut enforcer = Enforcer::open(Options::new())?;
    let start = Instant::now();
    drop(enforcer.load(DesiredState::new(compiler.snapshot(), &bindings))?);
    let loaded = start.elapsed().as_secs_f64() * 1e3;
    let (mut shadow, _) = Lowering::load(
        Options::new(),
        DesiredState::new(compiler.snapshot(), &bindings),
        &Existing::default(),
    )?;
    let (mut port, mut peers, mut lowering) = (Times::default(), Times::default(), Times::default());
    for round in 0..40_u16 {
        let name = format!("p{round}");
        let subject = format!("app == 'a{round}'");
        for (update, times) in [
            (policy(&name, &subject, &format!("group == 'g{round}'"), 81)?, &mut port),
            (policy(&name, &subject, &format!("group == 'g{}'", round + 100), 81)?, &mut peers),
        ] {
            compiler.apply(update).map_err(|error| error.to_string())?;
            let delta = compiler.commit();
            let start = Instant::now();
            drop(enforcer.update(DesiredState::new(compiler.snapshot(), &bindings), &delta)?);
            times.push(start.elapsed().as_secs_f64() * 1e3);
            let start = Instant::now();
            drop(shadow.update(DesiredState::new(compiler.snapshot(), &bindings), &delta)?);
            lowering.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(format!(
        "loaded {loaded:.1} ms; a policy gets another port {:.2} ms, another peer {:.2} ms (median), of which \
         lowering {:.2} ms",
        port.at(50_000),
        peers.at(50_000),
        lowering.at(50_000)
    ))
}

/// What the kernel holds for itself.
fn kernel_kilobytes() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Ok(of("Slab:").unwrap_or(0).saturating_add(of("VmallocUsed:").unwrap_or(0)))
}
