//! The eBPF program in test runs (`BPF_PROG_TEST_RUN`), less a program that does nothing. Root only; nothing is attached.

use core::error::Error;
use core::net::{IpAddr, Ipv6Addr};
use std::io::Write;
use std::time::Instant;

use portcullis::compile::Engine;
use portcullis::ebpf::oracle::Sandbox;
use portcullis::ebpf::{Binding, Bindings, Lowering, Options};
use portcullis::model::{Endpoint, EndpointId, Update};
use portcullis::packet::{Packet, Protocol};

use crate::measure::Times;
use crate::nftables::Failure;
use crate::nftables::world::{POD, endpoint, engine, peer, policy};

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    packets(out).map_err(|error| -> Box<dyn Error> { error })?;
    changes(out).map_err(|error| -> Box<dyn Error> { error })
}

/// Runs of one packet in one measurement.
const REPEAT: u32 = 500_000;
/// Measurements of each kind, in turn.
const ROUNDS: usize = 9;
const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

fn peer_v6(number: usize) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfd00_u128 << 112) | (1 << 64) | u128::try_from(number).unwrap_or(0))
}

/// A rule opens a port of its own to a peer of its own.
fn port(number: usize) -> Result<u16, Failure> {
    Ok(u16::try_from(number)?.saturating_add(1_000))
}

/// The pod at interface 1 and so many policies on it, of one rule each.
fn world(rules: usize) -> Result<(Engine, Bindings), Failure> {
    let mut updates = Vec::new();
    let mut add = |name: &str, label: (&str, &str), addresses: [IpAddr; 2], node: &str| {
        let mut endpoint = Endpoint::new(EndpointId::workload("bench", name));
        endpoint.labels.insert(label.0, label.1);
        endpoint.addresses = addresses.to_vec();
        endpoint.node = Some(node.into());
        updates.push(Update::Endpoint(endpoint));
    };
    add("pod", ("app", "pod"), [POD.into(), POD_V6.into()], "here");
    for number in 0..rules {
        let label = format!("p{number}");
        add(&label, ("peer", &label), [peer(number).into(), peer_v6(number).into()], "there");
    }
    for number in 0..rules {
        let peers = format!("peer == 'p{number}'");
        updates.push(policy(&format!("policy-{number}"), "app == 'pod'", &peers, port(number)?)?);
    }
    let binding = Binding::workload(1, [POD.into(), POD_V6.into()]);
    Ok((engine(updates)?, [(EndpointId::workload("bench", "pod"), binding)].into()))
}

fn packets(out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "ebpf: one packet to a workload, hot, ns over a program that does nothing; best and median of {ROUNDS} interleaved rounds of {REPEAT}"
    )?;
    for rules in [10, 100, 1_000, 10_000] {
        let (engine, bindings) = world(rules)?;
        let start = Instant::now();
        let (lowering, update) = Lowering::fitting(Options::new(), engine.snapshot(), &bindings)?;
        let lowered = start.elapsed();
        let start = Instant::now();
        let mut plain = Sandbox::of(&lowering, &update)?;
        let loaded = start.elapsed();
        let mut tracking = Sandbox::tracking(&lowering, &update)?;
        let middle = rules / 2;
        let packet = |source: IpAddr, destination: IpAddr, port| {
            Packet::new(source, destination, Protocol::UDP).from_port(40_000).to_port(port)
        };
        let open = port(middle)?;
        let cases = [
            ("new flow, IPv4", packet(peer(middle).into(), POD.into(), open), true),
            ("new flow, IPv6", packet(peer_v6(middle).into(), POD_V6.into(), open), true),
            ("denied, IPv4", packet(peer(middle).into(), POD.into(), open.saturating_add(1)), false),
            ("denied, IPv6", packet(peer_v6(middle).into(), POD_V6.into(), open.saturating_add(1)), false),
        ];
        let mut times: Vec<(String, Times)> = Vec::new();
        for round in 0..ROUNDS {
            let mut slot = 0_usize;
            let mut note = |name: String, time: f64| {
                if round == 0 {
                    times.push((name, Times::default()));
                }
                if let Some((_, times)) = times.get_mut(slot) {
                    times.push(time);
                }
                slot = slot.saturating_add(1);
            };
            for (name, packet, allowed) in &cases {
                let nothing = plain.time_nothing(REPEAT)?.as_nanos();
                let (passed, time) = plain.time(packet, REPEAT)?;
                if passed != *allowed {
                    return Err(format!("{name}: the program answers {passed}").into());
                }
                note((*name).into(), difference(time.as_nanos(), nothing));
                if *allowed {
                    let (passed, time) = tracking.time(packet, REPEAT)?;
                    if !passed {
                        return Err(format!("{name}: not established").into());
                    }
                    note(name.replace("new flow", "established"), difference(time.as_nanos(), nothing));
                }
            }
        }
        writeln!(
            out,
            "{rules:>6} rules  lowered {:.1} ms, program and maps loaded {:.1} ms, {} writes",
            lowered.as_secs_f64() * 1e3,
            loaded.as_secs_f64() * 1e3,
            update.writes().len()
        )?;
        for (name, times) in times {
            writeln!(out, "        {name:<20} best {:.0} median {:.0}", times.at(0), times.at(50_000))?;
        }
    }
    Ok(())
}

fn difference(time: u128, nothing: u128) -> f64 {
    let nanoseconds = |time: u128| f64::from(u32::try_from(time).unwrap_or(u32::MAX));
    nanoseconds(time) - nanoseconds(nothing)
}

/// Single changes among 100,000 pods, with lowering and writing.
fn changes(out: &mut dyn Write) -> Result<(), Failure> {
    let mut updates = vec![endpoint("pod", ("app", "pod"), POD, "here")];
    updates.extend((0..100_000).map(|n| endpoint(&format!("peer-{n}"), ("role", "peer"), peer(n), "there")));
    updates.push(policy("open", "app == 'pod'", "role == 'peer'", 80)?);
    let mut engine = engine(updates)?;
    let bindings: Bindings =
        [(EndpointId::workload("bench", "pod"), Binding::workload(1, [POD.into()]))].into();
    let start = Instant::now();
    let (mut lowering, update) = Lowering::load(Options::new(), engine.snapshot(), &bindings)?;
    let lowered = start.elapsed();
    let start = Instant::now();
    let mut sandbox = Sandbox::of(&lowering, &update)?;
    writeln!(
        out,
        "ebpf: 100,000 pods, default capacity: lowered {:.1} ms, loaded {:.1} ms, {} writes",
        lowered.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
        update.writes().len()
    )?;
    let mut measure =
        |what: &str, change: &dyn Fn(usize) -> Result<Update, Failure>| -> Result<(), Failure> {
            let (mut times, mut writes) = (Times::default(), 0_usize);
            for number in 0..200 {
                engine.apply(change(number)?).map_err(|error| error.to_string())?;
                let delta = engine.commit();
                let start = Instant::now();
                let update = lowering.update(engine.snapshot(), &delta, &bindings)?;
                sandbox.carry_out(&update)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
                writes = writes.max(update.writes().len());
                sandbox.carry_out(&lowering.settle())?;
            }
            writeln!(out, "{what}: {}, at most {writes} writes", times.summary("us"))?;
            Ok(())
        };
    let name = |number: usize| format!("new-{number}");
    measure("pod added, known class", &|n| {
        Ok(endpoint(&name(n), ("role", "peer"), peer(n.saturating_add(200_000)), "there"))
    })?;
    measure("pod removed", &|n| Ok(Update::RemoveEndpoint(EndpointId::workload("bench", name(n)))))?;
    measure("policy gets another port", &|n| policy("open", "app == 'pod'", "role == 'peer'", port(n)?))
}
