//! The oracle against the IR interpreter on generated clusters.

use std::time::Instant;

use crate::oracle::Oracle;
use portcullis_core::backend::{Oracle as _, OracleErrorKind};
use portcullis_core::ir::{Interpreter, View};
use portcullis_core::model::EndpointId;
use portcullis_core::packet::Packet;
use portcullis_core::verdict::Hook;
use portcullis_testkit::generate::Generator;

use super::load::compiler;

#[test]
fn the_kernel_decides_as_the_tables_say() {
    if !portcullis_testkit::kernel_can_be_asked() {
        eprintln!("SKIPPED: the kernel was not asked, that needs root, `nft` and `ip`");
        return;
    }
    let rounds: u64 = std::env::var("PORTCULLIS_ROUNDS").map_or(12, |rounds| rounds.parse().unwrap());
    let (mut asked, mut unasked, mut differences) = (0_usize, 0_usize, Vec::new());
    let mut took = core::time::Duration::ZERO;
    for seed in 0..rounds {
        let mut generator = Generator::new(seed);
        let compiled = compiler(&mut generator);
        let snapshot = compiled.snapshot();
        let interpreter = Interpreter::new(snapshot);
        let oracle = Oracle::load(snapshot.clone(), View::Enforced).unwrap();
        let hooks: Vec<(&EndpointId, Hook)> = snapshot
            .endpoints
            .iter()
            .flat_map(|(id, entry)| entry.enforced.0.keys().map(move |hook| (id, *hook)))
            .collect();
        let began = Instant::now();
        for (id, hook) in hooks {
            for _ in 0..25 {
                let packet: Packet = generator.packet();
                let want = interpreter.decide(id, hook, &packet);
                match oracle.ask(id, hook, &packet) {
                    Ok(got) if got == want => asked += 1,
                    Ok(got) => {
                        differences.push(format!("{seed} {id} {hook} {packet:?}: {got:?}, not {want:?}"))
                    }
                    Err(error) if error.kind() != OracleErrorKind::Unaskable => {
                        differences.push(format!("{seed} {id} {hook} {packet:?}: {error}"));
                    }
                    Err(error) => {
                        unasked += 1;
                        if unasked < 10 {
                            eprintln!("{seed} {id} {hook} {packet:?}: {error} ({want:?})");
                        }
                    }
                }
            }
        }
        took += began.elapsed();
    }
    eprintln!("{asked} packets decided by the kernel in {took:?}, {unasked} could not be asked");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(10)].join("\n")
    );
}
