//! The labels that selectors see of a group.

use alloc::collections::BTreeSet;

use crate::compile::group_key::GroupKey;
use crate::compile::signature::Ports;
use crate::label::{LabelSource, Labels, NAME_KEY, Name, Scope};
use crate::model::{Cluster, EntityKinds, EntitySelector};

/// The labels of a group, with what it inherits.
pub(super) struct GroupLabels<'a> {
    pub(super) cluster: &'a Cluster,
    /// Names of the profiles that have labels. There are few or none, so a missing label costs no look-up.
    pub(super) labelled: &'a BTreeSet<Name>,
    pub(super) key: &'a GroupKey,
}

impl<'a> GroupLabels<'a> {
    pub(super) fn selected_by(&self, selector: &EntitySelector) -> bool {
        selector.kinds.contains(self.key.kind) && selector.expr.matches(self)
    }

    /// Its own labels, then those its profiles apply, first hit wins.
    pub(super) fn own(&self) -> impl Iterator<Item = &'a Labels> + '_ {
        core::iter::once(&self.key.labels).chain(self.inherited())
    }

    fn inherited(&self) -> impl Iterator<Item = &'a Labels> + '_ {
        let profiles = if self.labelled.is_empty() { &[][..] } else { &self.key.profiles };
        let labelled = profiles.iter().filter(|name| self.labelled.contains(*name));
        labelled.filter_map(|name| Some(&self.cluster.profiles().get(name)?.labels))
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
            Scope::Own => self.own().find_map(|labels| labels.value(key)),
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
