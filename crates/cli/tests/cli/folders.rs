//! Folders as people have them: rendered charts, kustomizations, repositories of Argo CD and Flux, dumps, exports.
//!
//! Each folder of `tests/folders` holds `files/`, `flows.jsonl` and `expected.json`: for each run its arguments, what is
//! piped into it, the exit code, the verdicts in order, and every line of standard error, or a part of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn folders_are_read_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/folders");
    let mut folders: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 20, "only {} folders were found", folders.len());
    let mut failures = Vec::new();
    for folder in folders {
        let expected: Value =
            serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
        let runs = expected.as_array().unwrap();
        assert!(!runs.is_empty(), "{}: no run", folder.display());
        for run in runs {
            let found = outcome(&folder, run);
            if let Err(difference) = agrees(run, &found) {
                failures.push(format!("{} {}: {difference}\n{found:#}", folder.display(), run["run"]));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a run came to, in the form of what is expected.
fn outcome(folder: &Path, run: &Value) -> Value {
    let stdin = match run["stdin"].as_str() {
        Some(file) => fs::File::open(folder.join(file)).unwrap().into(),
        None => Stdio::null(),
    };
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(folder)
        .args(["eval", "-o", "jsonl", "--flows", "flows.jsonl"])
        .args(strings(&run["run"]))
        .stdin(stdin)
        .output()
        .unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    // The count of flows says what the verdicts say.
    let is_count = |line: &&str| line.contains(" flow: ") || line.contains(" flows: ");
    let verdict = |line: &str| serde_json::from_str::<Value>(line).unwrap()["verdict"].clone();
    serde_json::json!({
        "exit": output.status.code(),
        "verdicts": answers.lines().map(verdict).collect::<Vec<_>>(),
        "stderr": stderr.lines().filter(|line| !is_count(line)).collect::<Vec<_>>(),
    })
}

fn agrees(run: &Value, found: &Value) -> Result<(), String> {
    for field in ["exit", "verdicts"] {
        if run[field] != found[field] {
            return Err(format!("{field}: expected {}", run[field]));
        }
    }
    let (expected, lines) = (strings(&run["stderr"]), strings(&found["stderr"]));
    let is_there = |(line, part): (&String, &String)| line.contains(part.as_str());
    if lines.len() == expected.len() && lines.iter().zip(&expected).all(is_there) {
        Ok(())
    } else {
        Err(format!("stderr: expected {expected:#?}"))
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}
