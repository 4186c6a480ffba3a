//! What the chains of one body have to do, before sets are found for it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;

use portcullis_core::ir::{Body, ClassId, L4TableId, Projection};
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::Field;

/// Classes of addresses.
pub(crate) type Classes = BTreeSet<ClassId>;

/// The classes on each row of a projection but row 0, which holds all others.
pub(crate) type RowClasses = Rc<Vec<Classes>>;

/// A decision tree over the two addresses.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// Both addresses are known well enough: the chain of an L4 table.
    Table(Name),
    /// One address decides.
    Split(Split),
}

/// One address decides: each arm is for some classes, and none is in two.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub(crate) side: Side,
    pub(crate) arms: Vec<(Classes, Node)>,
    pub(crate) rest: Box<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

impl Side {
    pub(crate) const fn field(self, version: IpVersion) -> Field {
        match self {
            Self::Source => Field::Source(version),
            Self::Destination => Field::Destination(version),
        }
    }
}

/// The classes on each row.
pub(crate) fn row_classes(projection: &Projection) -> Option<RowClasses> {
    let mut rows = vec![Classes::new(); usize::try_from(projection.rows).ok()?];
    for (class, row) in &projection.row_of {
        rows.get_mut(usize::try_from(*row).ok()?)?.insert(*class);
    }
    Some(Rc::new(rows))
}

/// The tree of `body`. `None` when the body breaks an invariant.
pub(crate) fn plan(
    body: &Body,
    sources: &RowClasses,
    destinations: &RowClasses,
    mut table: impl FnMut(L4TableId) -> Option<Name>,
) -> Option<Node> {
    let columns = usize::try_from(body.columns).ok()?;
    if columns == 0
        || columns != destinations.len()
        || body.cells.len() != columns.checked_mul(sources.len())?
    {
        return None;
    }
    let mut known: BTreeMap<L4TableId, Name> = BTreeMap::new();
    let mut cells: Vec<Name> = Vec::with_capacity(body.cells.len());
    for id in &body.cells {
        if !known.contains_key(id) {
            known.insert(*id, table(*id)?);
        }
        cells.push(known.get(id)?.clone());
    }
    let by_row: Vec<Vec<Name>> = cells.chunks(columns).map(<[Name]>::to_vec).collect();
    let by_column: Vec<Vec<Name>> =
        (0..columns).map(|column| cells.iter().skip(column).step_by(columns).cloned().collect()).collect();
    let distinct = |lines: &[Vec<Name>]| lines.iter().collect::<BTreeSet<_>>().len();
    // The side with fewer kinds of lines goes first: that makes fewer chains.
    if distinct(&by_row) <= distinct(&by_column) {
        split(Side::Source, sources, &by_row, |line| one(Side::Destination, destinations, line))
    } else {
        split(Side::Destination, destinations, &by_column, |line| one(Side::Source, sources, line))
    }
}

fn one(side: Side, rows: &RowClasses, line: &[Name]) -> Option<Node> {
    split(side, rows, line, |name| Some(Node::Table(name.clone())))
}

/// Rows with equal values share an arm; those equal to row 0 need none.
fn split<V: Ord>(
    side: Side,
    rows: &RowClasses,
    values: &[V],
    mut node: impl FnMut(&V) -> Option<Node>,
) -> Option<Node> {
    let usual = values.first()?;
    let mut arms: BTreeMap<&V, Classes> = BTreeMap::new();
    for (value, classes) in values.iter().zip(rows.iter()).filter(|(value, _)| *value != usual) {
        arms.entry(value).or_default().extend(classes);
    }
    let rest = node(usual)?;
    if arms.is_empty() {
        return Some(rest);
    }
    let arms =
        arms.into_iter().map(|(value, classes)| Some((classes, node(value)?))).collect::<Option<_>>()?;
    Some(Node::Split(Split { side, arms, rest: Box::new(rest) }))
}
