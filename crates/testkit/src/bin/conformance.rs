//! Runs the public corpora that live outside the project: `conformance FOLDER [CLI]`.
//!
//! `CLI` is the `portcullis` binary, which the cases from public bug reports are asked through; without it they are
//! said to be left out.
//!
//! Prints a line for each corpus and each disagreement; exits with 1 when there is one without a written reason.

extern crate alloc;

#[path = "conformance/analyzer.rs"]
mod analyzer;
#[path = "conformance/public_cases.rs"]
mod public_cases;
#[path = "conformance/recipes.rs"]
mod recipes;
#[path = "conformance/selectors.rs"]
mod selectors;

use alloc::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use portcullis_testkit::Engines;
use serde_json::Value;

/// What came of one corpus.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cases: usize,
    pub(crate) checks: usize,
    /// Decisions that every engine was asked for.
    pub(crate) compared: usize,
    /// Those of them that each backend was asked for on the kernel, by its name.
    pub(crate) by_kernel: BTreeMap<&'static str, usize>,
    /// Name of the case, and what differs.
    pub(crate) failures: Vec<(String, String)>,
}

impl Tally {
    pub(crate) fn check(&mut self, holds: bool, case: &str, failure: impl FnOnce() -> String) {
        self.checks = self.checks.saturating_add(1);
        if !holds {
            self.failures.push((case.to_owned(), failure()));
        }
    }

    /// Counts what all engines were asked, and notes where they differ.
    pub(crate) fn agree(&mut self, engines: &Engines<'_>, case: &str) {
        self.compared = self.compared.saturating_add(engines.asked());
        for (name, more) in engines.by_kernel() {
            let sum = self.by_kernel.entry(name).or_default();
            *sum = sum.saturating_add(more);
        }
        self.failures.extend(engines.differences().into_iter().map(|line| (case.to_owned(), line)));
    }
}

/// Runs one corpus below a folder. An error means that the corpus itself cannot be read.
type Runner<'a> = &'a dyn Fn(&Path) -> Result<Tally, String>;

/// Cases of a corpus that are judged wrong, or that ask for something else than this project promises: the name and
/// the reason.
const EXPLAINED: &[(&str, &str)] = &[];

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let Some(folder) = std::env::args().nth(1) else {
        let _ = writeln!(out, "usage: conformance FOLDER [CLI]");
        return ExitCode::from(2);
    };
    let folder = Path::new(&folder);
    let cli = std::env::args().nth(2);
    let public = |folder: &Path| public_cases::run(folder, Path::new(cli.as_deref().unwrap_or_default()));
    let mut corpora: Vec<(&str, Runner<'_>)> = vec![
        ("calico_selectors", &selectors::run),
        ("recipes", &recipes::run),
        ("netpol_analyzer", &analyzer::run),
    ];
    if cli.is_some() {
        corpora.push(("public-cases", &public));
    } else {
        let _ = writeln!(out, "public-cases: NOT run, no CLI is named");
    }
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for (name, run) in corpora {
        let tally = match run(folder) {
            Ok(tally) => tally,
            Err(error) => {
                let _ = writeln!(out, "{name}: {error}");
                return ExitCode::from(1);
            }
        };
        let mut bad: Vec<&str> = Vec::new();
        for (case, failure) in &tally.failures {
            match EXPLAINED.iter().find(|(explained, _)| explained == case) {
                Some((_, reason)) => drop(writeln!(out, "{name}: {case}: explained: {reason}: {failure}")),
                None => {
                    let _ = writeln!(out, "{name}: {case}: {failure}");
                    bad.push(case);
                }
            }
        }
        bad.dedup();
        let _ = write!(out, "{name}: {} cases, {} checks, ", tally.cases, tally.checks);
        if tally.compared > 0 {
            let by_kernel: Vec<String> =
                tally.by_kernel.iter().map(|(name, count)| format!("{count} by {name}")).collect();
            let by_kernel = if by_kernel.is_empty() { "none".to_owned() } else { by_kernel.join(" and ") };
            let compared = tally.compared;
            let _ = write!(
                out,
                "{compared} decisions compared on 3 engines, {by_kernel} of them on the kernel too, "
            );
        }
        let _ = writeln!(out, "{} cases differ", bad.len());
        passed = passed.saturating_add(tally.cases.saturating_sub(bad.len()));
        failed = failed.saturating_add(bad.len());
    }
    let _ = writeln!(out, "{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// A JSON file of the corpora.
pub(crate) fn read(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The list at `key`, empty when there is none.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The text at `key`, empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
