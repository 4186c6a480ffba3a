//! What a packet costs at the flow table and at a reader, against a verdict of the matcher alone.
//!
//! Run with `cargo bench -p portcullis-matcher --bench flows`. Every answer is checked.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::time::Instant;

use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::label::Labels;
use portcullis_core::model::{Action, Endpoint, EndpointId, Profile, ProfileOrigin, Rule, Update};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_matcher::{Basis, Ends, FlowLimits, FlowPacket, FlowTable, Matcher, PacketKey, Publisher};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const ROUNDS: u32 = 7;

fn main() {
    let id = EndpointId::workload("shop", "client");
    let (ingress, egress) = (vec![], vec![Rule::new(Action::Allow)]);
    let (labels, origin) = (Labels::new(), ProfileOrigin::Declared);
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    compiler.apply(Update::Profile(Profile { name: "out".into(), ingress, egress, labels, origin })).unwrap();
    let endpoint = Endpoint { profiles: vec!["out".into()], ..Endpoint::new(id.clone()) };
    compiler.apply(Update::Endpoint(endpoint)).unwrap();
    let _ = compiler.commit();
    let publisher = Publisher::new(Matcher::lower(compiler.snapshot()).unwrap());
    let mut reader = publisher.reader();
    let client = publisher.current().handle(&id).unwrap();

    let key = PacketKey::new(&request(7)).unwrap();
    measure("matcher: verdict", 1 << 20, |_| {
        let verdict = publisher.current().verdict(client, Hook::WorkloadEgress, black_box(&key));
        assert_eq!(verdict, Verdict::Allow);
    });
    measure("reader: current and verdict", 1 << 20, |_| {
        let verdict = reader.current().verdict(client, Hook::WorkloadEgress, black_box(&key));
        assert_eq!(verdict, Verdict::Allow);
    });

    let (out, back) = (Ends::workloads(Some(client), None), Ends::workloads(None, Some(client)));
    for flows in [16, 4_096, 65_536, 1_048_576] {
        let matcher = reader.current();
        let mut table = FlowTable::new(&FlowLimits::new(flows)).unwrap();
        // A packet takes 100 ns, so that a millisecond passes now and then.
        let mut now = Duration::ZERO;
        let mut check = |ends, packet: &Packet, basis| {
            now += Duration::from_nanos(100);
            let answer = table.check(matcher, now, ends, &FlowPacket::new(packet));
            assert_eq!((answer.verdict, answer.basis), (Verdict::Allow, basis));
        };
        (0..flows).for_each(|flow| check(out, &request(flow), Basis::New));
        let order = |n: u32| n.wrapping_mul(2_654_435_761) % flows;
        measure(&format!("{flows} flows: request"), 1 << 20, |n| {
            check(out, &request(order(n)), Basis::Established);
        });
        measure(&format!("{flows} flows: reply"), 1 << 20, |n| {
            check(back, &reply(order(n)), Basis::Reply);
        });
        let mut next = flows;
        measure(&format!("{flows} flows, all taken: new flow"), 1 << 18, |_| {
            check(out, &request(next), Basis::New);
            next += 1;
        });
    }
}

/// The nth flow of the client: another server port and address for each.
fn request(flow: u32) -> Packet {
    let [high, middle, low, last] = flow.to_be_bytes();
    let server = IpAddr::V4(Ipv4Addr::new(100, high, middle, low));
    Packet::new(CLIENT, server, Protocol::UDP).from_port(4_000).to_port(1_000 + u16::from(last))
}

fn reply(flow: u32) -> Packet {
    let Packet { source, destination, protocol, source_port, destination_port, .. } = request(flow);
    Packet::new(destination, source, protocol).from_port(destination_port).to_port(source_port)
}

/// Prints the best and the median time of one call.
fn measure(what: &str, calls: u32, mut call: impl FnMut(u32)) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(&mut call);
            start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let best = times.first().copied().unwrap_or_default();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("{what}: best {best:.1} ns, median {median:.1} ns");
}
