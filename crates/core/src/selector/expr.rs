//! The expression tree of a selector and its meaning.

use alloc::boxed::Box;
use alloc::vec::Vec;

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
            Self::Not(inner) => !inner.matches(labels),
            Self::And(all) => all.iter().all(|e| e.matches(labels)),
            Self::Or(any) => any.iter().any(|e| e.matches(labels)),
        }
    }
}

fn contains(sorted: &[Name], value: &str) -> bool {
    sorted.binary_search_by(|name| name.as_str().cmp(value)).is_ok()
}
