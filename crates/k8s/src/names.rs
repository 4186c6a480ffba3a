//! Sharing of repeated texts.

use alloc::collections::BTreeSet;

use portcullis_core::label::Name;

/// A pool of names: the same text is stored once, however many objects repeat it.
///
/// Label keys and values, namespaces and service accounts repeat across tens of thousands of pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeSet<Name>);

impl Names {
    /// The shared name with this text.
    pub(crate) fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let name = Name::new(text);
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_storage() {
        let mut names = Names::default();
        let (a, b) = (names.name("app"), names.name("app"));
        assert_eq!(a.as_str().as_ptr(), b.as_str().as_ptr());
        assert_ne!(names.name("other"), a);
    }
}
