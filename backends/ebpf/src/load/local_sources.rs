//! Sources that only workloads of this node may have, and peers of tunnels: see `bpf/sources.h`.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::{IpAddr, Ipv4Addr};

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData};
use portcullis_core::net::Cidr;

use crate::error::{Context as _, LoadError};
use crate::load::take_map::take;
use crate::lower::endpoint::words_of;

/// The addresses that workloads are bound to, by the interfaces that hold them.
pub(crate) struct LocalSources {
    v4: HashMap<MapData, u32, u32>,
    v6: HashMap<MapData, [u32; 4], u32>,
    of: BTreeMap<u32, BTreeSet<IpAddr>>,
    holders: BTreeMap<IpAddr, u32>,
}

impl LocalSources {
    pub(crate) fn open(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let (v4, v6) = (take(ebpf, "local_v4")?, take(ebpf, "local_v6")?);
        Ok(Self { v4, v6, of: BTreeMap::new(), holders: BTreeMap::new() })
    }

    /// The workload at `interface` has these addresses.
    pub(crate) fn set(&mut self, interface: u32, now: BTreeSet<IpAddr>) -> Result<(), LoadError> {
        let before = self.of.insert(interface, now.clone()).unwrap_or_default();
        if now.is_empty() {
            self.of.remove(&interface);
        }
        for address in now.difference(&before) {
            let holders = self.holders.entry(*address).or_default();
            *holders = holders.saturating_add(1);
            if *holders == 1 {
                match address {
                    IpAddr::V4(address) => self.v4.insert(word_of(*address), 1, 0),
                    IpAddr::V6(address) => self.v6.insert(words_of(*address), 1, 0),
                }
                .context("local addresses")?;
            }
        }
        for address in before.difference(&now) {
            let Some(holders) = self.holders.get_mut(address) else { continue };
            *holders = holders.saturating_sub(1);
            if *holders == 0 {
                self.holders.remove(address);
                // What is not there need not be removed.
                drop(match address {
                    IpAddr::V4(address) => self.v4.remove(&word_of(*address)),
                    IpAddr::V6(address) => self.v6.remove(&words_of(*address)),
                });
            }
        }
        Ok(())
    }
}

/// Fills the tries of `name` for both families with `nets`. They stay with `ebpf`.
pub(crate) fn fill(ebpf: &mut Ebpf, name: &str, nets: &[Cidr]) -> Result<(), LoadError> {
    let what = format!("map `{name}`");
    for net in nets {
        let prefix = u32::from(net.prefix());
        let version = if net.address().is_ipv4() { 4 } else { 6 };
        let map = ebpf.map_mut(&format!("{name}_v{version}"));
        let map = map.ok_or_else(|| LoadError::plain(format!("the object has no {what}")))?;
        match net.address() {
            IpAddr::V4(address) => {
                let mut trie: LpmTrie<_, u32, u32> = map.try_into().context(&what)?;
                trie.insert(&Key::new(prefix, word_of(address)), 1, 0)
            }
            IpAddr::V6(address) => {
                let mut trie: LpmTrie<_, [u32; 4], u32> = map.try_into().context(&what)?;
                trie.insert(&Key::new(prefix, words_of(address)), 1, 0)
            }
        }
        .context(&what)?;
    }
    Ok(())
}

fn word_of(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}
