//! Packets that lie: the program never lets one pass that the reference denies, and never complains. As root only.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::backend::{Binding, Bindings, DataplaneOptions, DesiredState, Interface, LoggedEvents};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::{Interpreter, Snapshot};
use portcullis_core::model::{Cluster, EndpointId, EndpointKind};
use portcullis_core::packet::{Icmp, Packet, Protocol};
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_core::wire::craft;
use portcullis_ebpf::oracle::Sandbox;
use portcullis_ebpf::{Lowering, Options};
use portcullis_testkit::generate::Generator;
use portcullis_testkit::kernel_can_be_asked;

/// What a receiver makes of the bytes: its own reading, written from the RFCs, not from the program. `None` when no policy
/// could be asked, so the program has to drop it.
fn read(bytes: &[u8]) -> Option<Packet> {
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) = match bytes.first()? >> 4 {
        4 => {
            let header = usize::from(bytes.first()? & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
            let body = bytes.get(..total)?.get(header..)?;
            let fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]);
            if header < 20 || fragment & 0x1fff != 0 {
                return None;
            }
            let at = |at: usize| Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?));
            (at(12)?.into(), at(16)?.into(), *bytes.get(9)?, body)
        }
        6 => {
            let length = usize::from(u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]));
            let at = |at: usize| Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?));
            let (source, destination) = (at(8)?, at(24)?);
            let mut next = *bytes.get(6)?;
            let mut body = bytes.get(40..)?.get(..length)?;
            while matches!(next, 0 | 43 | 44 | 60) {
                let size = match next {
                    44 => {
                        if u16::from_be_bytes([*body.get(2)?, *body.get(3)?]) >> 3 != 0 {
                            return None;
                        }
                        8
                    }
                    _ => (usize::from(*body.get(1)?) + 1) * 8,
                };
                next = *body.first()?;
                body = body.get(size..)?;
            }
            (source.into(), destination.into(), next, body)
        }
        _ => return None,
    };
    // As it is on the wire: an IPv4-mapped address in an IPv6 header is no IPv4 address.
    let mut packet =
        Packet::new(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into(), Protocol(protocol));
    (packet.source, packet.destination) = (source, destination);
    let need = match packet.protocol {
        Protocol::TCP => 20,
        Protocol::UDP => 8,
        Protocol::SCTP => 12,
        Protocol::ICMP | Protocol::ICMPV6 => 4,
        _ => 0,
    };
    if payload.len() < need {
        return None;
    }
    if packet.protocol.has_ports() {
        packet.source_port = u16::from_be_bytes([payload[0], payload[1]]);
        packet.destination_port = u16::from_be_bytes([payload[2], payload[3]]);
    } else if need == 4 {
        packet.icmp = Some(Icmp { kind: payload[0], code: payload[1] });
    }
    Some(packet)
}

/// A frame that nobody should send.
fn spoil(generator: &mut Generator, packet: &Packet) -> Option<Vec<u8>> {
    let mut bytes = craft(packet)?;
    let byte = |generator: &mut Generator| u8::try_from(generator.below(256)).unwrap();
    let at = |generator: &mut Generator, length: usize| {
        usize::try_from(generator.below(u64::try_from(length.max(1)).unwrap())).unwrap()
    };
    let v6 = bytes[0] >> 4 == 6;
    match generator.below(10) {
        // Cut off.
        0 => {
            let length = at(generator, bytes.len());
            bytes.truncate(length);
        }
        // A length that is not true.
        1 => {
            let place = if v6 { 4 } else { 2 } + at(generator, 2);
            bytes[place] = byte(generator);
        }
        // Any header length.
        2 if !v6 => bytes[0] = 0x40 | (byte(generator) & 15),
        // Fragments, in particular early ones.
        3 if !v6 => {
            bytes[6] = byte(generator) & 0x20;
            bytes[7] = byte(generator) & 3;
        }
        // Any protocol.
        4 => bytes[if v6 { 6 } else { 9 }] = byte(generator),
        // Any type of ICMP.
        5 => {
            bytes[if v6 { 6 } else { 9 }] = if v6 { 58 } else { 1 };
            bytes[if v6 { 40 } else { 20 }] = byte(generator);
        }
        // Extension headers, one after the other.
        6 | 7 if v6 => {
            let mut next = bytes[6];
            let mut chain = Vec::new();
            for _ in 0..=generator.below(10) {
                let kind = [0, 43, 44, 51, 60, 59, 135][at(generator, 7)];
                let mut header = vec![next, 0, 0, 0, 0, 0, 0, 0];
                match kind {
                    44 => (header[2], header[3]) = (0, byte(generator) & 0x19),
                    51 => {
                        header[1] = 1;
                        header.extend([0; 4]);
                    }
                    _ if generator.below(8) == 0 => header[1] = byte(generator),
                    _ => {}
                }
                header.extend(chain);
                chain = header;
                next = kind;
            }
            bytes[6] = next;
            let rest = bytes.split_off(40);
            bytes.extend(chain);
            bytes.extend(rest);
            let length = u16::try_from(bytes.len() - 40).unwrap().to_be_bytes();
            (bytes[4], bytes[5]) = (length[0], length[1]);
        }
        // Anything anywhere.
        8 => {
            for _ in 0..=generator.below(6) {
                let place = at(generator, bytes.len());
                bytes[place] = byte(generator);
            }
        }
        // Nothing but noise, or the packet as it is.
        _ if generator.below(2) == 0 => {
            for byte_of in bytes.iter_mut().skip(1) {
                *byte_of = byte(generator);
            }
        }
        _ => {}
    }
    Some(bytes)
}

fn allows(snapshot: &Snapshot, id: &EndpointId, hook: Hook, packet: &Packet) -> bool {
    let verdict = Interpreter::new(snapshot).decide(id, hook, packet).verdict;
    matches!(verdict, Verdict::Allow | Verdict::Continue)
}

#[test]
fn no_packet_that_lies_passes_where_the_reference_denies() {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let wanted: u64 = std::env::var("PORTCULLIS_PACKETS").map_or(60_000, |value| value.parse().unwrap());
    let (mut asked, mut passed, mut unreadable) = (0_u64, 0_u64, 0_u64);
    for seed in 0.. {
        let mut generator = Generator::new(seed);
        let cluster: Cluster = generator.cluster().into_iter().collect();
        let compiler =
            Compiler::from_cluster(cluster.clone(), Settings::default(), CompileScope::All).unwrap();
        let snapshot = compiler.snapshot();
        let workloads = cluster.endpoints().keys().filter(|id| id.kind == EndpointKind::Workload);
        let bindings: Bindings = workloads
            .cloned()
            .zip(10..)
            .map(|(id, index)| (id, Interface::new(&format!("if{index}")).unwrap().with_index(index)))
            .map(|(id, interface)| (id, Binding::WorkloadAnyAddress { interface }))
            .collect();
        let options = Options::from(DataplaneOptions::new().with_events(LoggedEvents::All));
        let (lowering, update) = Lowering::fitting(options, DesiredState::new(snapshot, &bindings)).unwrap();
        let mut sandbox = Sandbox::of(&lowering, &update).unwrap();
        for _ in 0..2_000 {
            if asked >= wanted {
                println!("{asked} packets, {passed} passed, {unreadable} that policy cannot be asked about");
                assert!(passed > 0 && unreadable > 0);
                return;
            }
            let packet = generator.packet();
            let Some(bytes) = spoil(&mut generator, &packet) else { continue };
            let number =
                usize::try_from(generator.below(bindings.endpoints().count().max(1) as u64)).unwrap();
            let Some((id, binding)) = bindings.endpoints().nth(number) else { continue };
            let hook = if generator.below(2) == 0 { Hook::WorkloadEgress } else { Hook::WorkloadIngress };
            let Ok(came) = sandbox.pass(binding.interfaces()[0].index().unwrap(), hook, &bytes) else {
                // The kernel does not take frames that are shorter than their Ethernet header says.
                continue;
            };
            asked += 1;
            let meaning = read(&bytes);
            let allowed = meaning.as_ref().is_some_and(|packet| allows(snapshot, id, hook, packet));
            passed += u64::from(came);
            unreadable += u64::from(meaning.is_none());
            assert!(
                !came || allowed,
                "seed {seed}: {id} {hook} lets pass what reads as {meaning:?}: {bytes:02x?}"
            );
        }
    }
}
