//! The kernel program, loaded.

use std::io::ErrorKind;
use std::path::PathBuf;

use aya::programs::{CgroupSkb, Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use portcullis_core::net::Cidr;
use portcullis_core::packet::Protocol;
use portcullis_core::settings::{Tunnel, WorkloadToHost};

use crate::error::LoadError;
use crate::layout::{BLOCK_ROWS, BOUND_ADDRESSES, TO_HOST_DROP, TO_HOST_POLICY, TUNNELS};
use crate::load::faults::{self, Place};
use crate::load::local_sources;
use crate::options::{Capacity, Options};

/// The program as it was built from `bpf/`; see `bpf/build.sh`.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/portcullis.bpf.o");

/// How the program behaves, beyond policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Whether flows are remembered.
    pub(crate) track: u32,
    /// Events a second of each interface; 0 for no limit.
    pub(crate) events: u32,
    /// See [`MarkGeneration::parity`](crate::load::mark_generation::MarkGeneration).
    pub(crate) mark_parity: u32,
    /// Peers and workloads that a measurement draws packets from.
    pub(crate) drawn: [u32; 2],
}

impl Behaviour {
    /// No flows, no limit on events, no mark generations, nothing is drawn.
    pub(crate) const PLAIN: Self = Self { track: 0, events: 0, mark_parity: 0, drawn: [1; 2] };
}

/// Loads `object`, which is [`OBJECT`] or holds it, with maps of the sizes that `options` says. Maps with a path are those that are pinned there, and are
/// pinned there otherwise. Nothing is attached.
pub(crate) fn load(
    object: &[u8],
    options: &Options,
    behaviour: Behaviour,
    shared: &[(&str, PathBuf)],
) -> Result<Ebpf, LoadError> {
    let capacity = &options.capacity;
    let rows = u32::try_from(BLOCK_ROWS).unwrap_or(1);
    let blocks = capacity.classes.div_ceil(rows);
    let lines = capacity.cells.div_ceil(16);
    let services = u32::from(!options.dataplane.services.is_empty());
    let [mark, mask, shift] = options.mark_parts();
    let to_host: u32 = match options.dataplane.workload_to_host {
        WorkloadToHost::Accept => 0,
        WorkloadToHost::Drop => TO_HOST_DROP,
        WorkloadToHost::HostPolicy => TO_HOST_POLICY,
    };
    let Behaviour { track, events, mark_parity, drawn: [peers, ends] } = behaviour;
    let shared_options = &options.dataplane;
    let bounds = |table| Capacity::flow_bounds(table, shared_options.flows_per_interface);
    let ([workload_v4, host_v4], [workload_v6, host_v6]) =
        (bounds(capacity.flows_v4), bounds(capacity.flows_v6));
    let nets = |nets: &[Cidr]| u32::try_from(nets.len()).unwrap_or(u32::MAX);
    let (local_nets, peers_of_tunnels) =
        (nets(&shared_options.local_nets), nets(&shared_options.tunnel_peers));
    let (has_local_nets, has_tunnel_peers) = (local_nets.min(1), peers_of_tunnels.min(1));
    let check_claims = u32::from(shared_options.check_neighbour_claims);
    let local = capacity.endpoints.saturating_mul(2 * LOCAL_ADDRESSES);
    let tunnels = words_of_tunnels(&shared_options.tunnels);
    let mut loader = EbpfLoader::new();
    // The object asks nothing of the running kernel's types. Aya 0.14 reads them above all the same, for about 20 ms.
    loader.btf(None);
    for (name, entries) in [
        ("endpoints", capacity.endpoints),
        ("addresses_v4", capacity.addresses_v4),
        ("addresses_v6", capacity.addresses_v6),
        ("networks_v4", capacity.networks_v4),
        ("networks_v6", capacity.networks_v6),
        ("programs", capacity.programs),
        ("rows", capacity.projections.saturating_mul(blocks)),
        ("cells", lines),
        ("runs", capacity.runs),
        ("pages", capacity.pages),
        ("counters", capacity.decisions),
        ("flows_v4", capacity.flows_v4),
        ("flows_v6", capacity.flows_v6),
        ("cuts_v4", capacity.cuts),
        ("cuts_v6", capacity.cuts),
        ("local_v4", local),
        ("local_v6", local),
        ("local_nets_v4", local_nets),
        ("local_nets_v6", local_nets),
        ("tunnel_peers_v4", peers_of_tunnels),
        ("tunnel_peers_v6", peers_of_tunnels),
        ("events", capacity.event_bytes),
    ] {
        loader.map_max_entries(name, entries.max(1));
    }
    // Of measurements; the object that is shipped has no such maps.
    for (name, entries) in [("drawn_peers", peers), ("drawn_ends", ends)] {
        loader.map_max_entries(name, entries.max(1));
    }
    for (name, path) in shared {
        loader.map_pin_path(name, path.as_path());
    }
    loader
        .override_global("blocks_per_projection", &blocks, true)
        .override_global("track", &track, true)
        .override_global("services", &services, true)
        .override_global("mark_bit", &mark, true)
        .override_global("mark_mask", &mask, true)
        .override_global("mark_shift", &shift, true)
        .override_global("mark_parity", &mark_parity, true)
        .override_global("to_host", &to_host, true)
        .override_global("events_per_second", &events, true)
        .override_global("tcp_idle_seconds", &shared_options.tcp_idle_seconds, true)
        .override_global("workload_flows_v4", &workload_v4, true)
        .override_global("workload_flows_v6", &workload_v6, true)
        .override_global("host_flows_v4", &host_v4, true)
        .override_global("host_flows_v6", &host_v6, true)
        .override_global("has_local_nets", &has_local_nets, true)
        .override_global("has_tunnel_peers", &has_tunnel_peers, true)
        .override_global("tunnels", &tunnels, true)
        .override_global("check_claims", &check_claims, true);
    let failed = |error| LoadError::new("cannot load the eBPF maps", error).of_environment();
    let mut ebpf = loader.load(object).map_err(failed)?;
    local_sources::fill(&mut ebpf, "local_nets", &shared_options.local_nets)?;
    local_sources::fill(&mut ebpf, "tunnel_peers", &shared_options.tunnel_peers)?;
    Ok(ebpf)
}

/// Addresses of a workload and family.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const LOCAL_ADDRESSES: u32 = BOUND_ADDRESSES as u32;

/// Protocol and port of each; there are as many as fit.
fn words_of_tunnels(tunnels: &[Tunnel]) -> [u32; TUNNELS] {
    let mut words = [0; TUNNELS];
    for (word, tunnel) in words.iter_mut().zip(tunnels) {
        *word = match tunnel {
            Tunnel::Protocol(protocol) => u32::from(protocol.0) << 16,
            Tunnel::Udp(port) => u32::from(Protocol::UDP.0) << 16 | u32::from(*port),
            _ => 0,
        };
    }
    words
}

/// One of the object's programs for interfaces, accepted by the kernel's verifier.
pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, LoadError> {
    let failed = |error| LoadError::new(format!("program `{name}`"), error).of_environment();
    let program: &mut SchedClassifier = find(ebpf, name)?.try_into().map_err(failed)?;
    if program.fd().is_err() {
        faults::reach(Place::Verify)?;
        verified(|| program.load(), interrupted).map_err(failed)?;
    }
    Ok(program)
}

/// One of the object's programs for sockets, likewise.
pub(crate) fn socket_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSkb, LoadError> {
    let failed = |error| LoadError::new(format!("program `{name}`"), error).of_environment();
    let program: &mut CgroupSkb = find(ebpf, name)?.try_into().map_err(failed)?;
    if program.fd().is_err() {
        verified(|| program.load(), interrupted).map_err(failed)?;
    }
    Ok(program)
}

/// Has the kernel verify a program. The kernel gives up with EAGAIN when a signal waits for this thread, for example because
/// a child of the process ended meanwhile; libbpf tries again for the same reason (`sys_bpf_prog_load` in its `bpf.c`).
fn verified<E>(mut load: impl FnMut() -> Result<(), E>, interrupted: fn(&E) -> bool) -> Result<(), E> {
    for _ in 1..VERIFIED_AT_MOST {
        match load() {
            Err(error) if interrupted(&error) => {}
            result => return result,
        }
    }
    load()
}

fn interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == ErrorKind::WouldBlock)
}

/// How often a program is given to the kernel until the error counts.
const VERIFIED_AT_MOST: usize = 20;

fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, LoadError> {
    ebpf.program_mut(name).ok_or_else(|| LoadError::plain(format!("the object has no program `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::{VERIFIED_AT_MOST, verified};

    #[test]
    fn a_signal_in_between_does_not_fail_a_load() {
        let refused = |error: &'static str, times: usize| {
            let mut calls = 0;
            let load = || {
                calls += 1;
                if calls > times { Ok(()) } else { Err(error) }
            };
            let result = verified(load, |error| *error == "again");
            (result.is_ok(), calls)
        };
        assert_eq!(refused("again", 3), (true, 4));
        assert_eq!(refused("again", usize::MAX), (false, VERIFIED_AT_MOST));
        assert_eq!(refused("refused", 3), (false, 1));
    }
}
