//! Objects that are given more than once.
//!
//! People keep an object in two places, and two dumps of one cluster differ in what a server counts. So an object may
//! be given again when it means the same: both make the same model. What policy does not read makes no difference.

use alloc::boxed::Box;
use core::ops::Range;

use crate::error::{ConvertError, ConvertErrors};
use crate::importer::Importer;
use crate::meta::ObjectMeta;
use crate::object::Object;

/// What an earlier object of a name has become.
#[derive(Debug)]
pub(super) enum Kept {
    /// It stands in the lists of the importer, in these ranges.
    Lists(Lists<Range<usize>>),
    /// It was merged with others, so this is what was read of it.
    Object(Box<Object>),
}

/// One value for each list of the importer.
#[derive(Clone, Debug)]
pub(super) struct Lists<T> {
    updates: T,
    inherited: T,
    pods: T,
    workloads: T,
    felix: T,
}

impl Importer {
    /// How long the lists are.
    pub(super) fn lengths(&self) -> Lists<usize> {
        Lists {
            updates: self.updates.len(),
            inherited: self.inherited.len(),
            pods: self.pods.len(),
            workloads: self.workloads.len(),
            felix: self.felix.len(),
        }
    }

    /// What was added to the lists since they had these lengths.
    pub(super) fn added_since(&self, before: &Lists<usize>) -> Kept {
        let now = self.lengths();
        Kept::Lists(Lists {
            updates: before.updates..now.updates,
            inherited: before.inherited..now.inherited,
            pods: before.pods..now.pods,
            workloads: before.workloads..now.workloads,
            felix: before.felix..now.felix,
        })
    }

    /// Counts an object that means the same as an earlier one of its name, and refuses any other.
    pub(super) fn add_again(&mut self, object: Object, kept: &Kept) -> Result<(), ConvertErrors> {
        let (kind, reference) = (object.kind(), object.reference());
        let mut alone = Self::new(self.options.clone());
        core::mem::swap(&mut alone.names, &mut self.names);
        let read = match kept {
            Kept::Object(_) => as_read(&object),
            Kept::Lists(_) => None,
        };
        let added = alone.add(object);
        core::mem::swap(&mut alone.names, &mut self.names);
        added?;
        let is_same = match kept {
            Kept::Object(earlier) => read.is_some_and(|read| is_read_alike(earlier, &read)),
            Kept::Lists(at) => {
                self.updates.get(at.updates.clone()) == Some(&alone.updates[..])
                    && self.inherited.get(at.inherited.clone()) == Some(&alone.inherited[..])
                    && self.pods.get(at.pods.clone()) == Some(&alone.pods[..])
                    && self.workloads.get(at.workloads.clone()) == Some(&alone.workloads[..])
                    && self.felix.get(at.felix.clone()) == Some(&alone.felix[..])
            }
        };
        if !is_same {
            let reason = "an object of this name was given before, with other content";
            return Err(ConvertError::new(reference, "metadata.name", reason).into());
        }
        let count = self.repeated.entry(kind).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }
}

/// What was read of an object that the importer merges with others; nothing for objects of which it has a list.
pub(super) fn as_read(object: &Object) -> Option<Box<Object>> {
    let bare = |metadata: &ObjectMeta| ObjectMeta {
        annotations: None,
        finalizers: None,
        owner_references: None,
        uid: None,
        ..metadata.clone()
    };
    let mut object = match object {
        Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Endpoints(_)
        | Object::HorizontalPodAutoscaler(_) => object.clone(),
        // INVARIANT: all that is read of these goes into the lists of `Lists`.
        Object::Namespace(_)
        | Object::ServiceAccount(_)
        | Object::Node(_)
        | Object::Pod(_)
        | Object::Workload(_)
        | Object::NetworkPolicy(_)
        | Object::ExtensionsNetworkPolicy(_)
        | Object::ClusterNetworkPolicy(_)
        | Object::AdminNetworkPolicy(_)
        | Object::BaselineAdminNetworkPolicy(_)
        | Object::FelixConfiguration(_)
        | Object::Calico(_) => return None,
    };
    match &mut object {
        Object::Service(o) => o.metadata = ObjectMeta { labels: None, ..bare(&o.metadata) },
        Object::EndpointSlice(o) => o.metadata = bare(&o.metadata),
        Object::HorizontalPodAutoscaler(o) => o.metadata = bare(&o.metadata),
        // An annotation of these decides whether they are mirrored.
        Object::Endpoints(o) => {
            let annotations = o.metadata.annotations.take();
            o.metadata = ObjectMeta { annotations, ..bare(&o.metadata) };
        }
        _ => {}
    }
    Some(Box::new(object))
}

fn is_read_alike(one: &Object, other: &Object) -> bool {
    match (one, other) {
        (Object::Service(one), Object::Service(other)) => one == other,
        (Object::EndpointSlice(one), Object::EndpointSlice(other)) => one == other,
        (Object::Endpoints(one), Object::Endpoints(other)) => one == other,
        (Object::HorizontalPodAutoscaler(one), Object::HorizontalPodAutoscaler(other)) => one == other,
        _ => false,
    }
}
