//! Manifests in, a scenario out, and what the user should know about it.

use core::fmt::Write as _;

use portcullis::k8s::BaselineReading;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::{Failsafes, Settings, WorkloadToHost};

use crate::args::{self, Baseline, ReadingArgs};
use crate::failure::Failure;
use crate::input::InputArgs;
use crate::output::to_stderr;
use crate::progress::Progress;

/// Reads the manifests. Warnings and the count of skipped objects go to standard error.
pub(crate) fn scenario(input: &InputArgs, readings: &ReadingArgs, quiet: bool) -> Result<Scenario, Failure> {
    let baseline = match readings.baseline {
        Baseline::PerDirection => BaselineReading::PerDirection,
        Baseline::PerPod => BaselineReading::PerPod,
    };
    let mut options = LoadOptions::new().baseline(baseline);
    if let Some(namespace) = &readings.namespace {
        options = options.namespace(namespace);
    }
    let progress = Progress::start("reading manifests", "");
    let read = input.read(options, quiet);
    drop(progress);
    let scenario = read?;
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

/// What the input and the command line say about the nodes. The command line wins, and says so where the input says
/// something too.
pub(crate) fn settings(args: &ReadingArgs, scenario: &Scenario, quiet: bool) -> Settings {
    let mut settings = scenario.settings().clone();
    let mut overridden = Vec::new();
    if let Some(failsafe) = args.failsafe {
        if scenario.configured().failsafes {
            overridden.push(("--failsafe", "failsafeInboundHostPorts and failsafeOutboundHostPorts"));
        }
        settings = settings.with_failsafes(&match failsafe {
            args::Failsafe::Default => Failsafes::default(),
            args::Failsafe::None => Failsafes::none(),
        });
    }
    if let Some(action) = args.workload_to_host {
        if scenario.configured().workload_to_host {
            overridden.push(("--workload-to-host", "defaultEndpointToHostAction"));
        }
        settings = settings.with_workload_to_host(match action {
            args::WorkloadToHost::Accept => WorkloadToHost::Accept,
            args::WorkloadToHost::Drop => WorkloadToHost::Drop,
            args::WorkloadToHost::Policy => WorkloadToHost::HostPolicy,
        });
    }
    if let Some(args::Tunnels(tunnels)) = &args.tunnels {
        if scenario.configured().tunnels {
            let fields = "allowIPIPPacketsFromWorkloads and allowVXLANPacketsFromWorkloads";
            overridden.push(("--tunnels", fields));
        }
        settings = settings.with_tunnels(tunnels);
    }
    if !quiet {
        for (flag, fields) in overridden {
            to_stderr(&format!("note: {flag} overrides {fields} of every FelixConfiguration in the input\n"));
        }
    }
    settings
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
    let skipped = scenario.skipped().iter().map(|(kind, count)| (kind.as_str(), *count));
    count(&mut text, "objects that policy does not depend on", skipped);
    let repeated = scenario.repeated().iter().map(|(kind, count)| (*kind, *count));
    count(&mut text, "objects that were given before with the same meaning", repeated);
    let others = scenario.others().iter().map(|(what, count)| (*what, *count));
    count(&mut text, "that are no Kubernetes objects", others);
    text
}

/// Adds a line about objects that were skipped, if there are any.
fn count<'a>(text: &mut String, what: &str, kinds: impl Iterator<Item = (&'a str, u64)>) {
    let (mut total, mut parts) = (0u64, Vec::new());
    for (kind, count) in kinds {
        total = total.saturating_add(count);
        parts.push(format!("{kind} {count}"));
    }
    if total > 0 {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "skipped: {total} {what} ({})", parts.join(", "));
    }
}

/// Warnings that are shown.
const WARNINGS: usize = 20;
