//! From YAML files to verdicts, the way the command goes.

use core::error::Error;
use core::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, io};

use portcullis::compile::{CompileScope, Compiler};
use portcullis::model::Update;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;

use crate::manifests;
use crate::measure::peak_megabytes;

/// 100,000 pods and 10,000 policies from one YAML file to the model, and from the model to the tables.
pub(crate) fn load(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("portcullis-bench-{}.yaml", std::process::id()));
    {
        let mut file = io::BufWriter::new(fs::File::create(&path)?);
        manifests::manifests(&mut file, 100_000, 10_000)?;
        file.flush()?;
    }
    let size = fs::metadata(&path)?.len();
    let start = Instant::now();
    let scenario = Scenario::load([&path], LoadOptions::new());
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    let scenario = scenario?;
    let counts = (scenario.cluster().endpoints().len(), scenario.cluster().policies().len());
    if counts != (100_000, 10_000) {
        return Err(format!("read {counts:?}").into());
    }
    writeln!(
        out,
        "load: 110,000 objects, {:.1} MB of YAML: {seconds:.2} s, {:.0} objects/s, peak memory {} MB",
        f64::from(u32::try_from(size)?) / 1e6,
        110_000.0 / seconds,
        peak_megabytes()?
    )?;

    let updates: Vec<Update> = scenario.cluster().updates().collect();
    let start = Instant::now();
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for update in updates {
        compiler.apply(update)?;
    }
    let _ = compiler.commit();
    writeln!(
        out,
        "compile from scratch, every endpoint local: {:.2} s, {} programs, {} tables, {} prefixes, peak memory {} MB",
        start.elapsed().as_secs_f64(),
        compiler.snapshot().programs.len(),
        compiler.snapshot().tables.len(),
        compiler.snapshot().addresses.len(),
        peak_megabytes()?
    )?;
    Ok(())
}

/// 1,000,000 flows in a namespace of 50 policies, through the command, end to end.
pub(crate) fn eval(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let command = std::env::current_exe()?.with_file_name("portcullis");
    if !command.exists() {
        writeln!(out, "eval: skipped, build the command first: cargo build --release -p portcullis-cli")?;
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = eval_in(&folder, &command, out);
    fs::remove_dir_all(&folder)?;
    result
}

fn eval_in(folder: &Path, command: &Path, out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let (manifests, flows) = (folder.join("objects.yaml"), folder.join("flows.jsonl"));
    let mut file = io::BufWriter::new(fs::File::create(&manifests)?);
    manifests::manifests(&mut file, 200, 50)?;
    file.flush()?;
    let mut text = String::new();
    for number in 0..1_000_000_u32 {
        let (from, to) = manifests::flow(number, 200);
        writeln!(text, "{{\"from\":\"{from}\",\"to\":\"{to}\",\"port\":{}}}", 8000 + number % 7)?;
    }
    fs::write(&flows, text)?;
    let start = Instant::now();
    let output = Command::new(command)
        .args(["eval", "-o", "jsonl", "-f"])
        .arg(&manifests)
        .arg("--flows")
        .arg(&flows)
        .stderr(Stdio::inherit())
        .output()?;
    let seconds = start.elapsed().as_secs_f64();
    let answers = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let denied = String::from_utf8_lossy(&output.stdout).matches("\"verdict\":\"deny\",\"egress\"").count();
    if answers != 1_000_000 || denied == 0 || denied == answers {
        return Err(format!("{answers} answers, {denied} denied").into());
    }
    writeln!(
        out,
        "eval: 1,000,000 flows, 200 pods and 50 policies in one namespace: {seconds:.2} s, {:.0} flows/s, {denied} denied",
        1e6 / seconds
    )?;
    Ok(())
}
