//! Building expressions without a text.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::label::Name;
use crate::selector::{Expr, LabelRef};

/// Constructors. They put value lists in order and leave out what changes nothing; keys and values are taken as
/// they are. The Kubernetes operators are [`one_of`](Expr::one_of) (`In`), [`none_of`](Expr::none_of) (`NotIn`),
/// [`has`](Expr::has) (`Exists`), [`lacks`](Expr::lacks) (`DoesNotExist`) and [`equal`](Expr::equal) (an entry of
/// `matchLabels`), joined by [`all_of`](Expr::all_of).
impl Expr {
    /// The label is present.
    #[must_use]
    pub const fn has(label: LabelRef) -> Self {
        Self::Has(label)
    }

    /// The label is missing.
    #[must_use]
    pub fn lacks(label: LabelRef) -> Self {
        Self::Not(Box::new(Self::Has(label)))
    }

    /// The label is present and has the value.
    #[must_use]
    pub fn equal(label: LabelRef, value: impl Into<Name>) -> Self {
        Self::Eq(label, value.into())
    }

    /// The label is present and has one of the values; without values, never.
    #[must_use]
    pub fn one_of<V: Into<Name>>(label: LabelRef, values: impl IntoIterator<Item = V>) -> Self {
        let mut values = sorted(values);
        match values.pop() {
            Some(only) if values.is_empty() => Self::Eq(label, only),
            last => {
                values.extend(last);
                Self::In(label, values)
            }
        }
    }

    /// The label is missing or has none of the values; without values, always.
    #[must_use]
    pub fn none_of<V: Into<Name>>(label: LabelRef, values: impl IntoIterator<Item = V>) -> Self {
        let mut values = sorted(values);
        match values.pop() {
            Some(only) if values.is_empty() => Self::Ne(label, only),
            last => {
                values.extend(last);
                Self::NotIn(label, values)
            }
        }
    }

    /// Every operand holds; without operands, always.
    #[must_use]
    pub fn all_of(operands: impl IntoIterator<Item = Self>) -> Self {
        operands.into_iter().fold(Self::All, Self::and)
    }

    /// At least one operand holds; without operands, never.
    #[must_use]
    pub fn any_of(operands: impl IntoIterator<Item = Self>) -> Self {
        let mut operands: Vec<Self> = operands.into_iter().collect();
        match operands.pop() {
            Some(only) if operands.is_empty() => only,
            last => {
                operands.extend(last);
                Self::Or(operands)
            }
        }
    }

    /// Both hold. The order of operands is kept, `all()` is left out, and an `And` on either side is extended, not
    /// nested.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, only) | (only, Self::All) => only,
            (Self::And(mut mine), Self::And(theirs)) => {
                mine.extend(theirs);
                Self::And(mine)
            }
            (Self::And(mut mine), other) => {
                mine.push(other);
                Self::And(mine)
            }
            (mine, Self::And(mut theirs)) => {
                theirs.insert(0, mine);
                Self::And(theirs)
            }
            (mine, other) => Self::And(vec![mine, other]),
        }
    }

    /// The opposite. A negation is taken away rather than doubled; operators that have an opposite, missing labels
    /// included (`==` and `!=`, `in` and `not in`), are replaced by it.
    #[must_use]
    pub fn negate(self) -> Self {
        match self {
            Self::Not(mut inner) => mem::replace(&mut *inner, Self::All),
            Self::Eq(label, value) => Self::Ne(label, value),
            Self::Ne(label, value) => Self::Eq(label, value),
            Self::In(label, values) => Self::NotIn(label, values),
            Self::NotIn(label, values) => Self::In(label, values),
            other => Self::Not(Box::new(other)),
        }
    }
}

fn sorted<V: Into<Name>>(values: impl IntoIterator<Item = V>) -> Vec<Name> {
    let mut values: Vec<Name> = values.into_iter().map(Into::into).collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::label::{Labels, Scope};

    fn label(key: &str) -> LabelRef {
        LabelRef::new(Scope::Own, key)
    }

    #[test]
    fn value_lists_are_put_in_order() {
        let expr = Expr::one_of(label("a"), ["z", "b", "z", "a"]);
        assert_eq!(expr.to_string(), r#"a in {"a", "b", "z"}"#);
        assert!(expr.matches(&Labels::from_iter([("a", "z")])));
        assert_eq!(Expr::one_of(label("a"), ["x", "x"]), Expr::equal(label("a"), "x"));
        assert_eq!(Expr::none_of(label("a"), ["x"]).to_string(), r#"a != "x""#);
        assert_eq!(Expr::none_of(label("a"), ["y", "x"]).to_string(), r#"a not in {"x", "y"}"#);
    }

    #[test]
    fn empty_lists_keep_their_meaning() {
        let labels = Labels::from_iter([("a", "x")]);
        let none: [&str; 0] = [];
        for labels in [&labels, &Labels::new()] {
            assert!(!Expr::one_of(label("a"), none).matches(labels));
            assert!(Expr::none_of(label("a"), none).matches(labels));
            assert!(Expr::all_of([]).matches(labels));
            assert!(!Expr::any_of([]).matches(labels));
            assert!(Expr::And(Vec::new()).matches(labels));
        }
        assert_eq!(Expr::And(Vec::new()).to_string(), "all()");
        assert_eq!(Expr::any_of([]).to_string(), "!all()");
    }

    #[test]
    fn and_flattens_and_leaves_out_all() {
        let (a, b, c) = (Expr::has(label("a")), Expr::lacks(label("b")), Expr::has(label("c")));
        assert_eq!(Expr::All.and(a.clone()), a);
        assert_eq!(a.clone().and(Expr::All), a);
        assert_eq!(Expr::All.and(Expr::All), Expr::All);
        assert_eq!(Expr::Global.and(a.clone()).to_string(), "(global() && has(a))");
        let left = a.clone().and(b.clone()).and(c.clone());
        assert_eq!(left.to_string(), "(has(a) && !has(b) && has(c))");
        assert_eq!(left, a.clone().and(b.clone().and(c.clone())));
        assert_eq!(left, Expr::all_of([a.clone(), Expr::All, b.clone(), c.clone()]));
        let four = a.clone().and(b.clone()).and(c.clone().and(a.clone()));
        assert_eq!(four.to_string(), "(has(a) && !has(b) && has(c) && has(a))");
        assert_eq!(Expr::any_of([a.clone()]), a);
        assert_eq!(Expr::any_of([a, b, c]).to_string(), "(has(a) || !has(b) || has(c))");
    }

    #[test]
    fn negate_is_the_opposite_for_present_and_missing_labels() {
        let has_x = Expr::has(label("a"));
        for expr in [
            Expr::All,
            Expr::Global,
            has_x.clone(),
            Expr::lacks(label("a")),
            Expr::equal(label("a"), "x"),
            Expr::Ne(label("a"), "x".into()),
            Expr::one_of(label("a"), ["x", "y"]),
            Expr::none_of(label("a"), ["x", "y"]),
            Expr::Contains(label("a"), "x".into()),
            Expr::StartsWith(label("a"), "x".into()),
            Expr::EndsWith(label("a"), "x".into()),
            Expr::And(vec![has_x.clone(), Expr::equal(label("a"), "x")]),
            Expr::any_of([has_x.clone(), Expr::Global.negate()]),
        ] {
            for labels in [Labels::new(), Labels::from_iter([("a", "x")]), Labels::from_iter([("a", "")])] {
                assert_ne!(
                    expr.clone().negate().matches(&labels),
                    expr.matches(&labels),
                    "{expr} {labels:?}"
                );
            }
            assert_eq!(expr.clone().negate().negate(), expr);
        }
    }
}
