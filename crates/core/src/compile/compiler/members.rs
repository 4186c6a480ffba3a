//! Owners of addresses join and leave groups.

use super::{CompileScope, Compiler, Work};
use crate::compile::group_key::{GroupKeyRef, UntrackedPolicy};
use crate::compile::ids::{AddressOwnerIx, GroupId};
use crate::compile::owners::{AddressOwner, AddressOwnerId, Prefixes};
use crate::compile::preludes::Preludes;
use crate::model::{Cluster, EndpointKind, EntityKinds};

/// An owner as it is now.
struct Description<'a> {
    key: GroupKeyRef<'a>,
    prefixes: Prefixes,
    local: bool,
}

impl Compiler {
    pub(super) fn take_owners(&mut self, dirty: &[AddressOwnerId], work: &mut Work) {
        for id in dirty {
            if let AddressOwnerId::Endpoint(id) = id {
                work.endpoints.push(id.clone());
            }
            let old = self.owners.find(id);
            match describe(&self.cluster, &self.scope, &self.programs.preludes, id) {
                Some(now) => {
                    let (group, fresh) = self.groups.find_or_create(&now.key);
                    let (prefixes, local) = (now.prefixes, now.local);
                    self.settle_owner(id, old, group, prefixes, local, work);
                    if fresh {
                        self.evaluate(group, work);
                    }
                }
                None => {
                    if let Some(old) = old {
                        self.leave(old, work);
                        if let Some(state) = self.owners.remove(old) {
                            self.give_up(&state.prefixes, state.group);
                        }
                    }
                }
            }
        }
    }

    /// Brings an owner that exists up to date.
    fn settle_owner(
        &mut self,
        id: &AddressOwnerId,
        old: Option<AddressOwnerIx>,
        group: GroupId,
        prefixes: Prefixes,
        local: bool,
        work: &mut Work,
    ) {
        let Some(ix) = old else {
            self.take_up(&prefixes, group);
            let place = self.groups.lookup(group).map_or(0, |group| group.members.len());
            let ix = self.owners.insert(AddressOwner { id: id.clone(), group, place, local, prefixes });
            self.join(ix, group, local, work);
            return;
        };
        let Some(state) = self.owners.lookup(ix) else { return };
        let moved = state.group != group;
        if moved || state.prefixes != prefixes {
            let (old_group, old_prefixes) = (state.group, state.prefixes.clone());
            // New before old, so that what both have stays.
            self.take_up(&prefixes, group);
            self.give_up(&old_prefixes, old_group);
        }
        if moved || self.owners.lookup(ix).is_some_and(|state| state.local != local) {
            self.leave(ix, work);
            let place = self.groups.lookup(group).map_or(0, |group| group.members.len());
            if let Some(state) = self.owners.lookup_mut(ix) {
                (state.group, state.place, state.local) = (group, place, local);
            }
            self.join(ix, group, local, work);
        }
        if let Some(state) = self.owners.lookup_mut(ix) {
            state.prefixes = prefixes;
        }
    }

    fn take_up(&mut self, prefixes: &Prefixes, group: GroupId) {
        prefixes.iter().for_each(|prefix| self.addresses.add_owner(prefix, group));
    }

    fn give_up(&mut self, prefixes: &Prefixes, group: GroupId) {
        prefixes.iter().for_each(|prefix| self.addresses.remove_owner(prefix, group));
    }

    fn join(&mut self, ix: AddressOwnerIx, group: GroupId, local: bool, work: &mut Work) {
        let Some(state) = self.groups.lookup_mut(group) else { return };
        state.members.push(ix);
        state.local = state.local.saturating_add(usize::from(local));
        if state.lacks_or_outlives_programs() {
            work.rekey.push(group);
        }
    }

    /// Takes a member out of its group; the last one takes its place.
    fn leave(&mut self, ix: AddressOwnerIx, work: &mut Work) {
        let Some(owner) = self.owners.lookup(ix) else { return };
        let (id, place, local) = (owner.group, owner.place, owner.local);
        let Some(group) = self.groups.lookup_mut(id) else { return };
        if place < group.members.len() {
            group.members.swap_remove(place);
        }
        group.local = group.local.saturating_sub(usize::from(local));
        if group.lacks_or_outlives_programs() {
            work.rekey.push(id);
        }
        if group.members.is_empty() {
            work.emptied.push(id);
        }
        if let Some(last) = group.members.get(place).copied()
            && let Some(last) = self.owners.lookup_mut(last)
        {
            last.place = place;
        }
    }
}

/// What an owner looks like now, or `None` when it is gone.
fn describe<'a>(
    cluster: &'a Cluster,
    scope: &CompileScope,
    preludes: &Preludes,
    id: &AddressOwnerId,
) -> Option<Description<'a>> {
    Some(match id {
        AddressOwnerId::Endpoint(id) => {
            let endpoint = cluster.endpoints().get(id)?;
            let kind = match id.kind {
                EndpointKind::Workload => EntityKinds::WORKLOAD,
                EndpointKind::Host => EntityKinds::HOST,
            };
            let plain = GroupKeyRef::plain(kind, endpoint.id.namespace.as_ref(), &endpoint.labels);
            let key = GroupKeyRef {
                service_account: endpoint.service_account.as_ref(),
                profiles: &endpoint.profiles,
                prelude: preludes.of_node(id.kind, endpoint.node.as_ref()),
                untracked: if endpoint.is_wildcard() {
                    UntrackedPolicy::Ignored
                } else {
                    UntrackedPolicy::Acts
                },
                ..plain.with_ports(&endpoint.ports)
            };
            let local = match scope {
                CompileScope::All => true,
                CompileScope::Node(node) => endpoint.node.as_ref() == Some(node),
            };
            Description { key, prefixes: Prefixes::hosts(&endpoint.addresses), local }
        }
        AddressOwnerId::NetworkSet(id) => {
            let set = cluster.network_sets().get(id)?;
            let key = GroupKeyRef::plain(EntityKinds::NETWORK_SET, set.id.namespace.as_ref(), &set.labels);
            Description { key, prefixes: Prefixes::nets(&set.nets), local: false }
        }
        AddressOwnerId::Node(name) => {
            let node = cluster.nodes().get(name)?;
            let key = GroupKeyRef::plain(EntityKinds::NODE, None, &node.labels);
            Description { key, prefixes: Prefixes::hosts(&node.addresses), local: false }
        }
    })
}
