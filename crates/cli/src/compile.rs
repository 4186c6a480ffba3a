//! `portcullis compile`: the decision tables of a directory.

#[cfg(feature = "nftables-json")]
mod nftables;

use alloc::collections::BTreeSet;
use core::fmt::Write as _;
use core::time::Duration;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::Snapshot;
use portcullis::matcher::Matcher;
use portcullis::settings::WorkloadToHost;

use crate::args::{CompileArgs, CompileOutput, CompileTarget};
use crate::failure::Failure;
use crate::load;
use crate::output::{stdout, to_stderr};

/// Runs the command.
pub(crate) fn run(args: &CompileArgs) -> Result<ExitCode, Failure> {
    let mut times = Times::default();
    let scenario = times.of("read", || load::scenario(&args.input, &args.readings, args.quiet))?;
    let scope = match &args.node {
        Some(node) => CompileScope::Node(node.as_str().into()),
        None => CompileScope::All,
    };
    let settings = load::settings(&args.readings, &scenario, args.quiet);
    let node = args.node.as_deref().map(Into::into);
    let workload_to_host = settings.of_node(node.as_ref()).workload_to_host;
    let compiler = times
        .of("compile", || Compiler::from_cluster(scenario.into_cluster(), settings, scope))
        .map_err(|error| Failure::Input(error.to_string()))?;
    let snapshot = compiler.snapshot();
    let broken = |what: &str, error: &dyn core::fmt::Display| {
        Failure::Environment(format!("this is a fault of portcullis, please report it: {what}: {error}"))
    };
    times.of("verify", || snapshot.verify()).map_err(|error| broken("the tables", &error))?;
    times
        .of("lower to matcher", || Matcher::lower(snapshot))
        .map_err(|error| broken("the matcher", &error))?;
    let bytes = times.of("encode", || snapshot.to_bytes());

    let table = times.of("lower to nftables", || table(&compiler, args, workload_to_host))?;
    let mut out = stdout();
    match args.output {
        CompileOutput::None => {}
        _ if table.is_some() => out.write_all(table.unwrap_or_default().as_bytes())?,
        CompileOutput::Text => write!(out, "{}", snapshot.text())?,
        CompileOutput::Binary => out.write_all(&bytes)?,
    }
    out.flush()?;
    if !args.quiet {
        to_stderr(&sizes(snapshot, bytes.len()));
        to_stderr(&times.report());
    }
    Ok(ExitCode::SUCCESS)
}

/// The commands of another target than the IR.
#[cfg(feature = "nftables-json")]
fn table(
    compiler: &Compiler,
    args: &CompileArgs,
    workload_to_host: WorkloadToHost,
) -> Result<Option<String>, Failure> {
    match args.to {
        CompileTarget::Ir => Ok(None),
        target => nftables::table(compiler, &args.bind, workload_to_host, target).map(Some),
    }
}

#[cfg(not(feature = "nftables-json"))]
fn table(_: &Compiler, args: &CompileArgs, _: WorkloadToHost) -> Result<Option<String>, Failure> {
    match args.to {
        CompileTarget::Ir => Ok(None),
        CompileTarget::Nft | CompileTarget::NftJson => Err(Failure::Environment(
            "`--to nft` and `--to nft-json` are not in this build; build portcullis-cli with the feature `nftables-json`"
                .into(),
        )),
    }
}

/// How long each phase took.
#[derive(Default)]
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn of<T>(&mut self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.push((phase, start.elapsed()));
        result
    }

    fn report(&self) -> String {
        let mut text = String::from("time:\n");
        for (phase, time) in &self.0 {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  {phase:<18}{:>12.3} ms", time.as_secs_f64() * 1_000.0);
        }
        text
    }
}

fn sizes(snapshot: &Snapshot, bytes: usize) -> String {
    let classes: BTreeSet<_> = snapshot.addresses.values().collect();
    let bodies = || snapshot.programs.iter().flat_map(|(_, program)| [&program.v4, &program.v6]);
    let maps = snapshot.tables.iter().flat_map(|(_, table)| table.port_maps());
    let intervals = maps.map(|map| map.intervals().len());
    let counts = [
        ("endpoints", snapshot.endpoints.len()),
        ("prefixes", snapshot.addresses.len()),
        ("classes", classes.len()),
        ("projections", snapshot.projections.len()),
        ("programs", snapshot.programs.len()),
        ("cells", bodies().map(|body| body.cells.len()).sum()),
        ("tables", snapshot.tables.len()),
        ("intervals", intervals.sum()),
        ("decisions", snapshot.decisions.len()),
        ("L7 programs", snapshot.l7.len()),
        ("bytes, encoded", bytes),
    ];
    let mut text = String::from("size:\n");
    for (what, count) in counts {
        let _ = writeln!(text, "  {what:<18}{count:>12}");
    }
    text
}
