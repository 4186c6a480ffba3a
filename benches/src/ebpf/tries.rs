//! A rival: LPM tries, one from address to identity and one of policy for each endpoint. See `bpf/rivals.bpf.c`.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, MapData, MapError};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use portcullis::ebpf::oracle::{Drawing, Draws, END_WORDS, MOST_DRAWN};
use portcullis::packet::{Packet, Protocol};
use portcullis::wire::craft;

use crate::nftables::Failure;

/// The rivals' programs as they were built from `bpf/rivals.bpf.c` by `backends/ebpf/bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/rivals.bpf.o");

/// Identity, then direction, protocol and port.
type Policy = LpmTrie<MapData, [u32; 2], [u32; 2]>;

/// The maps, filled.
pub(super) struct Tries {
    ebpf: Ebpf,
    identities_v4: LpmTrie<MapData, u32, u32>,
    identities_v6: LpmTrie<MapData, [u32; 4], u32>,
    policies: ArrayOfMaps<MapData, Policy>,
    /// Of each interface.
    open: HashMap<u32, Policy>,
    /// Entries of all maps.
    pub(super) entries: usize,
}

/// The object with all rivals in it.
pub(super) fn object() -> Result<Ebpf, Failure> {
    let [peers, ends] = MOST_DRAWN.map(|count| u32::try_from(count).unwrap_or(1));
    let mut loader = EbpfLoader::new();
    loader.btf(None).map_max_entries("drawn_peers", peers).map_max_entries("drawn_ends", ends);
    Ok(loader.load(OBJECT)?)
}

/// Takes a map of the object.
pub(super) fn take<M: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &str,
) -> Result<M, Failure> {
    let map = ebpf.take_map(name).ok_or_else(|| format!("no map `{name}`"))?;
    Ok(M::try_from(map)?)
}

/// Runs a program on a frame: whether it passes, and how long one of so many runs takes.
pub(super) fn run(
    ebpf: &mut Ebpf,
    name: &str,
    frame: &[u8],
    repeat: u32,
) -> Result<(bool, Duration), Failure> {
    let program: &mut SchedClassifier =
        ebpf.program_mut(name).ok_or_else(|| format!("no program `{name}`"))?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let result =
        program.test_run(TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() })?;
    match result.return_value {
        u32::MAX => Ok((true, result.duration)),
        2 => Ok((false, result.duration)),
        other => Err(format!("`{name}` answers {other}").into()),
    }
}

/// A packet behind an Ethernet header.
pub(super) fn frame(packet: &Packet) -> Result<Vec<u8>, Failure> {
    let bytes = craft(packet).ok_or("there is no such packet")?;
    let kind: [u8; 2] = if packet.source.is_ipv6() { [0x86, 0xdd] } else { [8, 0] };
    Ok([&[0; 12], &kind[..], &bytes].concat())
}

impl Tries {
    /// No address is known, and no endpoint lets anything pass.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut ebpf = object()?;
        Ok(Self {
            identities_v4: take(&mut ebpf, "identities_v4")?,
            identities_v6: take(&mut ebpf, "identities_v6")?,
            policies: take(&mut ebpf, "policies")?,
            open: HashMap::new(),
            entries: 0,
            ebpf,
        })
    }

    /// Gives an address its identity, counted from 0.
    pub(super) fn identify(&mut self, address: IpAddr, identity: usize) -> Result<(), Failure> {
        let identity = number_of(identity)?;
        match address {
            IpAddr::V4(address) => {
                let key = Key::new(32, u32::from_ne_bytes(address.octets()));
                self.identities_v4.insert(&key, identity, 0)?;
            }
            IpAddr::V6(address) => {
                let mut words = [0; 4];
                for (word, bytes) in words.iter_mut().zip(address.octets().as_chunks::<4>().0) {
                    *word = u32::from_ne_bytes(*bytes);
                }
                self.identities_v6.insert(&Key::new(128, words), identity, 0)?;
            }
        }
        self.entries = self.entries.saturating_add(1);
        Ok(())
    }

    /// Lets an identity reach a UDP port of the endpoint at an interface.
    pub(super) fn allow(&mut self, interface: u32, identity: usize, port: u16) -> Result<(), Failure> {
        if !self.open.contains_key(&interface) {
            let policy = Policy::create(MOST_ENTRIES, NO_PREALLOC)?;
            self.policies.set(interface, &policy, 0)?;
            self.open.insert(interface, policy);
        }
        let policy = self.open.get_mut(&interface).ok_or("no policy")?;
        policy.insert(&key_of(identity, port)?, ALLOWED, 0)?;
        self.entries = self.entries.saturating_add(1);
        Ok(())
    }

    /// Takes that back.
    pub(super) fn forbid(&mut self, interface: u32, identity: usize, port: u16) -> Result<(), Failure> {
        let policy = self.open.get_mut(&interface).ok_or("no policy")?;
        policy.remove(&key_of(identity, port)?)?;
        self.entries = self.entries.saturating_sub(1);
        Ok(())
    }

    /// How long a packet takes that goes to the endpoint at interface 1, and whether it passes.
    pub(super) fn time(&mut self, frame: &[u8], repeat: u32) -> Result<(bool, Duration), Failure> {
        run(&mut self.ebpf, "tries", frame, repeat)
    }

    /// How long reading a packet takes.
    pub(super) fn time_parsed(&mut self, frame: &[u8], repeat: u32) -> Result<Duration, Failure> {
        Ok(run(&mut self.ebpf, "parsed", frame, repeat)?.1)
    }

    /// Has the following draw from `draws`.
    pub(super) fn draw(&mut self, draws: &Draws) -> Result<(), Failure> {
        let mut peers = self.array::<[u16; 2]>("drawn_peers")?;
        for (slot, peer) in (0..).zip(draws.peers()) {
            peers.set(slot, *peer, 0)?;
        }
        let mut ends = self.array::<[u32; END_WORDS]>("drawn_ends")?;
        for (slot, end) in (0..).zip(draws.ends()) {
            ends.set(slot, *end, 0)?;
        }
        Ok(())
    }

    /// How long the verdict on a drawn packet takes, with the drawing.
    pub(super) fn time_drawn(&mut self, draws: &Draws, repeat: u32) -> Result<Duration, Failure> {
        self.run_drawn("drawn_tries", draws, repeat)
    }

    /// How long reading a drawn packet takes, with the drawing.
    pub(super) fn time_drawn_parsed(&mut self, draws: &Draws, repeat: u32) -> Result<Duration, Failure> {
        self.run_drawn("drawn_parsed", draws, repeat)
    }

    /// How long the drawing takes.
    pub(super) fn time_drawn_nothing(&mut self, draws: &Draws, repeat: u32) -> Result<Duration, Failure> {
        self.run_drawn("drawn_nothing", draws, repeat)
    }

    fn run_drawn(&mut self, program: &str, draws: &Draws, repeat: u32) -> Result<Duration, Failure> {
        self.array::<Drawing>("drawing")?.set(0, draws.start(), 0)?;
        let (_, time) = run(&mut self.ebpf, program, draws.frame(), repeat)?;
        draws.check(self.array::<Drawing>("drawing")?.get(&0, 0)?, repeat)?;
        Ok(time)
    }

    fn array<V: aya::Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, V>, Failure> {
        Ok(self.ebpf.map_mut(name).ok_or_else(|| format!("no map `{name}`"))?.try_into()?)
    }
}

/// Entries of an endpoint's map, as `bpf/rivals.h` has it.
const MOST_ENTRIES: u32 = 65_536;
const NO_PREALLOC: u32 = 1;
/// An entry that allows: its precedence, and 24 bits of prefix behind the identity in the last byte.
const ALLOWED: [u32; 2] = [1, u32::from_ne_bytes([0, 0, 0, 24])];

/// Identities of workloads begin behind the reserved ones.
fn number_of(identity: usize) -> Result<u32, Failure> {
    Ok(u32::try_from(identity)?.saturating_add(256))
}

fn key_of(identity: usize, port: u16) -> Result<Key<[u32; 2]>, Failure> {
    let [high, low] = port.to_be_bytes();
    let service = u32::from_ne_bytes([0, Protocol::UDP.0, high, low]);
    Ok(Key::new(64, [number_of(identity)?, service]))
}
