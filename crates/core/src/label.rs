//! Labels, and where a label is looked up.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::ops::Deref;

/// A short immutable string that is cheap to clone: an object name, a label key or a label value.
///
/// Ordered bytewise, which is the order every tie-break in this crate is defined in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Copies `text` into a new name.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Whether a clone of this name exists: what keeps names to share them can drop those that nobody else has.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Names of one text are mostly one allocation, and most comparisons in a search for an endpoint are those of namespaces that
// are the same. `Arc` itself looks at the pointers in `==`, but not here.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.as_str().cmp(other.as_str()) }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<alloc::string::String> for Name {
    fn from(text: alloc::string::String) -> Self {
        Self(Arc::from(text))
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose label a selector term asks for.
///
/// Calico keeps inherited labels apart by text prefixes (`pcns.`, `pcsa.`); a label of that name on a network
/// set can then pose as a namespace label. Here the scope is part of the look-up, so nothing can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The object's own labels, then those its profiles apply, first hit wins.
    Own,
    /// The labels of the object's namespace. Objects without a namespace have none.
    Namespace,
    /// The labels of the object's service account. Objects without one have none.
    ServiceAccount,
}

/// The key under which the name of a namespace or a service account can be selected in
/// [`Scope::Namespace`] and [`Scope::ServiceAccount`], whether or not the object itself is known.
///
/// Source: Calico `libcalico-go/lib/backend/k8s/conversion` adds this label to the profile of each.
pub const NAME_KEY: &str = "projectcalico.org/name";

/// A set of labels: keys to values, in bytewise key order.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Vec<(Name, Name)>);

impl Labels {
    /// No labels.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_str().cmp(key))
    }

    /// The value of `key`, if the label is present.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        // Objects have few labels; going through them is quicker than a search.
        self.0.iter().find(|(own, _)| own.as_str() == key).map(|(_, value)| value.as_str())
    }

    /// Sets `key` to `value` and returns the former value.
    pub fn insert(&mut self, key: impl Into<Name>, value: impl Into<Name>) -> Option<Name> {
        let (key, value) = (key.into(), value.into());
        match self.place(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, old)| core::mem::replace(old, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Name> {
        self.place(key).ok().map(|at| self.0.remove(at).1)
    }

    /// All labels in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<Name>, V: Into<Name>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        let mut labels: Vec<(Name, Name)> = iter.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        // Stable; of two values for one key the later holds.
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                core::mem::swap(&mut later.1, &mut kept.1);
            }
            same
        });
        labels.shrink_to_fit();
        Self(labels)
    }
}

/// Something whose labels can be asked for, scope by scope.
pub trait LabelSource {
    /// The value of `key` in `scope`, or `None` when the label is missing there.
    fn label(&self, scope: Scope, key: &str) -> Option<&str>;
}

/// Bare labels answer in [`Scope::Own`] only.
impl LabelSource for Labels {
    fn label(&self, scope: Scope, key: &str) -> Option<&str> {
        match scope {
            Scope::Own => self.value(key),
            Scope::Namespace | Scope::ServiceAccount => None,
        }
    }
}
