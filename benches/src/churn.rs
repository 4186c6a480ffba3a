//! A steady stream of mixed changes to a large cluster (W3a): 1,000 a second, a commit for each.

use core::error::Error;
use core::time::Duration;
use std::io::Write;
use std::thread;
use std::time::Instant;

use portcullis::label::Labels;
use portcullis::model::{Action, Namespace, Rule, Update};

use crate::check;
use crate::events::{NAMESPACES, compiled};
use crate::measure::{Times, peak_megabytes};
use crate::workloads::{Names, Random, w3a_pod, w3a_policy};

const UPDATES_A_SECOND: u32 = 1_000;

pub(crate) fn run(seconds: u32, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut engine = compiled()?;
    let (mut names, mut random) = (Names::default(), Random::new(13));
    let mut times = Times::default();
    let mut late = 0_u32;
    let start = Instant::now();
    for number in 0..seconds * UPDATES_A_SECOND {
        let update = change(number, &mut names, &mut random);
        let due = start + Duration::from_secs(1) * number / UPDATES_A_SECOND;
        let now = Instant::now();
        match due.checked_duration_since(now) {
            Some(wait) => thread::sleep(wait),
            None if now - due > Duration::from_millis(10) => late += 1,
            None => {}
        }
        let began = Instant::now();
        engine.apply(update)?;
        let _ = engine.commit();
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let took = start.elapsed().as_secs_f64();
    let (allowed, denied) = check::sample(&engine, 400)?;
    engine.snapshot().verify().map_err(|error| format!("{error}"))?;
    let [p50, p90, p99, p999, worst] = [50_000, 90_000, 99_000, 99_900, 100_000].map(|rank| times.at(rank));
    writeln!(
        out,
        "churn {UPDATES_A_SECOND} updates/s for {took:.1} s: commit p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} p99.9 {p999:.1} worst \
         {worst:.1} us, {late} started over 10 ms late; checked {allowed} allowed, {denied} denied; peak memory {} MB",
        peak_megabytes()?
    )?;
    Ok(())
}

/// Of 100 changes, 80 are to pods, 15 to policies and 5 to labels of namespaces.
fn change(number: u32, names: &mut Names, random: &mut Random) -> Update {
    let ns = random.below(NAMESPACES);
    match random.below(100) {
        0..80 => {
            let pod = w3a_pod(names, ns, if number.is_multiple_of(2) { ns * 4 } else { 100_000 + ns * 4 });
            // Half of those that come are known already: their labels are changed instead.
            match random.below(4) {
                0 => Update::RemoveEndpoint(pod.id),
                1 => Update::Endpoint(w3a_pod_moved(pod)),
                _ => Update::Endpoint(pod),
            }
        }
        80..95 => {
            let mut policy = w3a_policy(names, ns, 1 + random.below(2));
            match random.below(3) {
                0 => Update::RemovePolicy(policy.id),
                1 => {
                    policy.ingress.push(Rule::new(Action::Allow));
                    Update::Policy(policy)
                }
                _ => Update::Policy(policy),
            }
        }
        _ => {
            let labels: Labels =
                [("app", format!("ns-{ns}")), ("step", format!("{}", random.below(3)))].into_iter().collect();
            Update::Namespace(Namespace { name: names.name(&format!("ns-{ns}")), labels })
        }
    }
}

/// The pod with the labels of the other pair.
fn w3a_pod_moved(mut pod: portcullis::model::Endpoint) -> portcullis::model::Endpoint {
    let other = if pod.labels.value("app-1").is_some() { ("app-2", "scale-2") } else { ("app-1", "scale-1") };
    pod.labels = [other].into_iter().collect();
    pod
}
