//! JSON makes the same table as text, for whole snapshots and for every delta.

use std::io::Write as _;
use std::process::{Command, Stdio};

use portcullis_core::backend::{DataplaneOptions, DesiredState, Lower as _, LowerErrorKind};
use portcullis_testkit::generate::Generator;

use super::enforce::World;
use super::load::{bindings, compiler, options, similar};
use super::{in_namespace, nft, tables};
use crate::update::Update;
use crate::{Existing, Lowering, Nft, Options};

/// Feeds each batch to `nft -j`, after it was checked.
fn by_json(update: &Update) {
    for batch in update.json().unwrap() {
        for arguments in [&["-j", "-c", "-f", "-"][..], &["-j", "-f", "-"]] {
            let mut child = Command::new("nft")
                .args(arguments)
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(batch.to_string().as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "nft {arguments:?}: {output:?}\n{batch:#}");
        }
    }
}

#[test]
fn json_and_text_make_the_same_table() {
    for seed in 0..20 {
        let lower = move || {
            // What nft has no JSON for.
            let shared = options().shared().clone().with_check_neighbour_claims(false);
            let options = Options::from(shared);
            let snapshot = compiler(&mut Generator::new(seed)).snapshot().clone();
            let bindings = bindings(&snapshot);
            Lowering::load(options, DesiredState::new(&snapshot, &bindings), &Existing::default()).unwrap().1
        };
        let listed = in_namespace(move || {
            by_json(&lower());
            tables()
        });
        let want = in_namespace(move || {
            Nft::probe().unwrap().carry_out(&lower()).unwrap();
            tables()
        });
        if let (Some(listed), Some(want)) = (listed, want) {
            similar(&listed, &want, seed);
        }
    }
}

#[test]
fn json_follows_deltas_as_text_does() {
    for seed in 0..4 {
        let listed = in_namespace(move || {
            let options = Options::from(DataplaneOptions::new().with_check_neighbour_claims(false));
            let mut world = World::new(seed);
            let bindings = world.bindings();
            let desired = DesiredState::new(world.compiler.snapshot(), &bindings);
            let (mut lowering, update) =
                Lowering::load(options.clone(), desired, &Existing::default()).unwrap();
            let mut updates = vec![update];
            for _ in 0..6 {
                let delta = world.change();
                let bindings = world.bindings();
                let desired = DesiredState::new(world.compiler.snapshot(), &bindings);
                updates.push(lowering.update(desired, &delta).unwrap());
            }
            updates.iter().for_each(by_json);
            let listed = tables();
            nft(&["delete", "table", "inet", "portcullis"]);
            let program = Nft::probe().unwrap();
            updates.iter().for_each(|update| program.carry_out(update).unwrap());
            (listed, tables())
        });
        if let Some((listed, want)) = listed {
            similar(&listed, &want, seed);
        }
    }
}

#[test]
fn what_has_no_json_is_an_error() {
    let snapshot = compiler(&mut Generator::new(0)).snapshot().clone();
    let bindings = bindings(&snapshot);
    let desired = DesiredState::new(&snapshot, &bindings);
    let (_, update) = Lowering::load(options(), desired, &Existing::default()).unwrap();
    let error = update.json().unwrap_err();
    assert!(matches!(error.kind(), LowerErrorKind::Unsupported { .. }), "{error}");
}
