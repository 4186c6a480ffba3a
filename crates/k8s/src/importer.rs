//! From objects to the changes that build the model.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::Update;

use crate::error::{ConvertError, Warning};
use crate::names::Names;
use crate::object::Object;

/// How objects are turned into the model where there is a choice.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    baseline: BaselineReading,
}

/// Which pods the Baseline tier still applies to once a NetworkPolicy selects them (decision D8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaselineReading {
    /// A NetworkPolicy takes a pod out of the Baseline tier in the directions it isolates.
    #[default]
    PerDirection,
    /// A NetworkPolicy takes a pod out of the Baseline tier in both directions, as kube-network-policies does.
    PerPod,
}

impl ImportOptions {
    /// The usual readings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the Baseline tier is read.
    #[must_use]
    pub const fn baseline(mut self, reading: BaselineReading) -> Self {
        self.baseline = reading;
        self
    }
}

/// Collects objects and turns them into the model.
#[derive(Debug)]
pub struct Importer {
    options: ImportOptions,
    names: Names,
    updates: Vec<Update>,
    warnings: Vec<Warning>,
    seen: BTreeSet<(&'static str, Option<Name>, Name)>,
}

/// What an [`Importer`] made of its objects.
#[derive(Clone, Debug)]
pub struct Import {
    /// The model, as changes to an empty one.
    pub updates: Vec<Update>,
    /// Doubts that do not stop an evaluation.
    pub warnings: Vec<Warning>,
}

impl Importer {
    /// An importer without objects.
    #[must_use]
    pub fn new(options: ImportOptions) -> Self {
        Self {
            options,
            names: Names::default(),
            updates: Vec::new(),
            warnings: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Adds an object.
    ///
    /// # Errors
    /// All reasons why the object cannot be given its exact meaning. The object is then left out.
    pub fn add(&mut self, object: Object) -> Result<(), Vec<ConvertError>> {
        let reference = object.reference();
        let key = (object.kind(), reference.namespace.as_deref().map(Name::new), Name::new(&reference.name));
        if !object.metadata().is_generated() && !self.seen.insert(key) {
            return Err(vec![ConvertError::new(
                reference,
                "metadata.name",
                "an object of this name was given before",
            )]);
        }
        let (updates, warnings) = match object {
            Object::Namespace(o) => {
                let (o, w) = o.convert_with(&mut self.names)?;
                (vec![Update::Namespace(o)], w)
            }
            Object::ServiceAccount(o) => {
                let (o, w) = o.convert_with(&mut self.names)?;
                (vec![Update::ServiceAccount(o)], w)
            }
            Object::Node(o) => {
                let (o, w) = o.convert_with(&mut self.names)?;
                (vec![Update::Node(o)], w)
            }
            Object::Calico(o) => o.convert(&mut self.names)?,
            _ => (Vec::new(), Vec::new()),
        };
        self.updates.extend(updates);
        self.warnings.extend(warnings);
        Ok(())
    }

    /// The model of everything added so far.
    ///
    /// # Errors
    /// Reasons that only show when all objects are known.
    pub fn finish(self) -> Result<Import, Vec<ConvertError>> {
        let _ = self.options;
        Ok(Import { updates: self.updates, warnings: self.warnings })
    }
}
