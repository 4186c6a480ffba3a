//! Groups: owners of addresses that no selector can tell apart, because their labels are the same.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::compile::policies::PolicyIx;
use crate::compile::programs::GroupPrograms;
use crate::compile::signature::{Ports, Signature, compiler_id};
use crate::ir::{Arena, Id};
use crate::label::{LabelSource, Labels, NAME_KEY, Name, Scope};
use crate::model::{Cluster, EndpointId, EntityKinds, EntitySelector, NamedPort};
use crate::net::Cidr;
use crate::selector::Expr;

compiler_id!(
    /// A [`Group`].
    GroupId
);

/// Everything that selectors and named ports can see of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) kind: EntityKinds,
    pub(super) namespace: Option<Name>,
    pub(super) service_account: Option<Name>,
    pub(super) labels: Labels,
    pub(super) profiles: Vec<Name>,
    pub(super) ports: Vec<NamedPort>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// Number of owners.
    pub(super) members: usize,
    /// The prefixes of all owners, each with the number of owners that have it.
    pub(super) prefixes: BTreeMap<Cidr, usize>,
    /// The answers to all active questions.
    pub(super) signature: Signature,
    /// Policies whose subject this is, staged ones included.
    pub(super) policies: BTreeSet<PolicyIx>,
    /// Members that programs are compiled for.
    pub(super) local: BTreeSet<EndpointId>,
    pub(super) programs: Option<GroupPrograms>,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Arena<GroupId, Group>,
    index: HashTable<GroupId>,
    hasher: DefaultHashBuilder,
    free: Vec<GroupId>,
    by_namespace: HashMap<Name, BTreeSet<GroupId>>,
    by_label: HashMap<(Name, Name), BTreeSet<GroupId>>,
    /// Groups with a profile: they may inherit labels that `by_label` does not know.
    with_profiles: BTreeSet<GroupId>,
}

/// A set of label values of which a selector needs one; used to find candidates without trying everything.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Anchor<'e> {
    Namespace(&'e [Name]),
    Own(&'e Name, &'e [Name]),
    /// Nothing is known.
    None,
}

impl<'e> Anchor<'e> {
    /// The best anchor of `expr`: a namespace before a label of its own.
    pub(super) fn of(expr: &'e Expr) -> Self {
        match expr {
            Expr::Eq(label, value) => Self::new(label.scope, &label.key, core::slice::from_ref(value)),
            Expr::In(label, values) => Self::new(label.scope, &label.key, values),
            Expr::And(operands) => {
                let mut best = Self::None;
                for operand in operands {
                    match (Self::of(operand), &best) {
                        (anchor @ Self::Namespace(_), _) => return anchor,
                        (anchor @ Self::Own(..), Self::None) => best = anchor,
                        _ => {}
                    }
                }
                best
            }
            _ => Self::None,
        }
    }

    fn new(scope: Scope, key: &'e Name, values: &'e [Name]) -> Self {
        match scope {
            Scope::Namespace if key.as_str() == NAME_KEY => Self::Namespace(values),
            Scope::Own => Self::Own(key, values),
            Scope::Namespace | Scope::ServiceAccount => Self::None,
        }
    }
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

    /// The group of `key`, if there is one.
    pub(super) fn find(&self, key: &GroupKey) -> Option<GroupId> {
        let hash = self.hasher.hash_one(key);
        let same = |id: &GroupId| self.groups.lookup(*id).is_some_and(|group| group.key == *key);
        self.index.find(hash, same).copied()
    }

    /// Makes a group without members.
    pub(super) fn create(&mut self, key: GroupKey) -> GroupId {
        let id = self.free.pop().unwrap_or_else(|| GroupId::new(self.groups.bound()));
        if let Some(namespace) = &key.namespace {
            self.by_namespace.entry(namespace.clone()).or_default().insert(id);
        }
        for (label, value) in key.labels.iter() {
            self.by_label.entry((label.clone(), value.clone())).or_default().insert(id);
        }
        if !key.profiles.is_empty() {
            self.with_profiles.insert(id);
        }
        let hash = self.hasher.hash_one(&key);
        let group = Group {
            key,
            members: 0,
            prefixes: BTreeMap::new(),
            signature: Signature::default(),
            policies: BTreeSet::new(),
            local: BTreeSet::new(),
            programs: None,
        };
        self.groups.put(id, group);
        let (groups, hasher) = (&self.groups, &self.hasher);
        let rehash = |id: &GroupId| groups.lookup(*id).map_or(0, |group| hasher.hash_one(&group.key));
        self.index.insert_unique(hash, id, rehash);
        id
    }

    pub(super) fn remove(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.take(id)?;
        let hash = self.hasher.hash_one(&group.key);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        if let Some(namespace) = &group.key.namespace {
            forget(&mut self.by_namespace, namespace, id);
        }
        for (label, value) in group.key.labels.iter() {
            forget(&mut self.by_label, &(label.clone(), value.clone()), id);
        }
        self.with_profiles.remove(&id);
        self.free.push(id);
        Some(group)
    }

    /// Groups that `expr` may select, in id order.
    pub(super) fn candidates(&self, expr: &Expr) -> Vec<GroupId> {
        let mut found = BTreeSet::new();
        match Anchor::of(expr) {
            Anchor::Namespace(names) => {
                for name in names {
                    found.extend(self.by_namespace.get(name).into_iter().flatten().copied());
                }
            }
            Anchor::Own(key, values) => {
                for value in values {
                    let label = (key.clone(), value.clone());
                    found.extend(self.by_label.get(&label).into_iter().flatten().copied());
                }
                // Inherited labels are not indexed, and most profiles have none, so these are tried one by one.
                found.extend(self.with_profiles.iter().copied());
            }
            Anchor::None => return self.ids(),
        }
        found.into_iter().collect()
    }

    pub(super) fn in_namespace(&self, namespace: &Name) -> Vec<GroupId> {
        self.by_namespace.get(namespace).into_iter().flatten().copied().collect()
    }

    pub(super) fn with_profile(&self, profile: &Name) -> Vec<GroupId> {
        let has = |id: &GroupId| self.lookup(*id).is_some_and(|group| group.key.profiles.contains(profile));
        self.with_profiles.iter().copied().filter(has).collect()
    }
}

fn forget<K: Eq + Hash, I: Ord>(map: &mut HashMap<K, BTreeSet<I>>, key: &K, id: I) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

/// The labels of a group, with what it inherits.
pub(super) struct GroupLabels<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) key: &'a GroupKey,
}

impl GroupLabels<'_> {
    pub(super) fn selected_by(&self, selector: &EntitySelector) -> bool {
        selector.kinds.contains(self.key.kind) && selector.expr.matches(self)
    }

    /// The group's ports of this name.
    pub(super) fn named_ports(&self, selector: Option<&EntitySelector>, name: &Name) -> Ports {
        let endpoints = EntityKinds::WORKLOAD.union(EntityKinds::HOST);
        if !endpoints.contains(self.key.kind) || selector.is_some_and(|selector| !self.selected_by(selector))
        {
            return Ports::new();
        }
        let mut ports: Ports = self
            .key
            .ports
            .iter()
            .filter(|port| port.name == *name)
            .map(|port| (port.protocol, port.port))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

impl LabelSource for GroupLabels<'_> {
    fn label(&self, scope: Scope, key: &str) -> Option<&str> {
        match scope {
            Scope::Own => self.key.labels.value(key).or_else(|| {
                self.key.profiles.iter().find_map(|name| self.cluster.profiles().get(name)?.labels.value(key))
            }),
            Scope::Namespace => {
                let namespace = self.key.namespace.as_ref()?;
                if key == NAME_KEY {
                    return Some(namespace);
                }
                self.cluster.namespaces().get(namespace)?.labels.value(key)
            }
            Scope::ServiceAccount => {
                let (namespace, name) = (self.key.namespace.as_ref()?, self.key.service_account.as_ref()?);
                if key == NAME_KEY {
                    return Some(name);
                }
                self.cluster.service_accounts().get(&(namespace.clone(), name.clone()))?.labels.value(key)
            }
        }
    }
}

/// Selectors by anchor: finds those that may select a group.
#[derive(Debug)]
pub(super) struct SelectorIndex<I> {
    by_namespace: HashMap<Name, BTreeSet<I>>,
    by_label: HashMap<(Name, Name), BTreeSet<I>>,
    rest: BTreeSet<I>,
}

impl<I: Copy + Ord> SelectorIndex<I> {
    pub(super) fn new() -> Self {
        Self { by_namespace: HashMap::new(), by_label: HashMap::new(), rest: BTreeSet::new() }
    }

    pub(super) fn insert(&mut self, id: I, expr: &Expr) {
        match Anchor::of(expr) {
            Anchor::Namespace(names) => {
                for name in names {
                    self.by_namespace.entry(name.clone()).or_default().insert(id);
                }
            }
            Anchor::Own(key, values) => {
                for value in values {
                    self.by_label.entry((key.clone(), value.clone())).or_default().insert(id);
                }
            }
            Anchor::None => drop(self.rest.insert(id)),
        }
    }

    pub(super) fn remove(&mut self, id: I, expr: &Expr) {
        match Anchor::of(expr) {
            Anchor::Namespace(names) => {
                for name in names {
                    forget(&mut self.by_namespace, name, id);
                }
            }
            Anchor::Own(key, values) => {
                for value in values {
                    forget(&mut self.by_label, &(key.clone(), value.clone()), id);
                }
            }
            Anchor::None => drop(self.rest.remove(&id)),
        }
    }

    /// Ids whose selector may select the group, in order.
    pub(super) fn candidates(&self, group: &GroupLabels<'_>) -> BTreeSet<I> {
        let mut found = self.rest.clone();
        if let Some(namespace) = &group.key.namespace {
            found.extend(self.by_namespace.get(namespace).into_iter().flatten().copied());
        }
        let profiles = group.key.profiles.iter().filter_map(|name| group.cluster.profiles().get(name));
        for labels in core::iter::once(&group.key.labels).chain(profiles.map(|profile| &profile.labels)) {
            for (key, value) in labels.iter() {
                let label = (key.clone(), value.clone());
                found.extend(self.by_label.get(&label).into_iter().flatten().copied());
            }
        }
        found
    }
}
