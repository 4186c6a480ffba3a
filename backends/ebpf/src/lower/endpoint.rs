//! The words of an endpoint in the map of endpoints.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

use portcullis_core::backend::{Binding, LowerError};
use portcullis_core::model::EndpointId;
use portcullis_core::net::canonical;
use portcullis_core::verdict::Hook;

use crate::layout::{
    ANY_ADDRESS, BOUND_ADDRESSES, BUFFER_WORDS, EndpointWords, HAS_V4, HAS_V6, HOST, PRESENT, TRACKED_ONLY,
    UNGUARDED,
};

/// One of the two buffers of an endpoint: a program for each hook, flags, addresses.
pub(crate) type Buffer = [u32; BUFFER_WORDS];

/// Those of an endpoint whose programs are not there yet.
pub(crate) fn without_programs(id: &EndpointId, binding: &Binding) -> Result<Buffer, LowerError> {
    let mut flags = PRESENT;
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    match binding {
        Binding::Workload { addresses, .. } => {
            for address in addresses {
                match canonical(*address) {
                    IpAddr::V4(address) => v4.push([u32::from_ne_bytes(address.octets())]),
                    IpAddr::V6(address) => v6.push(words_of(address)),
                }
            }
        }
        Binding::WorkloadAnyAddress { .. } => flags |= ANY_ADDRESS,
        Binding::Host { .. } => flags |= HOST,
        Binding::AllInterfaces { .. } => flags |= HOST | TRACKED_ONLY,
        _ => return Err(LowerError::unsupported(Some(id), "eBPF does not know this kind of binding")),
    }
    if v4.len() > BOUND_ADDRESSES || v6.len() > BOUND_ADDRESSES {
        return Err(LowerError::unsupported(Some(id), "it has more than four addresses of one family"));
    }
    flags |= if v4.is_empty() { 0 } else { HAS_V4 };
    flags |= if v6.is_empty() { 0 } else { HAS_V6 };
    // Unused places repeat the first address, so that the kernel program need not count.
    let v4 = (0..BOUND_ADDRESSES).flat_map(|place| v4.get(place).or(v4.first()).copied().unwrap_or_default());
    let v6 = (0..BOUND_ADDRESSES).flat_map(|place| v6.get(place).or(v6.first()).copied().unwrap_or_default());
    Ok(with(flags, v4.chain(v6)))
}

/// Those of an interface of the host that no host endpoint guards.
pub(crate) fn uplink() -> Buffer {
    with(PRESENT | HOST | UNGUARDED, core::iter::empty())
}

/// An IPv6 address as four words in the order of the wire.
pub(crate) fn words_of(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// The addresses that a buffer binds a workload to, if it is one of a workload.
#[cfg(feature = "load")]
pub(crate) fn workload_in(buffer: &Buffer) -> Option<Vec<IpAddr>> {
    let (_, [flags, rest @ ..]) = buffer.split_at_checked(Hook::ALL.len())? else { return None };
    if flags & (PRESENT | HOST) != PRESENT {
        return None;
    }
    let (v4, v6) = rest.split_at_checked(BOUND_ADDRESSES)?;
    let v4 = v4.iter().filter(|_| flags & HAS_V4 != 0).map(|word| IpAddr::from(word.to_ne_bytes()));
    let v6 = v6.as_chunks::<4>().0.iter().filter(|_| flags & HAS_V6 != 0).map(|words| {
        let mut octets = [0; 16];
        for (octets, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *octets = word.to_ne_bytes();
        }
        IpAddr::from(octets)
    });
    Some(v4.chain(v6).collect())
}

/// The value of the map.
pub(crate) fn both(buffers: [Buffer; 2]) -> EndpointWords {
    let mut words = [0; 2 * BUFFER_WORDS];
    for (word, value) in words.iter_mut().zip(buffers.into_iter().flatten()) {
        *word = value;
    }
    words
}

fn with(flags: u32, addresses: impl Iterator<Item = u32>) -> Buffer {
    let mut buffer = [0; BUFFER_WORDS];
    let after_programs = buffer.iter_mut().skip(Hook::ALL.len());
    for (word, value) in after_programs.zip(core::iter::once(flags).chain(addresses)) {
        *word = value;
    }
    buffer
}
