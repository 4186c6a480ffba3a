//! Sharing of repeated texts.

use hashbrown::HashSet;
use portcullis_core::label::Name;

/// Names that are shared: the same text is kept once, however many objects repeat it. What no object has any more is
/// dropped when the number of names has doubled, so a look-up costs the same on the average whatever came and went.
///
/// Label keys and values, namespaces and service accounts repeat across tens of thousands of pods.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    names: HashSet<Name>,
    /// How many names there may be before those that nobody has are looked for.
    limit: usize,
}

/// The fewest names that are looked through.
const FEW: usize = 1024;

impl Default for Names {
    fn default() -> Self {
        Self { names: HashSet::default(), limit: FEW }
    }
}

impl Names {
    /// The shared name with this text.
    pub(crate) fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        if self.names.len() >= self.limit {
            self.names.retain(Name::is_shared);
            self.names.shrink_to(self.limit);
            self.limit = self.names.len().saturating_mul(2).max(FEW);
        }
        let name = Name::new(text);
        self.names.insert(name.clone());
        name
    }
}

#[cfg(test)]
impl Names {
    /// How many names are kept.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn equal_texts_share_storage() {
        let mut names = Names::default();
        let (a, b) = (names.name("app"), names.name("app"));
        assert_eq!(a.as_str().as_ptr(), b.as_str().as_ptr());
        assert_ne!(names.name("other"), a);
    }

    #[test]
    fn names_that_nobody_has_are_dropped() {
        let mut names = Names::default();
        let kept = names.name("kept");
        for number in 0..100_000 {
            let _ = names.name(&format!("{number}"));
        }
        assert!(names.names.len() <= FEW, "{}", names.names.len());
        assert_eq!(names.name("kept").as_str().as_ptr(), kept.as_str().as_ptr());
    }
}
