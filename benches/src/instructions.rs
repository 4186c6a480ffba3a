//! One operation many times, for a counter of instructions around the process. See `benches/instructions.sh`.

use core::error::Error;
use core::hint::black_box;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::label::Labels;
use portcullis::matcher::{Matcher, PacketKey};
use portcullis::model::{EndpointId, Update};
use portcullis::packet::{Packet, Protocol};
use portcullis::selector::Selector;
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};

use crate::workloads::{Names, w3a_pod, w3a_policy};

/// What can be counted.
pub(crate) const OPERATIONS: [&str; 4] = ["selector-parse", "selector-match", "verdict", "pod-event"];

const SELECTOR: &str = "app in {\"web\", \"api\"} && has(tier) && env != \"test\"";
/// Namespaces of the small cluster, shaped as those of W3a.
const NAMESPACES: u32 = 20;

/// Runs the operation `count` times.
pub(crate) fn run(operation: &str, count: u32) -> Result<(), Box<dyn Error>> {
    match operation {
        "selector-parse" => (0..count).for_each(|_| drop(black_box(Selector::parse(black_box(SELECTOR))))),
        "selector-match" => {
            let labels: Labels = [("app", "web"), ("tier", "front"), ("env", "prod")].into_iter().collect();
            let selector = Selector::parse(SELECTOR)?;
            let matched = (0..count).filter(|_| selector.matches(black_box(&labels))).count();
            if matched != usize::try_from(count)? {
                return Err("the selector does not match".into());
            }
        }
        "verdict" => verdicts(count)?,
        "pod-event" => events(count)?,
        _ => return Err(format!("no operation {operation}: {}", OPERATIONS.join(", ")).into()),
    }
    Ok(())
}

fn small(names: &mut Names) -> Result<Compiler, Box<dyn Error>> {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for ns in 0..NAMESPACES {
        for number in 0..4 {
            compiler.apply(Update::Endpoint(w3a_pod(names, ns, ns * 4 + number)))?;
        }
        for number in 0..3 {
            compiler.apply(Update::Policy(w3a_policy(names, ns, number)))?;
        }
    }
    let _ = compiler.commit();
    Ok(compiler)
}

fn verdicts(count: u32) -> Result<(), Box<dyn Error>> {
    let mut names = Names::default();
    let compiler = small(&mut names)?;
    let matcher = Matcher::lower(compiler.snapshot())?;
    let target = w3a_pod(&mut names, 0, 0);
    let handle = matcher.handle(&target.id).ok_or("the pod is not known")?;
    let to = *target.addresses.first().ok_or("a pod without address")?;
    // Its pair, which is allowed, and a pod of the next namespace.
    let mut keys = Vec::new();
    for (ns, number) in [(0, 1), (1, 4)] {
        let from =
            w3a_pod(&mut names, ns, number).addresses.first().copied().ok_or("a pod without address")?;
        let packet = Packet::new(from, to, Protocol::TCP).from_port(40_000).to_port(80);
        keys.push(PacketKey::new(&packet).ok_or("two families")?);
    }
    let mut allowed = 0;
    for key in keys.iter().cycle().take(usize::try_from(count)?) {
        let verdict = matcher.verdict(handle, Hook::WorkloadIngress, black_box(key));
        allowed += u32::from(verdict == Verdict::Allow);
    }
    if allowed == count / 2 { Ok(()) } else { Err(format!("{allowed} of {count} are allowed").into()) }
}

fn events(count: u32) -> Result<(), Box<dyn Error>> {
    let mut names = Names::default();
    let mut compiler = small(&mut names)?;
    let pod = w3a_pod(&mut names, 3, 12);
    let id: EndpointId = pod.id.clone();
    for _ in 0..count {
        compiler.apply(Update::RemoveEndpoint(id.clone()))?;
        let gone = compiler.commit();
        compiler.apply(Update::Endpoint(pod.clone()))?;
        if gone.is_empty() || compiler.commit().is_empty() {
            return Err("an event without effect".into());
        }
    }
    Ok(())
}
