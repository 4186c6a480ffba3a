//! Groups: owners of addresses that no selector can tell apart, because their labels are the same.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash, Hasher};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::compile::exemptions::FailsafesIx;
use crate::compile::idset::IdSet;
use crate::compile::owners::AddressOwnerIx;
use crate::compile::policies::PolicyIx;
use crate::compile::programs::GroupPrograms;
use crate::compile::selectors::{Anchor, LabelKey, forget};
use crate::compile::signature::{Signature, compiler_id};
use crate::ir::{Arena, Id};
use crate::label::{Labels, Name};
use crate::model::{EntityKinds, NamedPort};
use crate::selector::Expr;

compiler_id!(
    /// A [`Group`].
    GroupId
);

/// Everything that selectors and named ports can see of an owner.
#[derive(Clone, Debug)]
pub(super) struct GroupKey {
    pub(super) kind: EntityKinds,
    pub(super) namespace: Option<Name>,
    pub(super) service_account: Option<Name>,
    pub(super) labels: Labels,
    pub(super) profiles: Vec<Name>,
    /// Sorted, without duplicates.
    pub(super) ports: Vec<NamedPort>,
    pub(super) untracked: UntrackedPolicy,
    /// For host endpoints; those of every node for all others.
    pub(super) failsafes: FailsafesIx,
}

/// Whether untracked policy acts on a host endpoint; see [`crate::reference`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum UntrackedPolicy {
    #[default]
    Acts,
    /// The endpoint is for all interfaces.
    Ignored,
}

/// A [`GroupKey`] that borrows from the owner: what is needed to find a group that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupKeyRef<'a> {
    pub(super) kind: EntityKinds,
    pub(super) namespace: Option<&'a Name>,
    pub(super) service_account: Option<&'a Name>,
    pub(super) labels: &'a Labels,
    pub(super) profiles: &'a [Name],
    pub(super) ports: Cow<'a, [NamedPort]>,
    pub(super) untracked: UntrackedPolicy,
    pub(super) failsafes: FailsafesIx,
}

impl<'a> GroupKeyRef<'a> {
    pub(super) const fn plain(kind: EntityKinds, namespace: Option<&'a Name>, labels: &'a Labels) -> Self {
        Self {
            kind,
            namespace,
            service_account: None,
            labels,
            profiles: &[],
            ports: Cow::Borrowed(&[]),
            untracked: UntrackedPolicy::Acts,
            failsafes: FailsafesIx::EVERY_NODE,
        }
    }

    /// Sorts the ports, which mostly is nothing to do.
    pub(super) fn with_ports(mut self, ports: &'a [NamedPort]) -> Self {
        self.ports = if ports.is_sorted_by(|a, b| a < b) {
            Cow::Borrowed(ports)
        } else {
            let mut ports = ports.to_vec();
            ports.sort_unstable();
            ports.dedup();
            Cow::Owned(ports)
        };
        self
    }

    fn to_key(&self) -> GroupKey {
        GroupKey {
            kind: self.kind,
            namespace: self.namespace.cloned(),
            service_account: self.service_account.cloned(),
            labels: self.labels.clone(),
            profiles: self.profiles.to_vec(),
            ports: self.ports.to_vec(),
            untracked: self.untracked,
            failsafes: self.failsafes,
        }
    }
}

impl GroupKey {
    fn as_ref(&self) -> GroupKeyRef<'_> {
        GroupKeyRef {
            kind: self.kind,
            namespace: self.namespace.as_ref(),
            service_account: self.service_account.as_ref(),
            labels: &self.labels,
            profiles: &self.profiles,
            ports: Cow::Borrowed(&self.ports),
            untracked: self.untracked,
            failsafes: self.failsafes,
        }
    }
}

impl Hash for GroupKeyRef<'_> {
    /// Profiles follow from the namespace and the service account nearly always, so they are left to the comparison.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.namespace.hash(state);
        self.service_account.hash(state);
        self.labels.hash(state);
        self.ports.hash(state);
    }
}

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
}

impl Groups {
    pub(super) fn lookup(&self, id: GroupId) -> Option<&Group> {
        self.groups.lookup(id)
    }

    pub(super) fn lookup_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.lookup_mut(id)
    }

    pub(super) fn ids(&self) -> Vec<GroupId> {
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

    pub(super) fn with_profile(&self, profile: &Name) -> &[GroupId] {
        self.by_profile.get(profile).map_or(&[], IdSet::as_slice)
    }
}

fn collect<'s>(sets: impl Iterator<Item = Option<&'s IdSet<GroupId>>>) -> Vec<&'s IdSet<GroupId>> {
    sets.flatten().collect()
}
