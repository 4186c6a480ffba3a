//! What compiling costs when one tenant makes one thing as large as it can, by size.

use core::error::Error;
use std::fs;
use std::io::Write;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::settings::Settings;
use portcullis_testkit::tenant::{PRODUCTS, SHAPES, Shape};

/// Prints CPU time at three doublings of each shape: from nothing, for one change after it, and to lower the result for nftables and for
/// eBPF with the default capacity. The ratio is that to the size before: 2 is linear, 4 is quadratic. `names` are parts of the names of shapes; none is all of them.
pub(crate) fn run(names: &[String], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for shape in SHAPES.iter().chain(PRODUCTS) {
        if !names.is_empty() && !names.iter().any(|name| shape.name.contains(name.as_str())) {
            continue;
        }
        writeln!(out, "tenant: {}", shape.name)?;
        let mut before: Option<Cost> = None;
        for size in [shape.size / 8, shape.size / 4, shape.size / 2, shape.size] {
            let cost = measure(shape, size)?;
            let ratio = |now: f64, of: fn(&Cost) -> f64| {
                before
                    .as_ref()
                    .map_or_else(String::new, |before| format!(" (x{:.1})", now / of(before).max(1e-6)))
            };
            writeln!(
                out,
                "  {size:>6}: from nothing {:.3} s{}, one change {:.4} s{}, nftables {:.3} s{}, eBPF {:.3} s{}, {} classes, {} intervals{}",
                cost.all,
                ratio(cost.all, |cost| cost.all),
                cost.change,
                ratio(cost.change, |cost| cost.change),
                cost.nftables,
                ratio(cost.nftables, |cost| cost.nftables),
                cost.ebpf,
                ratio(cost.ebpf, |cost| cost.ebpf),
                cost.classes,
                cost.intervals,
                if cost.is_refused { ", refused" } else { "" },
            )?;
            before = Some(cost);
        }
    }
    Ok(())
}

struct Cost {
    all: f64,
    change: f64,
    nftables: f64,
    ebpf: f64,
    is_refused: bool,
    classes: usize,
    intervals: usize,
}

fn measure(shape: &Shape, size: u32) -> Result<Cost, Box<dyn Error>> {
    let objects = (shape.objects)(size);
    let change = (shape.change)(size);
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    let start = cpu_seconds()?;
    for object in objects {
        compiler.apply(object)?;
    }
    let _ = compiler.commit();
    let compiled = cpu_seconds()?;
    compiler.apply(change)?;
    if compiler.commit().is_empty() && shape.size == size {
        // Some changes concern nobody; what they cost is still of interest.
        compiler.snapshot().verify()?;
    }
    let changed = cpu_seconds()?;
    let classes = compiler.slots().iter().find(|slots| slots.name == "classes").map_or(0, |slots| slots.used);
    let maps = compiler.snapshot().tables.iter().flat_map(|(_, table)| table.port_maps());
    let intervals = maps.map(|map| map.intervals().len()).sum();
    let is_refused = compiler.excess().is_some();
    let (nftables, ebpf) = lower(&compiler)?;
    Ok(Cost {
        all: compiled - start,
        change: changed - compiled,
        nftables,
        ebpf,
        is_refused,
        classes,
        intervals,
    })
}

/// What lowering for the first pod takes.
#[cfg(target_os = "linux")]
fn lower(compiler: &Compiler) -> Result<(f64, f64), Box<dyn Error>> {
    use portcullis::backend::{Binding, Bindings, DesiredState, Interface, Lower as _};
    use portcullis::{ebpf, nftables};

    let mut bindings = Bindings::new();
    if let Some(id) = compiler.cluster().endpoints().keys().next() {
        let interface = Interface::new("if1")?.with_index(10);
        bindings.bind(id.clone(), Binding::WorkloadAnyAddress { interface });
    }
    let desired = DesiredState::new(compiler.snapshot(), &bindings);
    let start = cpu_seconds()?;
    let of_nftables =
        nftables::Lowering::load(nftables::Options::new(), desired, &nftables::Existing::default());
    let between = cpu_seconds()?;
    // What does not fit is of interest for its time, too.
    let of_ebpf = ebpf::Lowering::load(ebpf::Options::new(), desired, &());
    let end = cpu_seconds()?;
    drop((of_nftables, of_ebpf));
    Ok((between - start, end - between))
}

#[cfg(not(target_os = "linux"))]
fn lower(_: &Compiler) -> Result<(f64, f64), Box<dyn Error>> {
    Ok((0.0, 0.0))
}

/// The time that this thread has had on a CPU.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: u64 = text.split_whitespace().next().ok_or("no CPU time in schedstat")?.parse()?;
    Ok(core::time::Duration::from_nanos(nanoseconds).as_secs_f64())
}
