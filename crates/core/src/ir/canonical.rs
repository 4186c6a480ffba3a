//! Names that do not depend on history.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ir::{
    Body, ClassId, DecisionEntry, DecisionId, Effect, EndpointEntry, HookPrograms, Id, Interval, L4Table,
    L4TableId, L7Program, L7ProgramId, L7Step, PortMap, Program, ProgramId, Projection, ProjectionId,
    Snapshot, SourceInterval,
};

impl Snapshot {
    /// The same tables with ids, classes and rows renamed in a fixed order: two snapshots that are equal up to the
    /// choice of ids have equal canonical forms, whatever changes led to them.
    ///
    /// Classes are numbered by their smallest prefix. Everything else is numbered by first use, walking endpoints,
    /// hooks, bodies, cells, intervals and steps in order; rows by their smallest class, row 0 staying row 0.
    /// Entries that nothing refers to, classes without an address and rows without a class are left out, and so are
    /// identities that no L7 program left asks for. The generation is 0.
    ///
    /// Only renames: tables that are equal but have two ids keep two. Of a snapshot that does not
    /// [verify](Snapshot::verify), references to what does not exist stay without a target.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut walk = Walk { old: self, new: Self::new(), names: Names::default(), rows: BTreeMap::new() };
        walk.addresses();
        walk.endpoints();
        walk.programs();
        walk.tables();
        walk.decisions();
        // Rows without a class may have been the last to ask for identities.
        let asks = |program: &L7Program| program.steps.iter().any(|step| !step.guard.identities.is_empty());
        if walk.new.l7.iter().any(|(_, program)| asks(program)) {
            walk.new.identities.clone_from(&self.identities);
        }
        walk.new
    }
}

/// New ids, in the order in which they were asked for.
#[derive(Debug)]
struct Renamed<I> {
    new: BTreeMap<I, I>,
    order: Vec<I>,
}

impl<I: Id> Renamed<I> {
    fn name(&mut self, old: I) -> I {
        let next = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let order = &mut self.order;
        *self.new.entry(old).or_insert_with(|| {
            order.push(old);
            I::new(next)
        })
    }
}

impl<I> Default for Renamed<I> {
    fn default() -> Self {
        Self { new: BTreeMap::new(), order: Vec::new() }
    }
}

#[derive(Debug, Default)]
struct Names {
    classes: Renamed<ClassId>,
    projections: Renamed<ProjectionId>,
    programs: Renamed<ProgramId>,
    tables: Renamed<L4TableId>,
    decisions: Renamed<DecisionId>,
    l7: Renamed<L7ProgramId>,
}

struct Walk<'a> {
    old: &'a Snapshot,
    new: Snapshot,
    names: Names,
    /// For each projection met, the old row of each new row.
    rows: BTreeMap<ProjectionId, Vec<u32>>,
}

impl Walk<'_> {
    fn addresses(&mut self) {
        // The unknown class keeps its number.
        self.names.classes.name(ClassId::UNKNOWN);
        for (net, class) in &self.old.addresses {
            let class = self.names.classes.name(*class);
            self.new.addresses.insert(*net, class);
        }
    }

    fn endpoints(&mut self) {
        for (id, entry) in &self.old.endpoints {
            let mut rename = |programs: &HookPrograms| {
                let programs = programs.0.iter();
                HookPrograms(programs.map(|(hook, id)| (*hook, self.names.programs.name(*id))).collect())
            };
            let enforced = rename(&entry.enforced);
            let staged = entry.staged.as_ref().map(rename);
            self.new.endpoints.insert(id.clone(), EndpointEntry { enforced, staged });
        }
    }

    fn programs(&mut self) {
        for old in self.names.programs.order.clone() {
            let Some(program) = self.old.programs.lookup(old) else { continue };
            let program = Program { v4: self.body(&program.v4), v6: self.body(&program.v6) };
            self.new.programs.put(self.names.programs.name(old), program);
        }
    }

    fn body(&mut self, body: &Body) -> Body {
        let source = self.projection(body.source);
        let destination = self.projection(body.destination);
        let rows = |id| self.rows.get(id).map(Vec::as_slice).unwrap_or_default();
        let mut cells = Vec::new();
        for row in rows(&body.source) {
            for column in rows(&body.destination) {
                if let Some(table) = body.cell(*row, *column) {
                    cells.push(self.names.tables.name(table));
                }
            }
        }
        let columns = u32::try_from(rows(&body.destination).len()).unwrap_or(u32::MAX);
        Body { source, destination, columns, cells }
    }

    fn projection(&mut self, old: ProjectionId) -> ProjectionId {
        let new = self.names.projections.name(old);
        if self.rows.contains_key(&old) {
            return new;
        }
        let Some(projection) = self.old.projections.lookup(old) else { return new };
        let mut listed: Vec<(ClassId, u32)> = projection
            .row_of
            .iter()
            .filter_map(|(class, row)| Some((*self.names.classes.new.get(class)?, *row)))
            .collect();
        listed.sort_unstable();
        let mut renamed = BTreeMap::from([(0, 0)]);
        let mut order = alloc::vec![0];
        let mut row_of = BTreeMap::new();
        for (class, row) in listed {
            let next = u32::try_from(order.len()).unwrap_or(u32::MAX);
            let row = *renamed.entry(row).or_insert_with(|| {
                order.push(row);
                next
            });
            row_of.insert(class, row);
        }
        let rows = u32::try_from(order.len()).unwrap_or(u32::MAX);
        self.new.projections.put(new, Projection { rows, row_of });
        self.rows.insert(old, order);
        new
    }

    fn tables(&mut self) {
        for old in self.names.tables.order.clone() {
            let Some(table) = self.old.tables.lookup(old) else { continue };
            let table = self.table(table);
            self.new.tables.put(self.names.tables.name(old), table);
        }
    }

    fn table(&mut self, table: &L4Table) -> L4Table {
        let mut interval = |interval: &Interval| Interval {
            last: interval.last,
            decision: self.names.decisions.name(interval.decision),
        };
        let mut maps: BTreeMap<&PortMap, PortMap> = BTreeMap::new();
        for map in table.port_maps() {
            maps.insert(map, PortMap::new(map.intervals().iter().map(&mut interval).collect()));
        }
        let mut source = |source: &SourceInterval| SourceInterval {
            last: source.last,
            keys: maps.get(&source.keys).unwrap_or(&source.keys).clone(),
        };
        let protocols = table
            .protocols
            .iter()
            .map(|(protocol, sources)| (*protocol, sources.iter().map(&mut source).collect()))
            .collect();
        L4Table { protocols, other: self.names.decisions.name(table.other) }
    }

    fn decisions(&mut self) {
        // L7 programs name decisions in turn, so the list grows on the way.
        let mut at: usize = 0;
        while let Some(old) = self.names.decisions.order.get(at).copied() {
            at = at.saturating_add(1);
            let Some(decision) = self.old.decisions.lookup(old) else { continue };
            let l7 = decision.l7.map(|id| self.l7(id));
            let decision = DecisionEntry { l7, ..decision.clone() };
            self.new.decisions.put(self.names.decisions.name(old), decision);
        }
    }

    fn l7(&mut self, old: L7ProgramId) -> L7ProgramId {
        let new = self.names.l7.name(old);
        if self.new.l7.lookup(new).is_none()
            && let Some(program) = self.old.l7.lookup(old)
        {
            let mut step = |step: &L7Step| L7Step {
                guard: step.guard.clone(),
                effect: match &step.effect {
                    Effect::Decide(id) => Effect::Decide(self.names.decisions.name(*id)),
                    effect => effect.clone(),
                },
            };
            let steps = program.steps.iter().map(&mut step).collect();
            self.new.l7.put(new, L7Program { steps });
        }
        new
    }
}
