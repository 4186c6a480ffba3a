//! Measures what `benches/RESULTS.md` records. Every workload comes from a fixed seed, and every timed result is checked.

mod check;
mod churn;
mod compile;
#[cfg(target_os = "linux")]
mod ebpf;
#[cfg(target_os = "linux")]
mod ebpf_fit;
mod events;
mod files;
mod instructions;
mod manifests;
mod measure;
#[cfg(target_os = "linux")]
mod nftables;
mod selectors;
mod tenant;
mod workloads;

use core::error::Error;
use std::{env, io};

const USAGE: &str = "portcullis-bench [selectors | load | eval | compile [WORKLOAD]... | events | churn [SECONDS] | tenant [SHAPE] | nftables [packets] [load] | ebpf [hot] [uniform] [load] [changes] | ebpf-fit]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((what, arguments)) = arguments.split_first() else {
        selectors::run(&mut out)?;
        files::load(&mut out)?;
        files::eval(&mut out)?;
        compile::run(&[], &mut out)?;
        events::run(&mut out)?;
        return churn::run(10, &mut out);
    };
    match (what.as_str(), arguments) {
        ("selectors", []) => selectors::run(&mut out),
        ("load", []) => files::load(&mut out),
        ("eval", []) => files::eval(&mut out),
        ("compile", names) => compile::run(names, &mut out),
        ("compile-one", [name]) => compile::run_one(name, &mut out),
        ("instructions", [operation, count]) => instructions::run(operation, count.parse()?),
        ("events", []) => events::run(&mut out),
        #[cfg(target_os = "linux")]
        ("nftables", what) => nftables::run(what, &mut out),
        #[cfg(target_os = "linux")]
        ("ebpf", what) => ebpf::run(what, &mut out),
        #[cfg(target_os = "linux")]
        ("ebpf-fit", []) => ebpf_fit::run(&mut out),
        ("tenant", what) => tenant::run(what, &mut out),
        ("churn", []) => churn::run(10, &mut out),
        ("churn", [seconds]) => churn::run(seconds.parse()?, &mut out),
        _ => Err(USAGE.into()),
    }
}
