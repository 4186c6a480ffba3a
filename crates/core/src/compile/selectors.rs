//! Finding the selectors that may select a group, and the groups that a selector may select.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashMap};

use crate::compile::idset::IdSet;
use crate::compile::labels::GroupLabels;
use crate::label::{NAME_KEY, Name, Scope};
use crate::selector::Expr;

/// Label values of which a selector needs one; used to find candidates without trying everything.
#[derive(Debug, Default)]
pub(super) struct Anchor<'e> {
    /// The namespace has one of these names.
    pub(super) namespaces: Option<&'e [Name]>,
    /// The owner's own label has one of these values.
    pub(super) own: Option<(&'e Name, &'e [Name])>,
}

impl<'e> Anchor<'e> {
    pub(super) fn of(expr: &'e Expr) -> Self {
        let mut anchor = Self::default();
        anchor.narrow(expr);
        anchor
    }

    fn narrow(&mut self, expr: &'e Expr) {
        match expr {
            Expr::Eq(label, value) => self.note(label.scope, &label.key, core::slice::from_ref(value)),
            Expr::In(label, values) => self.note(label.scope, &label.key, values),
            Expr::And(operands) => operands.iter().for_each(|operand| self.narrow(operand)),
            _ => {}
        }
    }

    fn note(&mut self, scope: Scope, key: &'e Name, values: &'e [Name]) {
        match scope {
            Scope::Namespace if key.as_str() == NAME_KEY && self.namespaces.is_none() => {
                self.namespaces = Some(values);
            }
            Scope::Own if self.own.is_none() => self.own = Some((key, values)),
            _ => {}
        }
    }
}

/// A label as a key of a map that is looked up without owning one.
#[derive(Hash)]
pub(super) struct LabelKey<'a>(pub(super) &'a Name, pub(super) &'a Name);

impl hashbrown::Equivalent<(Name, Name)> for LabelKey<'_> {
    fn equivalent(&self, key: &(Name, Name)) -> bool {
        *self.0 == key.0 && *self.1 == key.1
    }
}

/// Removes an id, and its set with the last one.
pub(super) fn forget<K, Q, I>(map: &mut HashMap<K, IdSet<I>>, key: &Q, id: I)
where
    K: Eq + Hash,
    Q: Hash + hashbrown::Equivalent<K> + ?Sized,
    I: Copy + Ord,
{
    if let Some(ids) = map.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

/// Selectors by anchor.
#[derive(Debug)]
pub(super) struct SelectorIndex<I> {
    /// By namespace, each with the hash of the label it needs besides, or 0 for none. Equal hashes of unequal labels
    /// only make for one candidate more.
    by_namespace: HashMap<Name, IdSet<(u32, I)>>,
    by_label: HashMap<(Name, Name), IdSet<I>>,
    rest: IdSet<I>,
    hasher: DefaultHashBuilder,
}

impl<I: Copy + Ord> SelectorIndex<I> {
    pub(super) fn new() -> Self {
        Self {
            by_namespace: HashMap::new(),
            by_label: HashMap::new(),
            rest: IdSet::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(super) fn insert(&mut self, id: I, expr: &Expr) {
        let Anchor { namespaces, own } = Anchor::of(expr);
        match (namespaces, own) {
            (Some(namespaces), own) => {
                let marks = self.marks(own);
                for namespace in namespaces {
                    let ids = self.by_namespace.entry_ref(namespace).or_default();
                    marks.iter().for_each(|mark| ids.insert((*mark, id)));
                }
            }
            (None, Some((key, values))) => {
                for value in values {
                    self.by_label.entry((key.clone(), value.clone())).or_default().insert(id);
                }
            }
            (None, None) => self.rest.insert(id),
        }
    }

    pub(super) fn remove(&mut self, id: I, expr: &Expr) {
        let Anchor { namespaces, own } = Anchor::of(expr);
        match (namespaces, own) {
            (Some(namespaces), own) => {
                let marks = self.marks(own);
                for namespace in namespaces {
                    marks.iter().for_each(|mark| forget(&mut self.by_namespace, namespace, (*mark, id)));
                }
            }
            (None, Some((key, values))) => {
                for value in values {
                    forget(&mut self.by_label, &LabelKey(key, value), id);
                }
            }
            (None, None) => self.rest.remove(id),
        }
    }

    /// Ids whose selector may select the group, in order.
    pub(super) fn candidates(&self, group: &GroupLabels<'_>) -> Vec<I> {
        let mut found = self.rest.as_slice().to_vec();
        if let Some(ids) = group.key.namespace.as_ref().and_then(|name| self.by_namespace.get(name)) {
            let ids = ids.as_slice();
            if ids.len() <= FEW {
                found.extend(ids.iter().map(|(_, id)| *id));
            } else {
                let mut marked = |mark: u32| {
                    let start = ids.partition_point(|(other, _)| *other < mark);
                    let with = ids.get(start..).unwrap_or_default().iter();
                    found.extend(with.take_while(|(other, _)| *other == mark).map(|(_, id)| *id));
                };
                marked(0);
                for (key, value) in group.own().flat_map(|labels| labels.iter()) {
                    marked(self.mark(key, value));
                }
            }
        }
        if !self.by_label.is_empty() {
            for (key, value) in group.own().flat_map(|labels| labels.iter()) {
                found.extend(self.by_label.get(&LabelKey(key, value)).into_iter().flat_map(IdSet::as_slice));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn marks(&self, own: Option<(&Name, &[Name])>) -> Vec<u32> {
        match own {
            Some((key, values)) => values.iter().map(|value| self.mark(key, value)).collect(),
            None => alloc::vec![0],
        }
    }

    /// Never 0.
    fn mark(&self, key: &Name, value: &Name) -> u32 {
        let hash = self.hasher.hash_one(LabelKey(key, value));
        u32::try_from(hash >> 32).unwrap_or(u32::MAX).max(1)
    }
}

/// Up to here it is cheaper to try every selector of a namespace than to look for those that fit a label.
const FEW: usize = 12;
