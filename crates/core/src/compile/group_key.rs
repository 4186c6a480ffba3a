//! What selectors and named ports can see of an owner: the key of its group.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::compile::ids::PreludeIx;
use crate::label::{Labels, Name};
use crate::model::{EntityKinds, NamedPort};

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
    /// For endpoints; that of every node for all others.
    pub(super) prelude: PreludeIx,
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
    pub(super) prelude: PreludeIx,
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
            prelude: PreludeIx::EVERY_NODE,
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

    pub(super) fn to_key(&self) -> GroupKey {
        GroupKey {
            kind: self.kind,
            namespace: self.namespace.cloned(),
            service_account: self.service_account.cloned(),
            labels: self.labels.clone(),
            profiles: self.profiles.to_vec(),
            ports: self.ports.to_vec(),
            untracked: self.untracked,
            prelude: self.prelude,
        }
    }
}

impl GroupKey {
    pub(super) fn as_ref(&self) -> GroupKeyRef<'_> {
        GroupKeyRef {
            kind: self.kind,
            namespace: self.namespace.as_ref(),
            service_account: self.service_account.as_ref(),
            labels: &self.labels,
            profiles: &self.profiles,
            ports: Cow::Borrowed(&self.ports),
            untracked: self.untracked,
            prelude: self.prelude,
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
