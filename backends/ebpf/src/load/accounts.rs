//! What each interface takes of tables that all share: see `bpf/account.h`.

use alloc::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{Array, MapData};

use crate::error::{Context as _, LoadError};
use crate::layout::{ACCOUNT_WORDS, ACCOUNTS};
use crate::load::take_map::take;

/// `struct account`, as words.
type Account = [u32; ACCOUNT_WORDS];

/// The accounts of the program.
pub(crate) struct Accounts {
    map: Array<MapData, Account>,
    /// Interfaces with an endpoint, and whether it is a workload.
    opened: BTreeMap<u32, bool>,
}

/// Where `struct account` has what. Numbers of 64 bits take two words.
const LOST: usize = 4;
const INTERFACE: usize = 7;
const IS_WORKLOAD: usize = 8;
const FLOWS: usize = 9;

impl Accounts {
    pub(crate) fn open(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { map: take(ebpf, "accounts")?, opened: BTreeMap::new() })
    }

    /// An endpoint is at the interface from here on. An account begins at zero with a new interface.
    pub(crate) fn begin(&mut self, interface: u32, is_workload: bool) -> Result<(), LoadError> {
        match self.opened.insert(interface, is_workload) {
            Some(before) if before == is_workload => Ok(()),
            Some(_) => self.change(interface, |account| set(account, IS_WORKLOAD, u32::from(is_workload))),
            None => self.change(interface, |account| {
                *account = [0; ACCOUNT_WORDS];
                set(account, IS_WORKLOAD, u32::from(is_workload));
            }),
        }
    }

    /// There is none any more.
    pub(crate) fn end(&mut self, interface: u32) {
        self.opened.remove(&interface);
    }

    /// The flows that an account has already: see [`FlowTables::held`](crate::load::flow_tables::FlowTables::held).
    pub(crate) fn set_held(&mut self, interface: u32, held: [u32; 4]) -> Result<(), LoadError> {
        self.change(interface, |account| {
            (FLOWS..).zip(held).for_each(|(place, count)| set(account, place, count));
        })
    }

    /// How many events each interface lost; those that lost none are left out.
    pub(crate) fn lost(&self) -> Result<BTreeMap<u32, u64>, LoadError> {
        let mut lost = BTreeMap::new();
        // Interfaces without an endpoint send events as well: packets that come in by them meet those of others.
        for slot in 0..ACCOUNTS {
            let account = self.map.get(&slot, 0).context("accounts")?;
            let word = |place: usize| account.get(place).copied().unwrap_or_default();
            let count = both(word(LOST), word(LOST + 1));
            if count > 0 {
                lost.insert(word(INTERFACE), count);
            }
        }
        Ok(lost)
    }

    fn change(&mut self, interface: u32, how: impl FnOnce(&mut Account)) -> Result<(), LoadError> {
        let slot = interface % ACCOUNTS;
        let mut account = self.map.get(&slot, 0).context("accounts")?;
        how(&mut account);
        self.map.set(slot, account, 0).context("accounts")
    }
}

fn set(account: &mut Account, place: usize, value: u32) {
    if let Some(word) = account.get_mut(place) {
        *word = value;
    }
}

fn both(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}
