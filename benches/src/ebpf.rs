//! The eBPF program in test runs (`BPF_PROG_TEST_RUN`), less a program that does nothing, beside rivals. Root only; nothing
//! is attached.

mod assembler;
mod bytes;
mod changes;
mod hot;
mod lines;
mod load;
mod report;
mod run;
mod tries;
mod uniform;
mod world;

use core::error::Error;
use std::io::Write;

/// Our programs and those of measurements, built from `bpf/measure.bpf.c` by `backends/ebpf/bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/measure.bpf.o");

pub(crate) fn run(what: &[String], out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    type Part = fn(&mut dyn Write) -> Result<(), crate::nftables::Failure>;
    let parts: [(&str, Part); 4] =
        [("hot", hot::run), ("uniform", uniform::run), ("load", load::run), ("changes", changes::run)];
    if let Some(unknown) = what.iter().find(|name| parts.iter().all(|(part, _)| part != name)) {
        return Err(format!("no part `{unknown}`").into());
    }
    for (name, part) in parts {
        if what.is_empty() || what.iter().any(|wanted| wanted == name) {
            part(out).map_err(|error| -> Box<dyn Error> { error })?;
            out.flush()?;
        }
    }
    Ok(())
}
