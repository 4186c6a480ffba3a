//! A flow that policy ended stays so, whichever end goes on.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use portcullis::backend::{DataplaneOptions, DesiredState, TrackedFlow};

use crate::backends::{Variants, complete, on_every};
use crate::cluster::tighten;
use crate::flood::flood;
use crate::packets::bound;
use crate::table::{Finding, Wire as _, holds};
use crate::taps::mark;
use crate::world::Who::{A, B};
use crate::world::{FAMILIES, Family, Who, World};

/// B lets nobody in; before, it was open to A.
const OPEN: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [b, m, mute]}]}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 9000}]}]
";

const SHUT: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [b, m, mute]}]}
  policyTypes: [Ingress]
";

/// Sends something all the time to everybody who connects, and reads what they say.
fn pushes(at: (IpAddr, u16)) {
    let listener = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = stream.try_clone().unwrap();
            std::thread::spawn(move || while reader.read(&mut [0; 512]).is_ok_and(|count| count > 0) {});
            std::thread::spawn(move || {
                while stream.write_all(b"push").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
}

/// Whether B hears what the client writes now, for a while.
fn heard(world: &World, stream: &mut TcpStream, row: usize) -> bool {
    let end = Instant::now() + Duration::from_millis(700);
    let mut heard = std::collections::BTreeMap::new();
    while Instant::now() < end {
        // Its buffer holds more than comes of this.
        let _ = stream.write_all(&mark(row));
        std::thread::sleep(Duration::from_millis(10));
        world.hear(&mut heard);
        if heard[&B].contains(&row) {
            return true;
        }
    }
    false
}

fn connection(world: &World, family: Family) -> TcpStream {
    let to = world.address(B, family);
    let stream = world.pod(A).run(move || TcpStream::connect((to, 9_000)).unwrap()).recv().unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

#[test]
fn a_flow_that_was_cut_stays_cut_whichever_end_goes_on() {
    on_every(Variants::Default, |under| {
        let world = World::new();
        let under = under.at(&world.site);
        let addresses = FAMILIES.map(|family| world.address(B, family));
        world.pod(B).run(move || addresses.map(|at| pushes((at, 9_000)))).recv().unwrap();
        let (mut compiler, ids) = world.policy();
        let _ = tighten(&mut compiler, OPEN);
        let bindings = bound(&world, &ids);
        let under = under.with_flows(4_096);
        let options = DataplaneOptions::new().with_flows_per_interface(1_024);
        let mut dataplane = under.load(options, &compiler, &bindings);
        let mut flows = FAMILIES.map(|family| connection(&world, family));
        for (row, flow) in flows.iter_mut().enumerate() {
            assert!(heard(&world, flow, row), "the test hears nothing of a flow that is allowed");
        }
        let delta = tighten(&mut compiler, SHUT);
        complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
        let of_the_flows = |flow: &TrackedFlow| flow.packet.destination_port == 9_000;
        assert!(dataplane.terminate(&of_the_flows).unwrap() >= 2);
        let mut found: Vec<Finding> = Vec::new();
        let mut look = |when: &str, row: usize, flows: &mut [TcpStream; 2]| {
            for ((at, flow), family) in flows.iter_mut().enumerate().zip(FAMILIES) {
                // What was on its way.
                if row == 10 && at == 0 {
                    std::thread::sleep(Duration::from_millis(50));
                    world.hear(&mut std::collections::BTreeMap::new());
                }
                let wrong = heard(&world, flow, row + at).then(|| "it goes on".to_owned());
                found.push((format!("a cut flow {when}, {family}"), wrong));
            }
        };
        look("is silent", 10, &mut flows);
        flood(&world, Who::M, A, 6_000);
        look("after a flood of M", 20, &mut flows);
        flood(&world, A, Who::C, 6_000);
        look("after a flood of its own", 30, &mut flows);
        holds(under.backend.name(), &found);
        dataplane.remove().unwrap();
    });
}
