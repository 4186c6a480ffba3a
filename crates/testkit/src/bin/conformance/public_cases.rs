//! `public-cases/`: cases from public bug reports, asked through the command line as a user would.
//!
//! Each folder holds `manifests.*`, `flows.jsonl` and `expected.jsonl`, whose lines are one check each:
//! `{"id", "verdict"}` for an answer, `{"exit": n}` for the exit code with nothing on standard output, and
//! `{"stderr": regex}` for a line on standard error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis_testkit::{kernel_can_be_asked, wanted_backends};
use regex::Regex;
use serde_json::Value;

use crate::{Tally, text};

/// Every engine that the command line can ask here: those of the kernel only where it can be asked.
fn engines() -> Vec<&'static str> {
    let mut engines = vec!["reference", "matcher"];
    if kernel_can_be_asked() {
        engines.extend(wanted_backends().iter().map(|backend| backend.name()));
    }
    engines
}

pub(crate) fn run(folder: &Path, cli: &Path) -> Result<Tally, String> {
    let root = folder.join("public-cases");
    let entries = fs::read_dir(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut cases: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    cases.sort();
    let engines = engines();
    let mut tally = Tally::default();
    for case in cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tally.cases = tally.cases.saturating_add(1);
        let manifests = manifests(&case)?;
        let expected = json_lines(&case.join("expected.jsonl"))?;
        for engine in &engines {
            let output = Command::new(cli)
                .args(["eval", "-o", "jsonl", "--engine", engine])
                .args(manifests.iter().flat_map(|file| [Path::new("-f"), file]))
                .arg("--flows")
                .arg(case.join("flows.jsonl"))
                .output()
                .map_err(|error| format!("{}: {error}", cli.display()))?;
            for check in &expected {
                let verdict = judge(check, &output)?;
                tally.check(verdict.is_ok(), &name, || {
                    format!("{engine}: {check}: {}", verdict.err().unwrap_or_default())
                });
            }
        }
    }
    Ok(tally)
}

fn manifests(case: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(case).map_err(|error| format!("{}: {error}", case.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_stem().is_some_and(|stem| stem == "manifests"))
        .collect();
    files.sort();
    Ok(files)
}

fn json_lines(file: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{}: {error}", file.display())))
        .collect()
}

/// The outer error means that the check itself cannot be understood, the inner one that it does not hold.
fn judge(check: &Value, output: &Output) -> Result<Result<(), String>, String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    if let Some(wanted) = check.get("exit").and_then(Value::as_i64) {
        let code = output.status.code().map(i64::from);
        return Ok(match (code == Some(wanted), stdout.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err("something is on standard output".into()),
            (false, _) => Err(format!("exit code {code:?}; {}", stderr.trim())),
        });
    }
    if let Some(pattern) = check.get("stderr").and_then(Value::as_str) {
        let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
        return Ok(if pattern.is_match(&stderr) {
            Ok(())
        } else {
            Err(format!("stderr: {}", stderr.trim()))
        });
    }
    let Some(id) = check.get("id") else { return Err(format!("{check} is no check")) };
    let answer = stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|answer| answer.get("id") == Some(id));
    Ok(match answer {
        Some(answer) if answer.get("verdict") == check.get("verdict") => Ok(()),
        Some(answer) => Err(format!("answered {}", text(&answer, "verdict"))),
        None => Err(format!("no answer; {}", stderr.trim())),
    })
}
