//! Owners of prefixes: endpoints, network sets and nodes.

use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use crate::compile::ids::{AddressOwnerIx, GroupId};
use crate::ir::{Arena, Id};
use crate::label::Name;
use crate::model::{EndpointId, NetworkSetId};
use crate::net::Cidr;

/// Something that owns prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum AddressOwnerId {
    Endpoint(EndpointId),
    NetworkSet(NetworkSetId),
    Node(Name),
}

#[derive(Debug)]
pub(super) struct AddressOwner {
    pub(super) id: AddressOwnerId,
    pub(super) group: GroupId,
    /// Position in the group's list of members.
    pub(super) place: usize,
    /// Whether programs are compiled for it.
    pub(super) local: bool,
    pub(super) prefixes: Prefixes,
}

/// Sorted prefixes without duplicates; nearly every owner has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefixes(SmallVec<[Cidr; 1]>);

impl Prefixes {
    pub(super) fn hosts(addresses: &[IpAddr]) -> Self {
        addresses.iter().map(|address| Cidr::host(*address)).collect()
    }

    pub(super) fn nets(nets: &[Cidr]) -> Self {
        nets.iter().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Cidr> for Prefixes {
    fn from_iter<T: IntoIterator<Item = Cidr>>(nets: T) -> Self {
        let mut nets: SmallVec<[Cidr; 1]> = nets.into_iter().collect();
        nets.sort_unstable();
        nets.dedup();
        nets.shrink_to_fit();
        Self(nets)
    }
}

/// All owners, by identity.
#[derive(Debug, Default)]
pub(super) struct Owners {
    slots: Arena<AddressOwnerIx, AddressOwner>,
    index: HashTable<AddressOwnerIx>,
    hasher: DefaultHashBuilder,
    free: Vec<AddressOwnerIx>,
}

impl Owners {
    pub(super) fn lookup(&self, ix: AddressOwnerIx) -> Option<&AddressOwner> {
        self.slots.lookup(ix)
    }

    pub(super) fn lookup_mut(&mut self, ix: AddressOwnerIx) -> Option<&mut AddressOwner> {
        self.slots.lookup_mut(ix)
    }

    pub(super) fn slots(&self) -> (usize, u32) {
        (self.slots.len(), self.slots.bound())
    }

    pub(super) fn find(&self, id: &AddressOwnerId) -> Option<AddressOwnerIx> {
        let hash = self.hasher.hash_one(id);
        self.index.find(hash, |ix| self.slots.lookup(*ix).is_some_and(|state| state.id == *id)).copied()
    }

    pub(super) fn insert(&mut self, state: AddressOwner) -> AddressOwnerIx {
        let ix = self.free.pop().unwrap_or_else(|| AddressOwnerIx::new(self.slots.bound()));
        let hash = self.hasher.hash_one(&state.id);
        self.slots.put(ix, state);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |ix: &AddressOwnerIx| slots.lookup(*ix).map_or(0, |state| hasher.hash_one(&state.id));
        self.index.insert_unique(hash, ix, rehash);
        ix
    }

    pub(super) fn remove(&mut self, ix: AddressOwnerIx) -> Option<AddressOwner> {
        let state = self.slots.take(ix)?;
        let hash = self.hasher.hash_one(&state.id);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == ix) {
            entry.remove();
        }
        self.free.push(ix);
        Some(state)
    }
}
