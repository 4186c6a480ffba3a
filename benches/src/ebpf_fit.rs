//! What whole clusters need of the eBPF maps on a node with 250 pods.

use core::error::Error;
use std::io::Write;
use std::time::Instant;

use portcullis::backend::{Binding, Bindings, DesiredState, Interface, Lower as _};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ebpf::{Lowering, Options};
use portcullis::model::{EndpointId, EndpointKind, Update};
use portcullis::settings::Settings;

use crate::workloads::{self, Workload};

/// Pods of the node, spread evenly over the cluster.
const LOCAL: usize = 250;
const NODE: &str = "local";

/// Lowers each workload with the default capacity.
pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "ebpf, default capacity, {LOCAL} pods of each cluster on the node:")?;
    for workload in workloads::ALL {
        fit(&workload, out)?;
    }
    Ok(())
}

fn fit(workload: &Workload, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut updates = workload.updates();
    let local = settle(&mut updates);
    let mut compiler = Compiler::new(Settings::default(), CompileScope::Node(NODE.into()));
    for update in updates {
        compiler.apply(update)?;
    }
    let _ = compiler.commit();
    let mut bindings = Bindings::new();
    for (id, index) in local.into_iter().zip(10..) {
        let interface = Interface::new(&format!("if{index}"))?.with_index(index);
        bindings.bind(id, Binding::WorkloadAnyAddress { interface });
    }
    let count = bindings.endpoints().count();
    let start = Instant::now();
    let name = workload.name;
    match Lowering::load(Options::new(), DesiredState::new(compiler.snapshot(), &bindings), &()) {
        Ok((_, update)) => writeln!(
            out,
            "{name}: {} pods, lowered in {:.1} ms, {} writes",
            count,
            start.elapsed().as_secs_f64() * 1e3,
            update.writes().len()
        )?,
        Err(error) => writeln!(out, "{name}: {} pods, {error}", count)?,
    }
    Ok(())
}

/// Puts every so manieth workload on the node, and all others elsewhere.
fn settle(updates: &mut [Update]) -> Vec<EndpointId> {
    let count = updates.iter().filter(|update| matches!(update, Update::Endpoint(_))).count();
    let every = count.div_ceil(LOCAL).max(1);
    let mut local = Vec::new();
    let mut number = 0_usize;
    for update in updates {
        let Update::Endpoint(endpoint) = update else { continue };
        if endpoint.id.kind != EndpointKind::Workload {
            continue;
        }
        let here = number.is_multiple_of(every);
        number = number.saturating_add(1);
        endpoint.node = Some(if here { NODE } else { "elsewhere" }.into());
        if here {
            local.push(endpoint.id.clone());
        }
    }
    local
}
