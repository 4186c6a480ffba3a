//! Which changes packets in flight may meet without a decision that no state ever had.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::net::{Cidr, IpVersion};
use portcullis_core::verdict::Hook;

use crate::layout::hook_index;
use crate::lower::addresses::Entry;
use crate::lower::endpoint::Buffer;

/// What changed at once since the last grace period: a packet in flight may have seen the state before or after.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    pub(crate) endpoints: bool,
    pub(crate) addresses: BTreeSet<Cidr>,
}

/// What the inactive buffers are to hold after the next grace period.
#[derive(Clone, Debug, Default)]
pub(crate) struct StaleBuffers {
    pub(crate) addresses: BTreeMap<Cidr, Option<[u32; 2]>>,
    pub(crate) endpoints: BTreeSet<u32>,
}

impl Recent {
    pub(crate) fn any(&self) -> bool {
        self.endpoints || !self.addresses.is_empty()
    }

    /// Whether `entries` may change at once, too: however a packet's reads fall between all these changes, it gets the
    /// decision of a state that was in force. Endpoints are read before addresses, so a packet may have met an old endpoint
    /// already, and must not find a new address then. Of addresses, it may meet one change at most: where programs ask for
    /// both ends, there is only one; where they ask for one, it is not looked for twice, as an address is first by itself and
    /// then in networks.
    pub(crate) fn allows(&self, entries: &[Entry], looks_both_ways: bool) -> bool {
        if self.endpoints {
            return false;
        }
        let nets: BTreeSet<Cidr> =
            entries.iter().map(|entry| entry.net).chain(self.addresses.iter().copied()).collect();
        if looks_both_ways {
            let [v4, v6] = [IpVersion::V4, IpVersion::V6]
                .map(|version| nets.iter().filter(|net| net.version() == version).count());
            return v4 <= 1 && v6 <= 1 && nets.iter().all(|net| net.is_host());
        }
        // In this order, what a network covers comes right behind it.
        nets.iter().zip(nets.iter().skip(1)).all(|(net, next)| !net.covers(next))
    }
}

/// Whether an endpoint can change word by word while packets read it: one that comes or goes, or programs of a workload, of
/// which each run reads one.
pub(crate) fn is_one_change(before: Option<&Buffer>, after: Option<&Buffer>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return true };
    let read_alone = [Hook::WorkloadIngress, Hook::WorkloadEgress].map(hook_index);
    let words = before.iter().zip(after).enumerate();
    words.into_iter().all(|(at, (old, new))| old == new || read_alone.contains(&at))
}
