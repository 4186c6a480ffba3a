//! Measures what `benches/RESULTS.md` records, in one run. Every workload comes from a fixed seed.

mod workload;

use core::error::Error;
use core::fmt::Write as _;
use core::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, io};

use portcullis::compile::{CompileScope, Engine};
use portcullis::label::Labels;
use portcullis::model::Update;
use portcullis::reference::Settings;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::selector::Selector;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    selectors(&mut out)?;
    load(&mut out)?;
    eval(&mut out)?;
    Ok(())
}

/// Nanoseconds of one call of `work`: the best and the median of 15 rounds.
fn time(rounds: u32, mut work: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            (0..rounds).for_each(|_| work());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times.first().copied().unwrap_or_default(), times.get(7).copied().unwrap_or_default())
}

fn selectors(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let labels: Labels =
        [("app", "web"), ("tier", "front"), ("env", "prod"), ("uid", "0815")].into_iter().collect();
    for text in [
        "app == \"web\"",
        "app in {\"web\", \"api\"} && has(tier) && env != \"test\"",
        "(app == \"a\" || app == \"b\" || app == \"web\") && !(env starts with \"dev\") && tier not in {\"x\", \"y\"}",
    ] {
        let (best, median) = time(100_000, || drop(black_box(Selector::parse(black_box(text)))));
        writeln!(out, "selector parse ns best {best:.0} median {median:.0}: {text}")?;
        let selector = Selector::parse(text)?;
        if !selector.matches(&labels) {
            return Err(format!("{text} does not match").into());
        }
        let (best, median) = time(1_000_000, || {
            black_box(selector.matches(black_box(&labels)));
        });
        writeln!(out, "selector match ns best {best:.1} median {median:.1}: {text}")?;
    }
    Ok(())
}

/// 100,000 pods and 10,000 policies from one YAML file to the model, and from the model to the tables.
fn load(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("portcullis-bench-{}.yaml", std::process::id()));
    {
        let mut file = io::BufWriter::new(fs::File::create(&path)?);
        workload::manifests(&mut file, 100_000, 10_000)?;
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
    let mut engine = Engine::new(Settings::default(), CompileScope::All);
    for update in updates {
        engine.apply(update)?;
    }
    engine.commit();
    writeln!(
        out,
        "compile from scratch, every endpoint local: {:.2} s, {} programs, {} tables, {} prefixes, peak memory {} MB",
        start.elapsed().as_secs_f64(),
        engine.snapshot().programs.len(),
        engine.snapshot().tables.len(),
        engine.snapshot().addresses.len(),
        peak_megabytes()?
    )?;
    pod_events(&mut engine, out)
}

/// One pod removed and added again, commits included.
fn pod_events(engine: &mut Engine, out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let pods: Vec<_> = engine.cluster().endpoints().values().step_by(101).take(500).cloned().collect();
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for pod in pods {
        let start = Instant::now();
        engine.apply(Update::RemoveEndpoint(pod.id.clone()))?;
        engine.commit();
        removed.push(start.elapsed().as_secs_f64() * 1e6);
        let start = Instant::now();
        engine.apply(Update::Endpoint(pod))?;
        engine.commit();
        added.push(start.elapsed().as_secs_f64() * 1e6);
    }
    for (what, mut times) in [("removed", removed), ("added", added)] {
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        writeln!(out, "pod {what}, commit included: median {:.1} us, p99 {:.1} us", at(250), at(494))?;
    }
    Ok(())
}

/// 1,000,000 flows in a namespace of 50 policies, through the command, end to end.
fn eval(out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
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
    workload::manifests(&mut file, 200, 50)?;
    file.flush()?;
    let mut text = String::new();
    for number in 0..1_000_000_u32 {
        let (from, to) = workload::flow(number, 200);
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

/// The most memory that this process has had, in megabytes of 1,000,000 bytes.
fn peak_megabytes() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024 / 1_000_000)
}
