//! The watch against a real API server. Asked for by `PORTCULLIS_APISERVER`, a folder with the programs etcd and
//! kube-apiserver, as `ci/apiserver/run.sh` builds them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test"
)]

mod control_plane;
mod follower;
mod objects;

use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use follower::Follower;
use objects::{ALL, Known};
use serde_json::json;

#[test]
fn a_real_server_is_followed_through_everything() {
    let Some(programs) = std::env::var_os("PORTCULLIS_APISERVER") else {
        println!(
            "SKIPPED: PORTCULLIS_APISERVER names no folder with etcd and kube-apiserver: no real server was asked"
        );
        return;
    };
    let rounds: u32 =
        std::env::var("PORTCULLIS_APISERVER_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let mut plane = ControlPlane::start(programs.as_ref());
    plane.define_all();
    let mut number = 0;
    create(&plane, &mut number, 5);
    let mut follower = Follower::start(&plane.kubeconfig("watcher"));
    let time = follower.until_synced(&plane, "first list");
    println!("first list of {} objects: {time:?}", follower.world.len());
    follower.least = follower.world.len();

    // Every kind: created, changed, deleted.
    create(&plane, &mut number, 2);
    println!("created: {:?}", follower.until_same(&plane, "created"));
    for known in ALL {
        for name in plane.names(known) {
            plane.patch(known, &name, &json!({"metadata": {"labels": {"changed": "yes"}}}));
        }
    }
    println!("changed: {:?}", follower.until_same(&plane, "changed"));
    delete(&plane, 2);
    follower.least = 0;
    println!("deleted: {:?}", follower.until_same(&plane, "deleted"));
    follower.least = follower.world.len();

    for round in 0..rounds {
        plane.kill_server();
        let away = Instant::now();
        follower.during(Duration::from_millis(700));
        plane.start_server();
        let up = Instant::now();
        create(&plane, &mut number, 1);
        follower.until_same(&plane, "killed");
        println!(
            "killed, round {round}: away {:?}, the same {:?} after it was ready",
            up - away,
            up.elapsed()
        );
        follower.least = follower.world.len();

        plane.signal_server("STOP");
        follower.during(Duration::from_secs(3));
        plane.signal_server("CONT");
        create(&plane, &mut number, 1);
        println!("stopped, round {round}: {:?}", follower.until_same(&plane, "stopped"));
        follower.least = follower.world.len();
    }

    // Versions are forgotten while nothing can be heard: 410.
    plane.kill_server();
    plane.start_server();
    create(&plane, &mut number, 1);
    plane.compact();
    println!("compacted: {:?}", follower.until_same(&plane, "compacted"));
    follower.least = follower.world.len();

    // Rights that are taken away, and given back, while objects change.
    plane.take_rights();
    follower.until("refused", |follower| follower.refused >= ALL.len());
    create(&plane, &mut number, 1);
    follower.during(Duration::from_secs(2));
    plane.give_rights();
    println!("rights: {:?}", follower.until_same(&plane, "rights"));
    follower.least = follower.world.len();

    // A definition that is removed takes its objects along, and is put back.
    let calico = ALL.iter().find(|known| known.plural == "globalnetworkpolicies").unwrap();
    follower.least -= plane.names(calico).len();
    plane.undefine(calico);
    println!("undefined: {:?}", follower.until_same(&plane, "undefined"));
    plane.define(calico);
    plane.create(calico, "back");
    println!("defined again: {:?}", follower.until_same(&plane, "defined again"));
    println!("replacements: {}, refusals: {:?}", follower.replacements, follower.refusals);
    assert!(follower.refusals.is_empty());
    assert_eq!(follower.synced, 1);
}

/// So many objects more of every kind.
fn create(plane: &ControlPlane, number: &mut u32, each: u32) {
    for _ in 0..each {
        *number += 1;
        for known in ALL {
            plane.create(known, &format!("o{number}"));
        }
    }
}

/// So many objects less of every kind.
fn delete(plane: &ControlPlane, each: usize) {
    for known in ALL.iter().filter(|known| !is_needed(known)) {
        for name in plane.names(known).iter().filter(|name| name.starts_with('o')).take(each) {
            plane.delete(known, name);
        }
    }
}

/// Without controllers, a namespace never goes.
fn is_needed(known: &Known) -> bool {
    known.kind == "Namespace"
}
