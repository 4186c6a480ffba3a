//! The expression tree of a selector and its meaning.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::hash::{Hash, Hasher};
use core::slice;

use crate::label::{LabelSource, Name, Scope};

/// A label key together with the scope it is looked up in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelRef {
    /// Whose label.
    pub scope: Scope,
    /// Which label.
    pub key: Name,
}

impl LabelRef {
    /// A look-up of `key` in `scope`.
    pub fn new(scope: Scope, key: impl Into<Name>) -> Self {
        Self { scope, key: key.into() }
    }
}

/// A selector's expression tree.
///
/// On a missing label every positive test is false and `Ne` and `NotIn` are **true**; `Not` is plain negation.
/// Comparison is bytewise. Source: Calico `libcalico-go/lib/selector/parser/ast.go`; the Kubernetes operators
/// `In`, `NotIn`, `Exists` and `DoesNotExist` have the same meaning.
#[non_exhaustive]
pub enum Expr {
    /// `all()`: everything.
    All,
    /// `global()`: true by itself; a conversion gives it a meaning in the places that allow it.
    Global,
    /// The label is present, whatever its value.
    Has(LabelRef),
    /// Present and equal.
    Eq(LabelRef, Name),
    /// Missing or different.
    Ne(LabelRef, Name),
    /// Present and one of the values. The list is sorted and free of duplicates; empty never matches.
    In(LabelRef, Vec<Name>),
    /// Missing or none of the values. The list is sorted and free of duplicates; empty always matches.
    NotIn(LabelRef, Vec<Name>),
    /// Present and contains the text.
    Contains(LabelRef, Name),
    /// Present and starts with the text.
    StartsWith(LabelRef, Name),
    /// Present and ends with the text.
    EndsWith(LabelRef, Name),
    /// Negation.
    Not(Box<Expr>),
    /// Every operand holds. Two or more operands when it comes from the parser; empty is true.
    And(Vec<Expr>),
    /// At least one operand holds. Two or more operands when it comes from the parser; empty is false.
    Or(Vec<Expr>),
}

impl Expr {
    /// Whether the expression holds for `labels`.
    pub fn matches(&self, labels: &(impl LabelSource + ?Sized)) -> bool {
        // Tests are evaluated in a function of their own: a level of nesting then takes little stack.
        match self {
            Self::Not(inner) => !inner.matches(labels),
            Self::And(operands) => {
                for operand in operands {
                    if !operand.matches(labels) {
                        return false;
                    }
                }
                true
            }
            Self::Or(operands) => {
                for operand in operands {
                    if operand.matches(labels) {
                        return true;
                    }
                }
                false
            }
            test => test.holds(labels),
        }
    }

    /// Evaluates a test; connectives are evaluated by the caller.
    fn holds(&self, labels: &(impl LabelSource + ?Sized)) -> bool {
        let value = |label: &LabelRef| labels.label(label.scope, &label.key);
        match self {
            Self::All | Self::Global => true,
            Self::Has(label) => value(label).is_some(),
            Self::Eq(label, want) => value(label).is_some_and(|v| v == want.as_str()),
            Self::Ne(label, want) => value(label).is_none_or(|v| v != want.as_str()),
            Self::In(label, set) => value(label).is_some_and(|v| contains(set, v)),
            Self::NotIn(label, set) => value(label).is_none_or(|v| !contains(set, v)),
            Self::Contains(label, text) => value(label).is_some_and(|v| v.contains(text.as_str())),
            Self::StartsWith(label, text) => value(label).is_some_and(|v| v.starts_with(text.as_str())),
            Self::EndsWith(label, text) => value(label).is_some_and(|v| v.ends_with(text.as_str())),
            Self::Not(_) | Self::And(_) | Self::Or(_) => self.matches(labels),
        }
    }

    /// Looks every label up in `scope` instead.
    #[must_use]
    pub fn in_scope(mut self, scope: Scope) -> Self {
        self.set_scope(scope);
        self
    }

    fn set_scope(&mut self, scope: Scope) {
        match self {
            Self::Not(inner) => inner.set_scope(scope),
            Self::And(operands) | Self::Or(operands) => {
                for operand in operands {
                    operand.set_scope(scope);
                }
            }
            Self::Has(label)
            | Self::Eq(label, _)
            | Self::Ne(label, _)
            | Self::In(label, _)
            | Self::NotIn(label, _)
            | Self::Contains(label, _)
            | Self::StartsWith(label, _)
            | Self::EndsWith(label, _) => label.scope = scope,
            Self::All | Self::Global => {}
        }
    }

    /// Whether `test` holds for this expression or for any part of it. Outer parts are asked first.
    pub fn any(&self, mut test: impl FnMut(&Self) -> bool) -> bool {
        self.any_part(&mut test)
    }

    fn any_part(&self, test: &mut impl FnMut(&Self) -> bool) -> bool {
        if test(self) {
            return true;
        }
        for operand in self.operands() {
            if operand.any_part(test) {
                return true;
            }
        }
        false
    }

    /// The parts that a connective connects; a test has none.
    #[must_use]
    pub fn operands(&self) -> &[Self] {
        match self {
            Self::Not(inner) => slice::from_ref(inner),
            Self::And(operands) | Self::Or(operands) => operands,
            _ => &[],
        }
    }

    /// Whether `global()` occurs anywhere in the expression.
    #[must_use]
    pub fn contains_global(&self) -> bool {
        self.any(|part| matches!(part, Self::Global))
    }

    /// The label that a test looks at. `all()`, `global()` and connectives have none.
    #[must_use]
    pub const fn label(&self) -> Option<&LabelRef> {
        match self {
            Self::Has(label)
            | Self::Eq(label, _)
            | Self::Ne(label, _)
            | Self::In(label, _)
            | Self::NotIn(label, _)
            | Self::Contains(label, _)
            | Self::StartsWith(label, _)
            | Self::EndsWith(label, _) => Some(label),
            Self::All | Self::Global | Self::Not(_) | Self::And(_) | Self::Or(_) => None,
        }
    }

    /// Calls `visit` with the label of every test, in the order of the text. A label that is tested twice is
    /// visited twice.
    pub fn for_each_label(&self, mut visit: impl FnMut(&LabelRef)) {
        self.any(|part| {
            part.label().into_iter().for_each(&mut visit);
            false
        });
    }
}

// Cloning, comparing and hashing are written by hand because the derived code takes so much stack for a level of
// nesting, in debug builds, that the depth limit would have to be lower than what Calico's objects can hold. The
// functions that recurse leave everything else to functions that do not.

impl Clone for Expr {
    fn clone(&self) -> Self {
        let (negations, inner) = self.without_negations();
        match inner {
            Self::And(operands) => negate(Self::And(clone_all(operands)), negations),
            Self::Or(operands) => negate(Self::Or(clone_all(operands)), negations),
            test => negate(test.clone_test(), negations),
        }
    }
}

fn negate(mut expr: Expr, times: usize) -> Expr {
    for _ in 0..times {
        expr = Expr::Not(Box::new(expr));
    }
    expr
}

fn clone_all(operands: &[Expr]) -> Vec<Expr> {
    let mut copies = Vec::with_capacity(operands.len());
    for operand in operands {
        copies.push(operand.clone());
    }
    copies
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        let ((my_negations, mine), (their_negations, theirs)) =
            (self.without_negations(), other.without_negations());
        if my_negations != their_negations || !mine.same_head(theirs) {
            return false;
        }
        for (mine, theirs) in mine.operands().iter().zip(theirs.operands()) {
            if mine != theirs {
                return false;
            }
        }
        true
    }
}

impl Eq for Expr {}

/// An arbitrary but fixed order: by number of negations, kind of expression, label, values and number of operands,
/// then operand by operand.
impl Ord for Expr {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((my_negations, mine), (their_negations, theirs)) =
            (self.without_negations(), other.without_negations());
        let mut order = my_negations.cmp(&their_negations).then_with(|| mine.compare_head(theirs));
        for (mine, theirs) in mine.operands().iter().zip(theirs.operands()) {
            if order.is_ne() {
                break;
            }
            order = mine.cmp(theirs);
        }
        order
    }
}

impl PartialOrd for Expr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Expr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash_head(state);
        for operand in self.operands() {
            operand.hash(state);
        }
    }
}

impl Expr {
    /// The number of negations that the expression starts with, and what they negate.
    fn without_negations(&self) -> (usize, &Self) {
        let (mut negations, mut inner) = (0_usize, self);
        while let Self::Not(negated) = inner {
            negations = negations.saturating_add(1);
            inner = negated;
        }
        (negations, inner)
    }

    /// Everything about an expression but its operands: kind, label, values, number of operands.
    fn head(&self) -> (u8, Option<&LabelRef>, &[Name], usize) {
        let (kind, values): (u8, &[Name]) = match self {
            Self::All => (0, &[]),
            Self::Global => (1, &[]),
            Self::Has(_) => (2, &[]),
            Self::Eq(_, value) => (3, slice::from_ref(value)),
            Self::Ne(_, value) => (4, slice::from_ref(value)),
            Self::In(_, values) => (5, values),
            Self::NotIn(_, values) => (6, values),
            Self::Contains(_, value) => (7, slice::from_ref(value)),
            Self::StartsWith(_, value) => (8, slice::from_ref(value)),
            Self::EndsWith(_, value) => (9, slice::from_ref(value)),
            Self::Not(_) => (10, &[]),
            Self::And(_) => (11, &[]),
            Self::Or(_) => (12, &[]),
        };
        (kind, self.label(), values, self.operands().len())
    }

    fn same_head(&self, other: &Self) -> bool {
        self.head() == other.head()
    }

    fn compare_head(&self, other: &Self) -> Ordering {
        self.head().cmp(&other.head())
    }

    fn hash_head(&self, state: &mut impl Hasher) {
        self.head().hash(state);
    }

    /// Clones a test; connectives are cloned by the caller.
    fn clone_test(&self) -> Self {
        match self {
            Self::All => Self::All,
            Self::Global => Self::Global,
            Self::Has(label) => Self::Has(label.clone()),
            Self::Eq(label, value) => Self::Eq(label.clone(), value.clone()),
            Self::Ne(label, value) => Self::Ne(label.clone(), value.clone()),
            Self::In(label, values) => Self::In(label.clone(), values.clone()),
            Self::NotIn(label, values) => Self::NotIn(label.clone(), values.clone()),
            Self::Contains(label, value) => Self::Contains(label.clone(), value.clone()),
            Self::StartsWith(label, value) => Self::StartsWith(label.clone(), value.clone()),
            Self::EndsWith(label, value) => Self::EndsWith(label.clone(), value.clone()),
            Self::Not(_) | Self::And(_) | Self::Or(_) => self.clone(),
        }
    }
}

fn contains(sorted: &[Name], value: &str) -> bool {
    sorted.binary_search_by(|name| name.as_str().cmp(value)).is_ok()
}
