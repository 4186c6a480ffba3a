//! From an address to its class: the matcher beside longest-prefix-match tables.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use poptrie::Poptrie;
use portcullis::ir::{ClassId, Id as _, Snapshot};
use portcullis::matcher::Matcher;
use portcullis::net::Cidr;
use prefix_trie::PrefixMap;

use crate::{Lane, Random, interleave};

/// Compares the tables on 100,000 single addresses and 2,000 prefixes.
pub fn run() {
    let mut random = Random(0x5eed_0002);
    let mut nets: Vec<(Ipv4Net, u32)> = Vec::new();
    for number in 0..100_000u32 {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
        nets.push((Ipv4Net::new(address, 32).unwrap(), 1 + number % 5_000));
    }
    for number in 0..2_000u32 {
        let address = Ipv4Addr::from_bits((random.below(1 << 30) as u32) | 0x4000_0000);
        let prefix = 12 + (random.below(17) as u8);
        nets.push((Ipv4Net::new(address, prefix).unwrap().trunc(), 5_001 + number));
    }
    let mut snapshot = Snapshot::new();
    for (net, class) in &nets {
        let cidr = Cidr::new(IpAddr::V4(net.addr()), net.prefix_len()).unwrap();
        snapshot.addresses.insert(cidr, ClassId::new(*class));
    }
    let matcher = Matcher::lower(&snapshot).unwrap();
    let numbers = nets.iter().map(|(net, class)| ((net.addr().to_bits(), net.prefix_len()), *class));
    let poptrie: Poptrie<(u32, u8), u32> = numbers.collect();
    let trie: PrefixMap<Ipv4Net, u32> = nets.iter().copied().collect();
    let hash: HashMap<u32, u32> = nets
        .iter()
        .filter(|(net, _)| net.prefix_len() == 32)
        .map(|(net, c)| (net.addr().to_bits(), *c))
        .collect();

    for (what, inside) in [("pods", true), ("outside", false)] {
        let addresses: Vec<Ipv4Addr> = (0..4_096)
            .map(|_| {
                let bits = if inside {
                    0x0a00_0000 + random.below(100_000) as u32
                } else {
                    0x4000_0000 | random.below(1 << 30) as u32
                };
                Ipv4Addr::from_bits(bits)
            })
            .collect();
        // What the tables must say, by one of them; the others are held to it.
        let expected: u64 = addresses.iter().map(|a| look_up(&trie, *a)).map(u64::from).sum();
        let mut lanes: Vec<(Lane, Box<dyn FnMut() + '_>, usize)> = vec![
            (
                Lane::new("portcullis matcher"),
                Box::new(|| {
                    let class = |a: &Ipv4Addr| u64::from(matcher.class(IpAddr::V4(*a)).number());
                    assert_eq!(addresses.iter().map(class).sum::<u64>(), expected);
                }),
                addresses.len(),
            ),
            (
                Lane::new("poptrie"),
                Box::new(|| {
                    let class = |a: &Ipv4Addr| u64::from(poptrie.lookup(a.to_bits()).copied().unwrap_or(0));
                    assert_eq!(addresses.iter().map(class).sum::<u64>(), expected);
                }),
                addresses.len(),
            ),
            (
                Lane::new("prefix-trie"),
                Box::new(|| {
                    let class = |a: &Ipv4Addr| u64::from(look_up(&trie, *a));
                    assert_eq!(addresses.iter().map(class).sum::<u64>(), expected);
                }),
                addresses.len(),
            ),
        ];
        if inside {
            lanes.push((
                Lane::new("std HashMap, /32 only"),
                Box::new(|| {
                    let class = |a: &Ipv4Addr| u64::from(hash.get(&a.to_bits()).copied().unwrap_or(0));
                    assert_eq!(addresses.iter().map(class).sum::<u64>(), expected);
                }),
                addresses.len(),
            ));
        }
        interleave(&mut lanes);
        for (lane, ..) in lanes {
            lane.report(what);
        }
    }
}

fn look_up(trie: &PrefixMap<Ipv4Net, u32>, address: Ipv4Addr) -> u32 {
    let host = Ipv4Net::new(address, 32).unwrap();
    trie.get_lpm(&host).map_or(0, |(_, class)| *class)
}
