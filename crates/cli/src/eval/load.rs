//! Manifests in, a scenario out, and what the user should know about it.

use core::fmt::Write as _;

use portcullis::k8s::BaselineReading;
use portcullis::scenario::{LoadOptions, Scenario};

use crate::args::{Baseline, EvalArgs};
use crate::failure::Failure;
use crate::output::to_stderr;

/// Reads the manifests. Warnings and the count of skipped objects go to standard error.
pub(crate) fn scenario(args: &EvalArgs) -> Result<Scenario, Failure> {
    let baseline = match args.readings.baseline {
        Baseline::PerDirection => BaselineReading::PerDirection,
        Baseline::PerPod => BaselineReading::PerPod,
    };
    let options = LoadOptions::new().baseline(baseline);
    let scenario = Scenario::load(&args.files, options).map_err(|error| Failure::Input(error.to_string()))?;
    if !args.quiet {
        to_stderr(&notes(&scenario));
    }
    Ok(scenario)
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
