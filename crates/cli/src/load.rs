//! Manifests in, a scenario out, and what the user should know about it.

use core::fmt::Write as _;
use std::path::PathBuf;

use portcullis::k8s::BaselineReading;
use portcullis::reference::{Failsafes, Settings, WorkloadToHost};
use portcullis::scenario::{LoadOptions, Scenario};

use crate::args::{self, Baseline, ReadingArgs};
use crate::failure::Failure;
use crate::output::to_stderr;

/// Reads the manifests. Warnings and the count of skipped objects go to standard error.
pub(crate) fn scenario(files: &[PathBuf], readings: &ReadingArgs, quiet: bool) -> Result<Scenario, Failure> {
    let baseline = match readings.baseline {
        Baseline::PerDirection => BaselineReading::PerDirection,
        Baseline::PerPod => BaselineReading::PerPod,
    };
    let options = LoadOptions::new().baseline(baseline);
    let scenario = Scenario::load(files, options).map_err(|error| Failure::Input(error.to_string()))?;
    // What answers leave out is never hidden.
    let foreign: Vec<String> = scenario.foreign_policies().iter().map(ToString::to_string).collect();
    if readings.strict && !foreign.is_empty() {
        let refused: Vec<String> =
            foreign.iter().map(|line| format!("{line} (refused by `--strict`)")).collect();
        return Err(Failure::Input(refused.join("\n")));
    }
    to_stderr(&foreign.iter().map(|line| format!("warning: {line}\n")).collect::<String>());
    if !quiet {
        to_stderr(&notes(&scenario));
    }
    Ok(scenario)
}

/// What the command line says about the cluster.
pub(crate) fn settings(args: &ReadingArgs) -> Settings {
    Settings {
        failsafes: match args.failsafe {
            args::Failsafe::Default => Failsafes::default(),
            args::Failsafe::None => Failsafes::none(),
        },
        workload_to_host: match args.workload_to_host {
            args::WorkloadToHost::Accept => WorkloadToHost::Accept,
            args::WorkloadToHost::Drop => WorkloadToHost::Drop,
            args::WorkloadToHost::Policy => WorkloadToHost::HostPolicy,
        },
        ..Settings::default()
    }
}

fn notes(scenario: &Scenario) -> String {
    let mut text = String::new();
    let warnings = scenario.warnings();
    // Writing into a string cannot fail.
    for warning in warnings.iter().take(WARNINGS) {
        let _ = writeln!(text, "warning: {warning}");
    }
    match warnings.len().saturating_sub(WARNINGS) {
        0 => {}
        more => drop(writeln!(text, "warning: {more} more warnings are not shown")),
    }
    let total: u64 = scenario.skipped().values().sum();
    if total > 0 {
        let kinds: Vec<String> =
            scenario.skipped().iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let _ =
            writeln!(text, "skipped: {total} objects that policy does not depend on ({})", kinds.join(", "));
    }
    text
}

/// Warnings that are shown.
const WARNINGS: usize = 20;
