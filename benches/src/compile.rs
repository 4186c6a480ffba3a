//! Compiling whole clusters from nothing.

use core::error::Error;
use std::env;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::settings::Settings;

use crate::check;
use crate::measure::{Times, peak_megabytes};
use crate::workloads::{self, Workload};

/// Rounds of a full compile; the first also gives the memory.
const ROUNDS: u32 = 5;

/// Compiles the named workloads, or all, each in a process of its own so that its peak of memory is its own.
pub(crate) fn run(names: &[String], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for name in names {
        workloads::find(name).ok_or_else(|| format!("no workload `{name}`"))?;
    }
    for workload in workloads::ALL {
        if names.is_empty() || names.iter().any(|name| name == workload.name) {
            let child = Command::new(env::current_exe()?).args(["compile-one", workload.name]).output()?;
            out.write_all(&child.stdout)?;
            if !child.status.success() {
                return Err(String::from_utf8_lossy(&child.stderr).into());
            }
            out.flush()?;
        }
    }
    Ok(())
}

/// Compiles one workload in this process.
pub(crate) fn run_one(name: &str, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let workload = workloads::find(name).ok_or_else(|| format!("no workload `{name}`"))?;
    let memory = memory(&workload)?;
    let mut times = Times::default();
    let mut counts = String::new();
    for round in 0..ROUNDS {
        let updates = workload.updates();
        let start = Instant::now();
        let mut compiler = compiler(&workload);
        for update in updates {
            compiler.apply(update)?;
        }
        let _ = compiler.commit();
        times.push(start.elapsed().as_secs_f64() * 1e3);
        workload.check(compiler.cluster())?;
        if round == 0 {
            let (allowed, denied) = check::sample(&compiler, 400)?;
            let snapshot = compiler.snapshot();
            counts = format!(
                "{} prefixes, {} programs, {} projections, {} tables, {} decisions; checked {allowed} allowed, {denied} denied",
                snapshot.addresses.len(),
                snapshot.programs.len(),
                snapshot.projections.len(),
                snapshot.tables.len(),
                snapshot.decisions.len()
            );
        }
    }
    let (best, median) = (times.at(0), times.at(50_000));
    writeln!(out, "compile {name} ({}): best {best:.1} median {median:.1} ms", workload.shape)?;
    writeln!(out, "compile {name}: peak memory, objects included: {memory}; {counts}")?;
    Ok(())
}

/// Feeds the objects one by one, as a watch does, so that no second copy of them counts.
fn memory(workload: &Workload) -> Result<String, Box<dyn Error>> {
    let before = peak_megabytes()?;
    let mut compiler = compiler(workload);
    let mut refused = None;
    (workload.generate)(&mut |update| refused = compiler.apply(update).err().or(refused.take()));
    if let Some(error) = refused {
        return Err(error.into());
    }
    let taken = peak_megabytes()?;
    let delta = compiler.commit();
    let committed = peak_megabytes()?;
    drop(delta);
    Ok(format!("{taken} MB before the commit, {committed} MB after (process start {before} MB)"))
}

/// An engine for a workload.
pub(crate) fn compiler(workload: &Workload) -> Compiler {
    let scope = workload.node.map_or(CompileScope::All, |node| CompileScope::Node(node.into()));
    Compiler::new(Settings::default(), scope)
}
