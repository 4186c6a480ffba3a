//! Where each object was.

use alloc::sync::Arc;
use core::hash::{Hash, Hasher};
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};

use portcullis_core::model::PolicyId;
use portcullis_k8s::ObjectRef;

use crate::document::Document;
use crate::error::{ReadError, ReadErrorKind};
use crate::policy_place::{PolicyPlace, RulePlaces};
use crate::position::Position;

/// Where each object was, in 24 bytes or so: there may be hundreds of thousands.
#[derive(Debug, Default)]
pub(super) struct Places {
    files: Vec<Arc<str>>,
    /// By a hash of the object's name. Two objects with the same hash would at worst make a message name the wrong
    /// line.
    by_object: HashMap<u64, Place>,
    /// Of policies with rules.
    rules: HashMap<u64, RulePlaces>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    file: u32,
    position: Position,
}

impl Places {
    /// Notes where an object is; gives the place of an earlier one of that name.
    pub(super) fn insert(&mut self, object: &ObjectRef, document: &Document) -> Option<String> {
        let file = document.shared_file();
        if !self.files.last().is_some_and(|last| Arc::ptr_eq(last, &file)) {
            self.files.push(file);
        }
        let place = Place {
            file: u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX),
            position: document.position(),
        };
        let key = key(object);
        match self.by_object.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(place);
                if object.kind.contains("Policy") {
                    let rules = RulePlaces::of(document);
                    if !rules.is_empty() {
                        self.rules.insert(key, rules);
                    }
                }
                None
            }
            Entry::Occupied(entry) => {
                let earlier = *entry.get();
                let file = self.files.get(earlier.file as usize)?;
                Some(format!("{file}:{}", earlier.position))
            }
        }
    }

    /// Where a policy is.
    pub(super) fn policy(&self, id: &PolicyId) -> Option<PolicyPlace> {
        let object = ObjectRef {
            kind: id.kind.to_string(),
            namespace: id.namespace.as_ref().map(ToString::to_string),
            name: id.name.to_string(),
        };
        let key = key(&object);
        let place = self.by_object.get(&key)?;
        let file = Arc::clone(self.files.get(place.file as usize)?);
        Some(PolicyPlace::new(file, place.position, self.rules.get(&key).cloned().unwrap_or_default()))
    }

    pub(super) fn locate(&self, object: &ObjectRef, field: &str, reason: &str) -> ReadError {
        let place = self.by_object.get(&key(object));
        let file = place.and_then(|place| self.files.get(place.file as usize));
        let error = ReadError::new(ReadErrorKind::Meaning, reason)
            .with_position(place.map(|place| place.position))
            .with_object(Some(object.to_string()))
            .with_field(field);
        match file {
            Some(file) => error.with_file(Arc::clone(file)),
            None => error,
        }
    }
}

fn key(object: &ObjectRef) -> u64 {
    // Fixed keys: the same input gives the same messages.
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}
