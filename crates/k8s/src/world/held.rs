//! What the world keeps of each object.

use alloc::collections::BTreeMap;
use core::ops::Bound;

use portcullis_core::label::Name;

use super::key::{Place, Uid};
use crate::form::Form;
use crate::gap::Gap;
use crate::standing::Clarity;

/// The objects by kind, namespace and name.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<&'static str, BTreeMap<Place, Held>>);

/// One object.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) uid: Option<Uid>,
    /// What it says; `None` for one of which nothing is known but that it exists.
    pub(super) form: Option<Form>,
    pub(super) clarity: Clarity,
    /// What is not known of it, for rules that name it.
    pub(super) gap: Option<Gap>,
}

impl Objects {
    /// What is kept of an object.
    pub(super) fn held(&self, kind: &str, place: &Place) -> Option<&Held> {
        super::steps::count();
        self.0.get(kind)?.get(place)
    }

    /// What an object says, when it is there and known.
    pub(super) fn form(&self, kind: &str, place: &Place) -> Option<&Form> {
        self.held(kind, place)?.form.as_ref()
    }

    pub(super) fn insert(&mut self, kind: &'static str, place: Place, held: Held) {
        self.0.entry(kind).or_default().insert(place, held);
    }

    pub(super) fn held_mut(&mut self, kind: &str, place: &Place) -> Option<&mut Held> {
        self.0.get_mut(kind)?.get_mut(place)
    }

    pub(super) fn remove(&mut self, kind: &str, place: &Place) {
        let Some(of_kind) = self.0.get_mut(kind) else { return };
        of_kind.remove(place);
        if of_kind.is_empty() {
            self.0.remove(kind);
        }
    }

    /// The objects of a kind.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = (&Place, &Held)> {
        self.0.get(kind).into_iter().flatten().inspect(|_| super::steps::count())
    }

    /// The objects of a kind in a namespace.
    pub(super) fn of_namespace<'a>(
        &'a self,
        kind: &str,
        namespace: &'a Name,
    ) -> impl Iterator<Item = (&'a Place, &'a Held)> {
        let first = Place { namespace: Some(namespace.clone()), name: Name::new("") };
        let range = (Bound::Included(first), Bound::Unbounded);
        let found = self.0.get(kind).map(|of_kind| of_kind.range(range));
        let found = found.into_iter().inspect(|_| super::steps::count());
        found.flatten().take_while(move |(place, _)| place.namespace.as_ref() == Some(namespace))
    }

    /// All objects.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &Place, &Held)> {
        self.0.iter().flat_map(|(kind, of_kind)| of_kind.iter().map(|(place, held)| (*kind, place, held)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}
