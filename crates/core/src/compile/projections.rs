//! Projections: the rows that classes have in the eyes of the programs that ask the same predicates.

use alloc::vec;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::compile::ids::{PortPredicateId, PredicateId};
use crate::compile::idset::IdSet;
use crate::compile::intern::{Fresh, Interner};
use crate::compile::program_changes::{Family, ProgramChanges};
use crate::compile::rules::PredicateSet;
use crate::compile::signature::Signature;
use crate::ir::{ClassId, Id, ProgramId, ProjectionId};

/// All projections, and the predicates that lead to each of them.
#[derive(Debug)]
pub(super) struct Projections {
    pub(super) sets: Interner<ProjectionId, PredicateSet>,
    states: HashMap<ProjectionId, ProjectionState>,
    by_predicate: Lists<PredicateId, ProjectionId>,
    by_ports: Lists<PortPredicateId, ProjectionId>,
    classes_with: Lists<PredicateId, ClassId>,
    classes_with_ports: Lists<PortPredicateId, ClassId>,
    hasher: DefaultHashBuilder,
}

/// The rows of a projection, and the row of each class.
#[derive(Debug)]
pub(super) struct ProjectionState {
    /// `None` where a row is free. Row 0 has the empty signature, and is never free.
    pub(super) rows: Vec<Option<RowState>>,
    /// Free rows.
    free: Vec<u32>,
    /// Rows by the hash of their signature, once there are [`FEW`] of them.
    index: HashTable<u32>,
    row_of_class: HashMap<ClassId, u32>,
    /// Bodies that see classes through it. Not kept for the projection without predicates, whose rows never change.
    users: Vec<(ProgramId, Family)>,
}

#[derive(Debug)]
pub(super) struct RowState {
    pub(super) signature: Signature,
    classes: usize,
}

/// Up to here rows are compared one by one.
const FEW: usize = 8;

/// A list for each id.
#[derive(Debug)]
struct Lists<K, I> {
    lists: Vec<IdSet<I>>,
    keys: core::marker::PhantomData<fn(K)>,
}

impl<K: Id, I: Copy + Ord> Lists<K, I> {
    const fn new() -> Self {
        Self { lists: Vec::new(), keys: core::marker::PhantomData }
    }

    fn add(&mut self, key: K, id: I) {
        let at = usize::try_from(key.number()).unwrap_or(usize::MAX);
        if at >= self.lists.len() {
            self.lists.resize_with(at.saturating_add(1), IdSet::default);
        }
        if let Some(list) = self.lists.get_mut(at) {
            list.insert(id);
        }
    }

    fn remove(&mut self, key: K, id: I) {
        let at = usize::try_from(key.number()).unwrap_or(usize::MAX);
        if let Some(list) = self.lists.get_mut(at) {
            list.remove(id);
            if list.is_empty() {
                *list = IdSet::default();
            }
        }
    }

    fn of(&self, key: K) -> &[I] {
        let at = usize::try_from(key.number()).unwrap_or(usize::MAX);
        self.lists.get(at).map_or(&[], IdSet::as_slice)
    }
}

impl Projections {
    pub(super) fn new() -> Self {
        Self {
            sets: Interner::new(),
            states: HashMap::new(),
            by_predicate: Lists::new(),
            by_ports: Lists::new(),
            classes_with: Lists::new(),
            classes_with_ports: Lists::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(super) fn lookup(&self, id: ProjectionId) -> Option<&ProjectionState> {
        self.states.get(&id)
    }

    pub(super) fn row_count(&self, id: ProjectionId) -> u32 {
        let rows = self.states.get(&id).map_or(1, |state| state.rows.len());
        u32::try_from(rows).unwrap_or(u32::MAX)
    }

    /// The projection for these predicates, with one user more.
    pub(super) fn acquire(
        &mut self,
        set: PredicateSet,
        user: (ProgramId, Family),
        classes: &Interner<ClassId, Signature>,
        changes: &mut ProgramChanges,
    ) -> ProjectionId {
        let trivial = set.predicates.is_empty() && set.ports.is_empty();
        let (id, fresh) = self.sets.acquire(set);
        if fresh == Fresh::Yes {
            self.create(id, classes, changes);
        }
        if !trivial && let Some(state) = self.states.get_mut(&id) {
            state.users.push(user);
        }
        id
    }

    fn create(
        &mut self,
        id: ProjectionId,
        classes: &Interner<ClassId, Signature>,
        changes: &mut ProgramChanges,
    ) {
        let Some(set) = self.sets.lookup(id) else { return };
        let mut members: Vec<ClassId> = Vec::new();
        for predicate in &set.predicates {
            self.by_predicate.add(*predicate, id);
            members.extend(self.classes_with.of(*predicate));
        }
        for ports in &set.ports {
            self.by_ports.add(*ports, id);
            members.extend(self.classes_with_ports.of(*ports));
        }
        members.sort_unstable();
        members.dedup();
        let mut state = ProjectionState {
            rows: vec![Some(RowState { signature: Signature::default(), classes: 0 })],
            free: Vec::new(),
            index: HashTable::new(),
            row_of_class: HashMap::with_capacity(members.len()),
            users: Vec::new(),
        };
        for class in members {
            let Some(signature) = classes.lookup(class) else { continue };
            let projected = signature.project(&set.predicates, &set.ports);
            let (row, _) = state.place(class, projected, &self.hasher);
            changes.rows.push((id, class, row));
        }
        changes.projections.push(id);
        self.states.insert(id, state);
    }

    pub(super) fn release(&mut self, id: ProjectionId, user: (ProgramId, Family)) {
        if let Some(state) = self.states.get_mut(&id)
            && let Some(at) = state.users.iter().rposition(|other| *other == user)
        {
            state.users.swap_remove(at);
        }
        self.sets.release(id);
    }

    /// Takes out projections that no program uses any more.
    pub(super) fn sweep(&mut self, changes: &mut ProgramChanges) {
        for (id, set) in self.sets.sweep() {
            self.states.remove(&id);
            set.predicates.iter().for_each(|predicate| self.by_predicate.remove(*predicate, id));
            set.ports.iter().for_each(|ports| self.by_ports.remove(*ports, id));
            changes.projections_gone.push(id);
        }
    }

    fn concerned(&self, signature: &Signature) -> Vec<ProjectionId> {
        let by_predicate = signature.holds.iter().flat_map(|id| self.by_predicate.of(*id));
        let by_ports = signature.ports.iter().flat_map(|(id, _)| self.by_ports.of(*id));
        let mut concerned: Vec<ProjectionId> = by_predicate.chain(by_ports).copied().collect();
        concerned.sort_unstable();
        concerned.dedup();
        concerned
    }

    /// Gives a new class its rows; lists those that are fresh.
    pub(super) fn take_class(
        &mut self,
        class: ClassId,
        signature: &Signature,
        fresh_rows: &mut Vec<(ProjectionId, u32)>,
        changes: &mut ProgramChanges,
    ) {
        for predicate in &signature.holds {
            self.classes_with.add(*predicate, class);
        }
        for (ports, _) in &signature.ports {
            self.classes_with_ports.add(*ports, class);
        }
        for projection in self.concerned(signature) {
            let Some(set) = self.sets.lookup(projection) else { continue };
            let Some(state) = self.states.get_mut(&projection) else { continue };
            let projected = signature.project(&set.predicates, &set.ports);
            let (row, fresh) = state.place(class, projected, &self.hasher);
            if fresh {
                fresh_rows.push((projection, row));
            }
            changes.rows.push((projection, class, row));
        }
    }

    pub(super) fn forget_class(
        &mut self,
        class: ClassId,
        signature: &Signature,
        changes: &mut ProgramChanges,
    ) {
        for predicate in &signature.holds {
            self.classes_with.remove(*predicate, class);
        }
        for (ports, _) in &signature.ports {
            self.classes_with_ports.remove(*ports, class);
        }
        for projection in self.concerned(signature) {
            if let Some(state) = self.states.get_mut(&projection)
                && state.displace(class, &self.hasher)
            {
                changes.rows.push((projection, class, 0));
            }
        }
    }

    pub(super) fn users(&self, id: ProjectionId) -> &[(ProgramId, Family)] {
        self.states.get(&id).map_or(&[], |state| &state.users)
    }
}

impl ProjectionState {
    /// Number of rows that are not free.
    pub(super) fn used_rows(&self) -> u64 {
        u64::try_from(self.rows.len().saturating_sub(self.free.len())).unwrap_or(u64::MAX)
    }

    /// Whether the row is there and not free.
    pub(super) fn has_row(&self, row: u32) -> bool {
        self.row(row).is_some()
    }

    fn find(&self, projected: &Signature, hasher: &DefaultHashBuilder) -> Option<u32> {
        let has = |row: u32| self.row(row).is_some_and(|state| state.signature == *projected);
        if self.index.is_empty() {
            return (0_u32..).zip(&self.rows).map(|(row, _)| row).find(|row| has(*row));
        }
        self.index.find(hasher.hash_one(projected), |row| has(*row)).copied()
    }

    /// Puts a class on the row of its projected signature, and returns whether the row is new.
    fn place(&mut self, class: ClassId, projected: Signature, hasher: &DefaultHashBuilder) -> (u32, bool) {
        if let Some(row) = self.find(&projected, hasher) {
            self.occupy(class, row);
            return (row, false);
        }
        let state = Some(RowState { signature: projected, classes: 0 });
        let row = self.free.pop().unwrap_or_else(|| u32::try_from(self.rows.len()).unwrap_or(u32::MAX));
        match usize::try_from(row).ok().and_then(|at| self.rows.get_mut(at)) {
            Some(slot) => *slot = state,
            None => self.rows.push(state),
        }
        self.note_row(row, hasher);
        self.occupy(class, row);
        (row, true)
    }

    /// Puts a new row into the index, and all of them once they are no longer few.
    fn note_row(&mut self, row: u32, hasher: &DefaultHashBuilder) {
        let rows = &self.rows;
        let state = |row: u32| usize::try_from(row).ok().and_then(|at| rows.get(at)?.as_ref());
        let hash = |row: &u32| state(*row).map_or(0, |state| hasher.hash_one(&state.signature));
        if !self.index.is_empty() {
            self.index.insert_unique(hash(&row), row, hash);
        } else if rows.len() > FEW {
            for (row, _) in (0_u32..).zip(rows).filter(|(_, state)| state.is_some()) {
                self.index.insert_unique(hash(&row), row, hash);
            }
        }
    }

    fn occupy(&mut self, class: ClassId, row: u32) {
        if self.row_of_class.insert(class, row) != Some(row)
            && let Some(state) = self.row_mut(row)
        {
            state.classes = state.classes.saturating_add(1);
        }
    }

    /// Takes a class off its row, and tells whether it was on one. Frees the row with its last class.
    fn displace(&mut self, class: ClassId, hasher: &DefaultHashBuilder) -> bool {
        let Some(row) = self.row_of_class.remove(&class) else { return false };
        let Some(state) = self.row_mut(row) else { return true };
        state.classes = state.classes.saturating_sub(1);
        if state.classes == 0 && row != 0 {
            let hash = hasher.hash_one(&state.signature);
            if let Ok(entry) = self.index.find_entry(hash, |other| *other == row) {
                entry.remove();
            }
            if let Some(slot) = usize::try_from(row).ok().and_then(|at| self.rows.get_mut(at)) {
                *slot = None;
                self.free.push(row);
            }
        }
        true
    }

    fn row(&self, row: u32) -> Option<&RowState> {
        self.rows.get(usize::try_from(row).ok()?)?.as_ref()
    }

    fn row_mut(&mut self, row: u32) -> Option<&mut RowState> {
        self.rows.get_mut(usize::try_from(row).ok()?)?.as_mut()
    }
}
