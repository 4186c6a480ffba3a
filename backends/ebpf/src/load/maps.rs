//! The maps in the kernel.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, ArrayOfMaps, HashMap, LpmTrie, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use aya::{Ebpf, Pod};
use portcullis_core::backend::Counter;
use portcullis_core::net::Cidr;

use crate::error::{Context as _, LoadError};
use crate::layout::{BUFFER_WORDS, Cells, EndpointWords, Page, ProgramWords, Rows, Runs};
use crate::load::accounts::Accounts;
use crate::load::faults::{self, Place};
use crate::load::local_sources::LocalSources;
use crate::load::take_map::take;
use crate::lower::endpoint::{words_of, workload_in};
use crate::write::Write;

/// The maps that [`Write`]s are for.
pub(crate) struct Maps {
    active_buffer: Array<MapData, u32>,
    grace_period: ArrayOfMaps<MapData, Array<MapData, u32>>,
    endpoints: HashMap<MapData, u32, [u32; ENDPOINT]>,
    addresses_v4: HashMap<MapData, u32, [u32; 3]>,
    addresses_v6: HashMap<MapData, [u32; 4], [u32; 3]>,
    networks_v4: LpmTrie<MapData, u32, [u32; 2]>,
    networks_v6: LpmTrie<MapData, [u32; 4], [u32; 2]>,
    programs: Array<MapData, ProgramWords>,
    rows: Array<MapData, Rows>,
    cells: Array<MapData, Cells>,
    runs: Array<MapData, Runs>,
    pages: Array<MapData, Page>,
    counters: PerCpuArray<MapData, [u64; 2]>,
    pub(crate) accounts: Accounts,
    local_sources: LocalSources,
    /// The addresses of the workload at an interface, by buffer.
    workloads: BTreeMap<u32, [Option<Vec<IpAddr>>; 2]>,
    /// The buffer that is read.
    active: usize,
    cpus: usize,
    /// How many writes the kernel still takes, in tests of what happens when it does not.
    #[cfg(test)]
    pub(crate) writes_left: Option<usize>,
    /// Which writes the kernel does not take, in the same tests.
    #[cfg(test)]
    pub(crate) refused: Option<fn(&Write) -> bool>,
    /// Whether counters cannot be read, in the same tests.
    #[cfg(test)]
    pub(crate) hides_counters: bool,
}

impl core::fmt::Debug for Maps {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Maps")
    }
}

/// The words of an endpoint and a lock; see `struct bpf_spin_lock` in `bpf/kernel.h`.
const ENDPOINT: usize = 2 * BUFFER_WORDS + 1;
/// `BPF_F_LOCK`: an element that is there is written where it is, word by word, and never missed meanwhile.
const IN_PLACE: u64 = 4;

impl Maps {
    pub(crate) fn open(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let cpus = nr_cpus().map_err(|(what, error)| LoadError::new(what, error))?;
        Ok(Self {
            active_buffer: take(ebpf, "active_buffer")?,
            grace_period: take(ebpf, "grace_period")?,
            endpoints: take(ebpf, "endpoints")?,
            addresses_v4: take(ebpf, "addresses_v4")?,
            addresses_v6: take(ebpf, "addresses_v6")?,
            networks_v4: take(ebpf, "networks_v4")?,
            networks_v6: take(ebpf, "networks_v6")?,
            programs: take(ebpf, "programs")?,
            rows: take(ebpf, "rows")?,
            cells: take(ebpf, "cells")?,
            runs: take(ebpf, "runs")?,
            pages: take(ebpf, "pages")?,
            counters: take(ebpf, "counters")?,
            accounts: Accounts::open(ebpf)?,
            local_sources: LocalSources::open(ebpf)?,
            workloads: BTreeMap::new(),
            active: 0,
            cpus,
            #[cfg(test)]
            writes_left: None,
            #[cfg(test)]
            refused: None,
            #[cfg(test)]
            hides_counters: false,
        })
    }

    /// Carries out the writes of `update`, in order.
    #[cfg(any(test, feature = "oracle"))]
    pub(crate) fn carry_out(&mut self, update: &crate::write::Update) -> Result<(), LoadError> {
        update.writes().iter().try_for_each(|write| self.write(write))
    }

    /// Carries out one write.
    pub(crate) fn write(&mut self, write: &Write) -> Result<(), LoadError> {
        #[cfg(test)]
        if let Some(left) = &mut self.writes_left {
            *left = left.checked_sub(1).ok_or_else(|| LoadError::plain("a test refuses this write"))?;
        }
        #[cfg(test)]
        if self.refused.is_some_and(|is_refused| is_refused(write)) {
            return Err(LoadError::plain("a test refuses this write"));
        }
        faults::reach(Place::Write)?;
        match write {
            Write::GracePeriod => self.wait_for_grace_period(),
            Write::Runs(slot, runs) => done("runs", self.runs.set(*slot, **runs, 0)),
            Write::Page(slot, page) => done("pages", self.pages.set(*slot, **page, 0)),
            Write::Rows(slot, rows) => done("rows", self.rows.set(*slot, **rows, 0)),
            Write::Cells(slot, cells) => done("cells", self.cells.set(*slot, **cells, 0)),
            Write::Program(slot, words) => done("programs", self.programs.set(*slot, *words, 0)),
            Write::Decision(slot, _) => {
                let zeros = PerCpuValues::try_from(vec![[0; 2]; self.cpus]).context("counters")?;
                done("counters", self.counters.set(*slot, zeros, 0))
            }
            Write::Endpoint(interface, Some(words)) => self.set_endpoint(*interface, words),
            Write::Endpoint(interface, None) => self.remove_endpoint(*interface),
            Write::Address(net, buffers) => self.address(net, *buffers),
            Write::Flip(buffer) => self.flip(*buffer),
        }
    }

    /// Gives `interface` the words of an endpoint.
    pub(crate) fn set_endpoint(&mut self, interface: u32, words: &EndpointWords) -> Result<(), LoadError> {
        let mut value = [0; ENDPOINT];
        for (place, word) in value.iter_mut().zip(words) {
            *place = *word;
        }
        let [first, second] = [0, 1].map(|buffer| words.as_chunks::<BUFFER_WORDS>().0.get(buffer));
        self.workloads.insert(interface, [first, second].map(|buffer| buffer.and_then(workload_in)));
        // Before its first packet.
        self.show_workload(interface)?;
        done("endpoints", self.endpoints.insert(interface, value, IN_PLACE))
    }

    /// Tells the maps beside that of endpoints which workload is at `interface`, if one is.
    fn show_workload(&mut self, interface: u32) -> Result<(), LoadError> {
        let workload = self.workloads.get(&interface).and_then(|buffers| buffers.get(self.active)?.as_ref());
        self.accounts.begin(interface, workload.is_some())?;
        self.local_sources.set(interface, workload.into_iter().flatten().copied().collect())
    }

    fn flip(&mut self, buffer: u32) -> Result<(), LoadError> {
        done("active_buffer", self.active_buffer.set(0, buffer, 0))?;
        self.active = usize::from(buffer & 1 == 1);
        let differ = self.workloads.iter().filter(|(_, [first, second])| first != second);
        let changed: Vec<u32> = differ.map(|(interface, _)| *interface).collect();
        changed.into_iter().try_for_each(|interface| self.show_workload(interface))
    }

    fn remove_endpoint(&mut self, interface: u32) -> Result<(), LoadError> {
        gone("endpoints", self.endpoints.remove(&interface))?;
        self.workloads.remove(&interface);
        self.accounts.end(interface);
        self.local_sources.set(interface, BTreeSet::new())
    }

    /// What a decision counted, on all CPUs.
    pub(crate) fn counter(&self, slot: u32) -> Result<Counter, LoadError> {
        #[cfg(test)]
        if self.hides_counters {
            return Err(LoadError::plain("a test hides the counters"));
        }
        let [packets, bytes] = sum(&self.counters.get(&slot, 0).context("counters")?);
        Ok(Counter { packets, bytes })
    }

    /// Replacing an inner map makes the kernel wait for all programs that run.
    pub(crate) fn wait_for_grace_period(&mut self) -> Result<(), LoadError> {
        let inner = Array::create(1, 0).context("grace_period")?;
        done("grace_period", self.grace_period.set(0, &inner, 0))
    }

    fn address(&mut self, net: &Cidr, buffers: Option<[u32; 2]>) -> Result<(), LoadError> {
        let single = net.is_host();
        let prefix = u32::from(net.prefix());
        match (net.address(), single) {
            (IpAddr::V4(address), true) => {
                put(&mut self.addresses_v4, &u32::from_ne_bytes(address.octets()), buffers)
            }
            (IpAddr::V6(address), true) => put(&mut self.addresses_v6, &words_of(address), buffers),
            (IpAddr::V4(address), false) => put_net(
                &mut self.networks_v4,
                &Key::new(prefix, u32::from_ne_bytes(address.octets())),
                buffers,
            ),
            (IpAddr::V6(address), false) => {
                put_net(&mut self.networks_v6, &Key::new(prefix, words_of(address)), buffers)
            }
        }
    }
}

pub(crate) fn sum(values: &PerCpuValues<[u64; 2]>) -> [u64; 2] {
    values.iter().fold([0; 2], |[packets, bytes], [more, longer]| {
        [packets.saturating_add(*more), bytes.saturating_add(*longer)]
    })
}

fn put<K: Pod>(
    map: &mut HashMap<MapData, K, [u32; 3]>,
    key: &K,
    buffers: Option<[u32; 2]>,
) -> Result<(), LoadError> {
    match buffers {
        Some([first, second]) => done("addresses", map.insert(key, [first, second, 0], IN_PLACE)),
        None => gone("addresses", map.remove(key)),
    }
}

fn put_net<K: Pod>(
    map: &mut LpmTrie<MapData, K, [u32; 2]>,
    key: &Key<K>,
    buffers: Option<[u32; 2]>,
) -> Result<(), LoadError> {
    match buffers {
        Some(buffers) => done("networks", map.insert(key, buffers, 0)),
        None => gone("networks", map.remove(key)),
    }
}

fn done(map: &str, result: Result<(), MapError>) -> Result<(), LoadError> {
    result.map_err(|error| LoadError::new(format!("map `{map}`"), error))
}

/// What is not there need not be removed.
fn gone(map: &str, result: Result<(), MapError>) -> Result<(), LoadError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(MapError::KeyNotFound) => Ok(()),
        other => done(map, other),
    }
}
