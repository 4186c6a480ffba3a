//! The rows that are questions of semantics, as every engine answers them offline.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis::evaluate::Evaluate as _;
use portcullis::packet::{Packet, Protocol};
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};
use portcullis_testkit::{Engines, kernel_can_be_asked};

use crate::backends::in_namespaces;
use crate::frames::IPV4;
use crate::rows::semantics;
use crate::table::{Expected, Finding, Row, holds};
use crate::world::{FAMILIES, PODS, World, cluster_of};

/// The packet in a frame without tags, options, extension headers and fragments.
fn parsed(frame: &[u8]) -> Packet {
    let (protocol, addresses, body) = if frame[12..14] == IPV4.to_be_bytes() {
        let at = |from: usize| -> IpAddr {
            Ipv4Addr::from(<[u8; 4]>::try_from(&frame[from..from + 4]).unwrap()).into()
        };
        (frame[23], [at(26), at(30)], &frame[34..])
    } else {
        let at = |from: usize| -> IpAddr {
            Ipv6Addr::from(<[u8; 16]>::try_from(&frame[from..from + 16]).unwrap()).into()
        };
        (frame[20], [at(22), at(38)], &frame[54..])
    };
    let packet = Packet::new(addresses[0], addresses[1], Protocol(protocol));
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match packet.protocol {
        Protocol::UDP | Protocol::TCP => packet.from_port(port(0)).to_port(port(2)),
        Protocol::ICMP | Protocol::ICMPV6 => packet.with_icmp(body[0], body[1]),
        _ => packet,
    }
}

#[test]
fn every_engine_answers_attacks_as_the_kernels_do() {
    if !kernel_can_be_asked() {
        return;
    }
    in_namespaces(|| {
        let world = World::new();
        let cluster = cluster_of(&world.site.pods);
        let ids: Vec<_> = cluster.endpoints().keys().cloned().collect();
        assert_eq!(ids.len(), PODS.len());
        let settings = Settings::default();
        let engines = Engines::new(&cluster, &settings).unwrap();
        let addresses = |who| FAMILIES.map(|family| world.address(who, family));
        let mut asked = BTreeSet::new();
        let mut found: Vec<Finding> = Vec::new();
        for Row { name, from, frames, expected, .. } in semantics(&world).rows() {
            // What discovery is on a link is decided before any hook; a hook exempts nothing (decision D23).
            if matches!(expected, Expected::Reaches(_)) {
                continue;
            }
            let packet = parsed(&frames[0]);
            let pod = PODS.iter().position(|who| who == from);
            let to = PODS.iter().position(|who| addresses(*who).contains(&packet.destination));
            let (at, hook) = match (pod, to) {
                (Some(from), _) => (from, Hook::WorkloadEgress),
                (None, Some(to)) => (to, Hook::WorkloadIngress),
                (None, None) => continue,
            };
            let decision = engines.evaluate(&ids[at], hook, &packet);
            asked.insert(hook);
            let wrong = (decision.verdict != Verdict::Deny).then(|| format!("{decision:?}"));
            found.push((name.clone(), wrong));
        }
        eprintln!("{} rows, {:?} packets by the kernel", found.len(), engines.by_kernel());
        assert!(
            found.len() > 100 && asked.len() == 2 && engines.by_kernel().values().all(|count| *count > 100)
        );
        assert_eq!(engines.differences(), Vec::<String>::new());
        holds("engines", &found);
    });
}
