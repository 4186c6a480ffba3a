//! What a selector demands of single labels: a cheap necessary condition, for an index of selectors by label.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::label::Name;
use crate::selector::{Expr, LabelRef};

/// What must be true of one label for an expression to hold. Necessary, not sufficient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Restriction {
    /// The label must be present.
    pub must_be_present: bool,
    /// The label must be missing.
    pub must_be_absent: bool,
    /// The label must have one of these values, sorted and free of duplicates. `None`: any value will do.
    pub one_of: Option<Vec<Name>>,
}

impl Restriction {
    /// Whether a label with this value, `None` for a missing one, satisfies the restriction.
    #[must_use]
    pub fn admits(&self, value: Option<&str>) -> bool {
        match value {
            None => !self.must_be_present,
            Some(value) => {
                !self.must_be_absent
                    && self.one_of.as_ref().is_none_or(|values| {
                        values.binary_search_by(|candidate| candidate.as_str().cmp(value)).is_ok()
                    })
            }
        }
    }

    /// Whether nothing can satisfy the restriction, so that the whole expression never holds.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        self.must_be_present && (self.must_be_absent || self.one_of.as_ref().is_some_and(Vec::is_empty))
    }
}

impl Expr {
    /// The restrictions that the expression puts on labels, by label. A label that is not listed is not restricted.
    ///
    /// `&&` intersects and `||` unites; a negation is understood on `has()` only, and `!=` and `not in` restrict
    /// nothing. Source: Calico `libcalico-go/lib/selector/parser/ast.go`, label restrictions.
    #[must_use]
    pub fn restrictions(&self) -> BTreeMap<LabelRef, Restriction> {
        match self {
            Self::And(operands) => {
                let mut all = BTreeMap::new();
                for operand in operands {
                    intersect(&mut all, operand.restrictions());
                }
                all
            }
            Self::Or(operands) => {
                let mut operands = operands.iter();
                let Some(first) = operands.next() else { return BTreeMap::new() };
                let mut common = first.restrictions();
                for operand in operands {
                    if common.is_empty() {
                        break;
                    }
                    unite(&mut common, operand.restrictions());
                }
                put_in_order(&mut common);
                common
            }
            other => other.own_restrictions(),
        }
    }

    /// The restrictions of a test or a negation.
    fn own_restrictions(&self) -> BTreeMap<LabelRef, Restriction> {
        let (label, one_of) = match self {
            Self::Has(label)
            | Self::Contains(label, _)
            | Self::StartsWith(label, _)
            | Self::EndsWith(label, _) => (label, None),
            Self::Eq(label, value) => (label, Some(vec![value.clone()])),
            Self::In(label, values) => (label, Some(values.clone())),
            Self::Not(inner) => match &**inner {
                Self::Has(label) => {
                    let absent = Restriction { must_be_absent: true, ..Restriction::default() };
                    return BTreeMap::from([(label.clone(), absent)]);
                }
                _ => return BTreeMap::new(),
            },
            Self::All | Self::Global | Self::Ne(..) | Self::NotIn(..) | Self::And(_) | Self::Or(_) => {
                return BTreeMap::new();
            }
        };
        BTreeMap::from([(
            label.clone(),
            Restriction { must_be_present: true, must_be_absent: false, one_of },
        )])
    }
}

/// Adds the restrictions of a further operand of `&&`.
fn intersect(all: &mut BTreeMap<LabelRef, Restriction>, more: BTreeMap<LabelRef, Restriction>) {
    for (label, theirs) in more {
        let mine = all.entry(label).or_default();
        mine.must_be_present |= theirs.must_be_present;
        mine.must_be_absent |= theirs.must_be_absent;
        match (&mut mine.one_of, theirs.one_of) {
            (Some(mine), Some(theirs)) => mine.retain(|value| theirs.binary_search(value).is_ok()),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }
}

/// Keeps what a further operand of `||` demands too. Leaves the values out of order, see [`put_in_order`].
fn unite(common: &mut BTreeMap<LabelRef, Restriction>, mut more: BTreeMap<LabelRef, Restriction>) {
    common.retain(|label, mine| {
        let Some(theirs) = more.remove(label) else { return false };
        mine.must_be_present &= theirs.must_be_present;
        mine.must_be_absent &= theirs.must_be_absent;
        // Values only bind a label that must be present: otherwise a missing label will do.
        mine.one_of = match (mine.one_of.take(), theirs.one_of) {
            (Some(mut values), Some(others)) if mine.must_be_present => {
                values.extend(others);
                Some(values)
            }
            _ => None,
        };
        mine.must_be_present || mine.must_be_absent
    });
}

fn put_in_order(restrictions: &mut BTreeMap<LabelRef, Restriction>) {
    for values in restrictions.values_mut().filter_map(|restriction| restriction.one_of.as_mut()) {
        values.sort_unstable();
        values.dedup();
    }
}
