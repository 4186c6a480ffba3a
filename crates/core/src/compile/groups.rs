//! Groups: owners of addresses that no selector can tell apart, because their labels are the same.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::compile::group_key::{GroupKey, GroupKeyRef};
use crate::compile::ids::{AddressOwnerIx, GroupId, PolicyIx};
use crate::compile::idset::IdSet;
use crate::compile::programs::GroupPrograms;
use crate::compile::selectors::{Anchor, LabelKey, forget};
use crate::compile::signature::Signature;
use crate::ir::{Arena, Id};
use crate::label::Name;
use crate::selector::Expr;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// All owners.
    pub(super) members: Vec<AddressOwnerIx>,
    /// Number of members that programs are compiled for.
    pub(super) local: usize,
    /// The predicates that hold for its members.
    pub(super) signature: Signature,
    /// Policies whose subject this is, staged ones included.
    pub(super) policies: IdSet<PolicyIx>,
    pub(super) programs: Option<GroupPrograms>,
}

impl Group {
    /// Whether it has local members without programs, or programs without local members.
    pub(super) const fn lacks_or_outlives_programs(&self) -> bool {
        (self.local == 0) == self.programs.is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Arena<GroupId, Group>,
    index: HashTable<GroupId>,
    hasher: DefaultHashBuilder,
    free: Vec<GroupId>,
    by_namespace: HashMap<Name, IdSet<GroupId>>,
    by_label: HashMap<(Name, Name), IdSet<GroupId>>,
    by_profile: HashMap<Name, IdSet<GroupId>>,
    /// By the name of a port.
    by_port: HashMap<Name, IdSet<GroupId>>,
}

impl Groups {
    pub(super) fn lookup(&self, id: GroupId) -> Option<&Group> {
        self.groups.lookup(id)
    }

    pub(super) fn lookup_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.lookup_mut(id)
    }

    pub(super) fn slots(&self) -> (usize, u32) {
        (self.groups.len(), self.groups.bound())
    }

    fn ids(&self) -> Vec<GroupId> {
        self.groups.iter().map(|(id, _)| id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter()
    }

    /// The group of this key, and whether it had to be made.
    pub(super) fn find_or_create(&mut self, key: &GroupKeyRef<'_>) -> (GroupId, bool) {
        let hash = self.hasher.hash_one(key);
        let same = |id: &GroupId| self.groups.lookup(*id).is_some_and(|group| group.key.as_ref() == *key);
        match self.index.find(hash, same) {
            Some(id) => (*id, false),
            None => (self.create(key.to_key(), hash), true),
        }
    }

    fn create(&mut self, key: GroupKey, hash: u64) -> GroupId {
        let id = self.free.pop().unwrap_or_else(|| GroupId::new(self.groups.bound()));
        if let Some(namespace) = &key.namespace {
            self.by_namespace.entry_ref(namespace).or_default().insert(id);
        }
        for (label, value) in key.labels.iter() {
            match self.by_label.get_mut(&LabelKey(label, value)) {
                Some(ids) => ids.insert(id),
                None => {
                    self.by_label
                        .insert((label.clone(), value.clone()), IdSet::from_unsorted(alloc::vec![id]));
                }
            }
        }
        for profile in &key.profiles {
            self.by_profile.entry_ref(profile).or_default().insert(id);
        }
        for port in &key.ports {
            self.by_port.entry_ref(&port.name).or_default().insert(id);
        }
        let group = Group {
            key,
            members: Vec::new(),
            local: 0,
            signature: Signature::default(),
            policies: IdSet::default(),
            programs: None,
        };
        self.groups.put(id, group);
        let (groups, hasher) = (&self.groups, &self.hasher);
        let rehash = |id: &GroupId| groups.lookup(*id).map_or(0, |group| hasher.hash_one(group.key.as_ref()));
        self.index.insert_unique(hash, id, rehash);
        id
    }

    pub(super) fn remove(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.take(id)?;
        let hash = self.hasher.hash_one(group.key.as_ref());
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        if let Some(namespace) = &group.key.namespace {
            forget(&mut self.by_namespace, namespace, id);
        }
        for (label, value) in group.key.labels.iter() {
            forget(&mut self.by_label, &LabelKey(label, value), id);
        }
        for profile in &group.key.profiles {
            forget(&mut self.by_profile, profile, id);
        }
        for port in &group.key.ports {
            forget(&mut self.by_port, &port.name, id);
        }
        self.free.push(id);
        Some(group)
    }

    /// Groups that `expr` may select, in id order. `labelled` are the profiles that have labels.
    pub(super) fn candidates(&self, expr: &Expr, labelled: &BTreeSet<Name>) -> Vec<GroupId> {
        let anchor = Anchor::of(expr);
        let in_namespaces =
            anchor.namespaces.map(|names| collect(names.iter().map(|name| self.by_namespace.get(name))));
        let with_label = anchor.own.map(|(key, values)| {
            let own = values.iter().map(|value| self.by_label.get(&LabelKey(key, value)));
            // Inherited labels are not indexed; few profiles have any.
            collect(own.chain(labelled.iter().map(|name| self.by_profile.get(name))))
        });
        let size = |sets: &Vec<&IdSet<GroupId>>| sets.iter().map(|set| set.as_slice().len()).sum::<usize>();
        let sets = match (in_namespaces, with_label) {
            (Some(a), Some(b)) => {
                if size(&a) <= size(&b) {
                    a
                } else {
                    b
                }
            }
            (Some(sets), None) | (None, Some(sets)) => sets,
            (None, None) => return self.ids(),
        };
        match sets[..] {
            [only] => only.as_slice().to_vec(),
            _ => {
                let mut found: Vec<GroupId> = sets.into_iter().flat_map(IdSet::as_slice).copied().collect();
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    pub(super) fn in_namespace(&self, namespace: &Name) -> &[GroupId] {
        self.by_namespace.get(namespace).map_or(&[], IdSet::as_slice)
    }

    /// Groups that have a port of this name, in id order.
    pub(super) fn with_port(&self, name: &Name) -> Vec<GroupId> {
        self.by_port.get(name).map_or_else(Vec::new, |ids| ids.as_slice().to_vec())
    }

    pub(super) fn with_profile(&self, profile: &Name) -> &[GroupId] {
        self.by_profile.get(profile).map_or(&[], IdSet::as_slice)
    }
}

fn collect<'s>(sets: impl Iterator<Item = Option<&'s IdSet<GroupId>>>) -> Vec<&'s IdSet<GroupId>> {
    sets.flatten().collect()
}
