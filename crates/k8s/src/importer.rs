//! From objects to the changes that build the model.

pub(crate) mod complete;
pub(crate) mod doubts;
pub(crate) mod owners;
mod pods;
mod repeated;
pub(crate) mod services;
pub(crate) mod settings;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, Update};
use portcullis_core::settings::Settings;

use crate::autoscaling::HorizontalPodAutoscaler;
use crate::calico::FelixSettings;
use crate::error::{ConvertErrors, ObjectRef, Warning};
use crate::form::{Carrier, Form, ProfileRecord, WorkloadRecord};
use crate::frontend::Frontend;
use crate::names::Names;
use crate::object::Object;
use crate::workload::{PodPlace, PodRecord};

pub use owners::WorkloadPods;
pub use pods::SYNTHETIC_RANGES;

use owners::Owners;
use repeated::Kept;
use services::{Selectable, Services};
pub use settings::Configured;

/// How objects are turned into the model where there is a choice.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    baseline: BaselineReading,
    source: ObjectSource,
    namespace: Option<Name>,
}

/// Where objects come from: what an API server and its controllers would add to them is added, or it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectSource {
    /// Manifests, perhaps not applied yet. A pod without an address gets one (see [`SYNTHETIC_RANGES`]), a workload without
    /// pods stands for one, and a service without slices has the pods that it selects.
    #[default]
    Manifests,
    /// A cluster that runs. A pod without an address has none yet, and controllers make pods and slices. This is how
    /// [`World`](crate::World) reads objects.
    Cluster,
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

    /// Sets the namespace of namespaced objects that name none; `default` otherwise. The reader of the objects has to put them
    /// there with [`Object::set_default_namespace`] before it reports anything about them.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<Name>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The namespace of namespaced objects that name none, when one was set.
    #[must_use]
    pub const fn default_namespace(&self) -> Option<&Name> {
        self.namespace.as_ref()
    }

    /// Sets where the objects come from.
    #[must_use]
    pub const fn source(mut self, source: ObjectSource) -> Self {
        self.source = source;
        self
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
    kept: BTreeMap<(&'static str, Option<Name>, Name), Kept>,
    repeated: BTreeMap<&'static str, u64>,
    /// How many objects leave a name that begins so to the server.
    generated: BTreeMap<ObjectRef, u32>,
    unread: BTreeSet<ObjectRef>,
    pods: Vec<PodRecord>,
    workloads: Vec<WorkloadRecord>,
    autoscalers: Vec<HorizontalPodAutoscaler>,
    services: Services,
    felix: Vec<FelixSettings>,
    /// Namespaces and service accounts as profiles describe them.
    inherited: Vec<Update>,
}

/// What an [`Importer`] made of its objects.
#[derive(Clone, Debug)]
pub struct Import {
    /// The model, as changes to an empty one.
    pub updates: Vec<Update>,
    /// Doubts that do not stop an evaluation.
    pub warnings: Vec<Warning>,
    /// Pods and workloads that have a name and are no endpoint of that name.
    pub places: BTreeMap<EndpointId, PodPlace>,
    /// Workloads by namespace and name; usually one of a name.
    pub workloads: BTreeMap<EndpointId, Vec<WorkloadPods>>,
    /// Services as clients reach them, by name.
    pub frontends: Vec<Frontend>,
    /// What the objects configure beside policy. Staged policies stay as they are by default.
    pub settings: Settings,
    /// Which settings the objects say something about.
    pub configured: Configured,
    /// How many objects were given again with the same meaning, by kind.
    pub repeated: BTreeMap<&'static str, u64>,
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
            kept: BTreeMap::new(),
            repeated: BTreeMap::new(),
            generated: BTreeMap::new(),
            unread: BTreeSet::new(),
            pods: Vec::new(),
            workloads: Vec::new(),
            autoscalers: Vec::new(),
            services: Services::default(),
            felix: Vec::new(),
            inherited: Vec::new(),
        }
    }

    /// Tells an object that leaves its name to the server from earlier ones whose names begin alike: they are different
    /// objects. A caller that reports something about the object before it is added calls this first.
    pub fn tell_apart(&mut self, object: &mut Object) {
        if object.metadata().is_generated() && object.metadata().ordinal == 0 {
            let count = self.generated.entry(object.reference()).or_default();
            *count = count.saturating_add(1);
            object.metadata_mut().ordinal = *count;
        }
    }

    /// Adds an object. One that was given before and means the same is counted, and that is all.
    ///
    /// # Errors
    /// All reasons why the object cannot be given its exact meaning, or that another object has its name. The object
    /// is then left out.
    pub fn add(&mut self, mut object: Object) -> Result<(), ConvertErrors> {
        self.tell_apart(&mut object);
        let reference = object.reference();
        let key = (object.kind(), reference.namespace.as_deref().map(Name::new), Name::new(&reference.name));
        let is_named = !object.metadata().is_generated();
        if is_named && let Some((key, kept)) = self.kept.remove_entry(&key) {
            let added = self.add_again(object, &kept);
            self.kept.insert(key, kept);
            return added;
        }
        let before = self.lengths();
        let read = repeated::as_read(&object);
        let (form, warnings) = object.form(&mut self.names)?;
        match form {
            Form::Pod(record) => self.pods.push(*record),
            Form::Workload(record) => self.workloads.push(*record),
            Form::Autoscaler(autoscaler) => self.autoscalers.push(*autoscaler),
            Form::Service(plan) => self.services.add(*plan),
            Form::Endpoints(endpoints) => self.services.add_endpoints(endpoints),
            Form::EndpointSlice(slice) => self.services.add_slice(slice),
            Form::Felix(settings) => self.felix.extend(settings),
            Form::Profile(record) => {
                let ProfileRecord { profile, carrier } = *record;
                self.updates.push(Update::Profile(profile));
                // The namespace or service account may also be given itself.
                self.inherited.extend(carrier.map(Carrier::into_update));
            }
            form => self.updates.extend(form.into_updates()),
        }
        self.warnings.extend(warnings);
        if is_named {
            let kept = read.map_or_else(|| self.added_since(&before), Kept::Object);
            self.kept.insert(key, kept);
        }
        Ok(())
    }

    /// Notes an object that makes pods from a template and is of a kind that is not read (a DeploymentConfig, a Rollout):
    /// when none of its pods is added, a warning says so.
    pub fn add_unread_workload(&mut self, object: ObjectRef) {
        self.unread.insert(object);
    }

    /// The model of everything added so far, with what an API server and Calico's own controllers add to it:
    /// namespaces that are only referred to, the built-in tiers, the profiles of namespaces and service accounts,
    /// and addresses for pods without one (see [`SYNTHETIC_RANGES`]).
    ///
    /// # Errors
    /// Reasons that only show when all objects are known: workload endpoints of one pod, given twice.
    pub fn finish(self) -> Result<Import, ConvertErrors> {
        let Self {
            options,
            mut updates,
            mut warnings,
            pods,
            workloads,
            autoscalers,
            services,
            felix,
            inherited,
            repeated,
            unread,
            ..
        } = self;
        let mut owners = Owners::new(&pods, &workloads, &autoscalers);
        let is_running = options.source == ObjectSource::Cluster;
        let selectable = (!is_running).then(|| Selectable::of(&pods));
        complete::check_endpoints(&updates)?;
        complete::inherited(inherited, &mut updates);
        let mut places = BTreeMap::new();
        let known = updates.iter().filter_map(|update| match update {
            Update::Endpoint(endpoint) => Some(endpoint.id.clone()),
            _ => None,
        });
        let known: BTreeSet<EndpointId> = known.collect();
        let records = pods.iter().chain(workloads.iter().map(|workload| &workload.pod));
        doubts::unread_workloads(&unread, records, &mut warnings);
        let standing = if is_running { Vec::new() } else { workloads };
        let mut endpoints =
            pods::endpoints(pods, standing, &mut owners, &known, &mut updates, &mut places, &mut warnings);
        if !is_running {
            pods::give_addresses(&mut endpoints, &mut updates);
        }
        updates.extend(endpoints.into_iter().map(Update::Endpoint));
        let frontends = services.finish(selectable.as_ref(), &mut updates);
        if options.baseline == BaselineReading::PerPod {
            complete::shield_baseline(&mut updates);
        }
        complete::tiers(&mut updates, &mut warnings);
        complete::profiles(&mut updates);
        doubts::unknown_namespaces(&updates, &mut warnings);
        doubts::shared_addresses(&updates, &mut warnings);
        complete::namespaces(&mut updates);
        let named = places.keys().cloned().chain(updates.iter().filter_map(endpoint)).collect();
        complete::untracked_on_wildcards(&updates, &mut warnings);
        let workloads = owners.by_name(&named);
        let (settings, configured) = settings::merge(&felix);
        Ok(Import { updates, warnings, places, workloads, frontends, settings, configured, repeated })
    }
}

fn endpoint(update: &Update) -> Option<EndpointId> {
    match update {
        Update::Endpoint(endpoint) => Some(endpoint.id.clone()),
        _ => None,
    }
}
