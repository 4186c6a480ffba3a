//! Classes, rows and cells, and the delta that tells of them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Compiler, Work};
use crate::compile::owners::AddressOwnerId;
use crate::compile::program_changes::ProgramChanges;
use crate::compile::tables::Swept;
use crate::ir::{
    BeforeImages, ClassId, Delta, EndpointEntry, Id, IdentityNamespace, L7Program, ProgramId,
    ProjectionChange, ProjectionId,
};
use crate::label::Name;
use crate::model::EndpointId;
use crate::net::Cidr;

impl Compiler {
    /// Classes, then rows and cells.
    pub(super) fn update_classes(&mut self, work: &mut Work, changes: &mut ProgramChanges) {
        let mut changed = core::mem::take(&mut work.changed_signatures);
        changed.sort_unstable();
        changed.dedup();
        for member in
            changed.into_iter().filter_map(|id| self.groups.lookup(id)).flat_map(|group| &group.members)
        {
            if let Some(owner) = self.owners.lookup(*member) {
                owner.prefixes.iter().for_each(|prefix| self.addresses.mark(prefix));
            }
        }
        work.addresses = self.addresses.settle(&self.groups);
        let gone = self.addresses.sweep_classes();
        let created = self.addresses.classes.take_created();
        let classes = &self.addresses.classes;
        let too_many = self.addresses.has_too_many_predicates();
        self.programs.settle((&created, &gone), classes, &self.policies, too_many, &mut self.tables, changes);
        self.programs.projections.sweep(changes);
    }

    /// Writes the changes into the snapshot and lists them.
    pub(super) fn delta(
        &mut self,
        work: Work,
        mut changes: ProgramChanges,
        swept: &Swept,
        identities_dirty: bool,
    ) -> Delta {
        let tables = &mut self.tables;
        let decisions = tables.decisions.take_created();
        let l7 = tables.l7.take_created();
        let l4 = tables.tables.take_created();
        let mut delta = Delta {
            from: self.snapshot.generation,
            to: self.snapshot.generation,
            decisions: entries(decisions, &swept.decisions, |id| tables.decisions.lookup(id).cloned()),
            l7: entries(l7, &swept.l7, |id| tables.l7.lookup(id).cloned()),
            tables: entries(l4, &swept.tables, |id| tables.tables.lookup(id).cloned()),
            ..Delta::default()
        };
        delta.projections = self.projection_changes(&mut changes);
        let known = |id: ProgramId| self.snapshot.programs.lookup(id);
        let gone = changes.programs_gone.into_iter().filter(|id| known(*id).is_some()).map(|id| (id, None));
        let changed = changes.programs.into_iter().filter(|(id, program)| known(*id) != Some(program));
        delta.programs = gone.chain(changed.map(|(id, program)| (id, Some(program)))).collect();
        delta.programs.sort_by_key(|(id, _)| *id);
        let listed = |net: &Cidr| self.snapshot.addresses.get(net).copied();
        delta.addresses = work.addresses.into_iter().filter(|(net, class)| listed(net) != *class).collect();
        let mut endpoints = work.endpoints;
        endpoints.sort_unstable();
        endpoints.dedup();
        for id in endpoints {
            let entry = self.entry(&id);
            if self.snapshot.endpoints.get(&id) != entry.as_deref() {
                delta.endpoints.push((id, entry.map(|entry| (*entry).clone())));
            }
        }
        if identities_dirty || !delta.l7.is_empty() {
            delta.identities = self.identity_changes();
        }
        if !delta.is_empty() {
            delta.to = delta.from.saturating_add(1);
        }
        // The delta starts from the snapshot's own generation, so this cannot fail.
        let applied = self.snapshot.apply(&delta);
        debug_assert!(applied.is_ok(), "a delta follows from its own snapshot");
        self.before = applied.unwrap_or(BeforeImages::unchanged(self.snapshot.generation));
        delta
    }

    /// The programs of a local endpoint.
    fn entry(&self, id: &EndpointId) -> Option<Arc<EndpointEntry>> {
        let owner = self.owners.lookup(self.owners.find(&AddressOwnerId::Endpoint(id.clone()))?)?;
        let group = self.groups.lookup(owner.group).filter(|_| owner.local)?;
        group.programs.as_ref().map(|programs| programs.entry.clone())
    }

    fn projection_changes(
        &self,
        changes: &mut ProgramChanges,
    ) -> Vec<(ProjectionId, Option<ProjectionChange>)> {
        let known = |id: ProjectionId| self.snapshot.projections.lookup(id);
        let gone = changes.projections_gone.iter().filter(|id| known(**id).is_some());
        let mut list: Vec<(ProjectionId, Option<ProjectionChange>)> = gone.map(|id| (*id, None)).collect();
        // Stable, so that of two rows for one class the later stays last.
        changes.rows.sort_by_key(|(id, class, _)| (*id, *class));
        let mut touched = core::mem::take(&mut changes.projections);
        touched.extend(changes.rows.iter().map(|(id, ..)| *id));
        touched.sort_unstable();
        touched.dedup();
        let mut notes = changes.rows.as_slice();
        for id in touched {
            let (own, rest) = notes.split_at(notes.partition_point(|(other, ..)| *other <= id));
            notes = rest;
            if self.programs.projections.lookup(id).is_none() {
                continue;
            }
            let old = known(id);
            let mut set: Vec<(ClassId, u32)> = Vec::with_capacity(own.len());
            for (_, class, row) in own {
                match set.last_mut() {
                    Some((last, slot)) if last == class => *slot = *row,
                    _ => set.push((*class, *row)),
                }
            }
            set.retain(|(class, row)| old.map_or(0, |old| old.row(*class)) != *row);
            let rows = self.programs.projections.row_count(id);
            if !set.is_empty() || old.map(|old| old.rows) != Some(rows) {
                list.push((id, Some(ProjectionChange { rows, set })));
            }
        }
        list.sort_by_key(|(id, _)| *id);
        list
    }

    /// The labels that identities are matched against, as far as they differ from the snapshot's.
    fn identity_changes(&self) -> Vec<(Name, Option<IdentityNamespace>)> {
        let mut now: BTreeMap<Name, IdentityNamespace> = BTreeMap::new();
        let needs_identities =
            |program: &L7Program| program.steps.iter().any(|step| !step.guard.identities.is_empty());
        if self.tables.l7.iter().any(|(_, program)| needs_identities(program)) {
            for (name, namespace) in self.cluster.namespaces() {
                now.entry(name.clone()).or_default().labels = namespace.labels.clone();
            }
            for ((namespace, name), account) in self.cluster.service_accounts() {
                let accounts = &mut now.entry(namespace.clone()).or_default().service_accounts;
                accounts.insert(name.clone(), account.labels.clone());
            }
        }
        let old = &self.snapshot.identities;
        let mut changed: BTreeMap<Name, Option<IdentityNamespace>> =
            old.keys().filter(|name| !now.contains_key(*name)).map(|name| (name.clone(), None)).collect();
        let new = now.into_iter().filter(|(name, namespace)| old.get(name) != Some(namespace));
        changed.extend(new.map(|(name, namespace)| (name, Some(namespace))));
        changed.into_iter().collect()
    }
}

/// Created and removed entries of one arena as a list by id.
fn entries<I: Id, T>(created: Vec<I>, gone: &[I], lookup: impl Fn(I) -> Option<T>) -> Vec<(I, Option<T>)> {
    if created.is_empty() && gone.is_empty() {
        return Vec::new();
    }
    let mut list: Vec<(I, Option<T>)> = gone.iter().map(|id| (*id, None)).collect();
    list.extend(created.into_iter().map(|id| (id, lookup(id))));
    list.sort_by_key(|(id, _)| *id);
    list
}
