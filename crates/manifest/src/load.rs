//! From manifests to the model.

mod error;
mod places;

use alloc::collections::BTreeMap;
use core::ops::ControlFlow;
use std::io::Read;
use std::path::Path;

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, PolicyId, Update};
use portcullis_core::settings::Settings;
use portcullis_k8s::{
    Configured, ConvertError, Frontend, ImportOptions, Importer, Kind, Object, ObjectRef, PodPlace,
    Relevance, WorkloadPods,
};

use crate::document::Document;
use crate::error::ReadError;
use crate::foreign::{ForeignCount, ForeignPolicies};
use crate::limits::Limits;
use crate::metadata;
use crate::other::Others;
use crate::policy_place::PolicyPlace;
use crate::reader::Reader;
use crate::template;
use crate::tree::{Node, NodeKind};

pub use error::{LoadError, ReadWarning};

use error::ANOTHER;
use places::Places;

/// Reads manifests and builds the model they describe.
///
/// Errors are collected, so that a user sees all of them at once, up to a number; then the rest of the input is not
/// read any more. With any error there is no model: a policy that was left out could allow what it should deny.
///
/// ```
/// use portcullis_manifest::{Limits, Loader};
/// use portcullis_manifest::k8s::ImportOptions;
///
/// let mut loader = Loader::new(Limits::default(), ImportOptions::new());
/// loader.add_stream("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: Demo}\n".as_bytes());
/// let errors = loader.finish().unwrap_err();
/// assert!(errors.to_string().starts_with("a.yaml:3:18: Namespace Demo: metadata.name: "));
/// ```
#[derive(Debug)]
pub struct Loader {
    reader: Reader,
    import: Collector,
}

/// What was read: a model, and what its author may want to know.
#[derive(Debug)]
pub struct Loaded {
    /// The model, as changes to an empty one.
    pub updates: Vec<Update>,
    /// Doubts that do not stop an evaluation.
    pub warnings: Vec<ReadWarning>,
    /// Objects that policy does not depend on, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// Documents and folders that hold no Kubernetes objects, by what they are.
    pub others: BTreeMap<&'static str, u64>,
    /// Objects that were given again with the same meaning, by kind.
    pub repeated: BTreeMap<&'static str, u64>,
    /// Policies of other network plugins, by group and kind: answers leave them out.
    pub foreign: Vec<ForeignPolicies>,
    /// Pods and workloads that have a name and are no endpoint of that name.
    pub places: BTreeMap<EndpointId, PodPlace>,
    /// Workloads by namespace and name; usually one of a name.
    pub workloads: BTreeMap<EndpointId, Vec<WorkloadPods>>,
    /// Services as clients reach them, by name.
    pub frontends: Vec<Frontend>,
    /// What the objects configure beside policy.
    pub settings: Settings,
    /// Which settings they say something about.
    pub configured: Configured,
    /// Where each policy and each of its rules begins.
    pub locations: BTreeMap<PolicyId, PolicyPlace>,
}

impl Loader {
    /// A loader that has read nothing.
    #[must_use]
    pub fn new(limits: Limits, options: ImportOptions) -> Self {
        let import = Collector {
            namespace: options.default_namespace().cloned(),
            importer: Importer::new(options),
            errors: Vec::new(),
            is_cut_off: false,
            places: Places::default(),
            skipped: BTreeMap::new(),
            doubts: Vec::new(),
            foreign: ForeignCount::default(),
        };
        Self { reader: Reader::new(limits), import }
    }

    /// Leaves out of every directory what a pattern matches; see [`Reader::exclude`].
    ///
    /// # Errors
    /// The pattern is not understood.
    pub fn exclude(&mut self, pattern: &str) -> Result<(), ReadError> {
        self.reader.exclude(pattern)
    }

    /// Reads a file, a directory or `-` for standard input; see [`Reader::read_path`].
    pub fn add_path(&mut self, path: &Path) {
        if !self.import.is_cut_off {
            let _ = self.reader.read_path(path, &mut |next| self.import.take(next));
        }
    }

    /// Reads a stream; see [`Reader::read_stream`].
    pub fn add_stream(&mut self, name: &str, stream: impl Read) {
        if !self.import.is_cut_off {
            let _ = self.reader.read_stream(name, stream, &mut |next| self.import.take(next));
        }
    }

    /// The model of all that was read.
    ///
    /// # Errors
    /// All that was wrong with the input. What only shows when all objects are known is looked for when each of them
    /// is right by itself.
    pub fn finish(self) -> Result<Loaded, LoadError> {
        let others = self.reader.into_others();
        let kustomizations = others.kustomizations.clone();
        self.import.finish(others).map_err(|error| error.with_kustomizations(&kustomizations))
    }
}

/// Takes objects one by one, and keeps of each only what the model needs and where it was.
#[derive(Debug)]
struct Collector {
    /// Where objects go that name no namespace, if not to `default`.
    namespace: Option<Name>,
    importer: Importer,
    errors: Vec<ReadError>,
    is_cut_off: bool,
    places: Places,
    skipped: BTreeMap<String, u64>,
    /// What the text of objects makes one wonder about.
    doubts: Vec<ReadError>,
    foreign: ForeignCount,
}

impl Collector {
    fn take(&mut self, next: Result<Document, ReadError>) -> ControlFlow<()> {
        match next {
            Ok(document) => self.add(document)?,
            Err(error) => self.refuse(error)?,
        }
        ControlFlow::Continue(())
    }

    fn add(&mut self, mut document: Document) -> ControlFlow<()> {
        let kind = match Kind::of(document.api_version(), document.kind()) {
            Relevance::Relevant(kind) => kind,
            Relevance::Ignored => {
                if let Some(error) = template::of_openshift(&document) {
                    return self.refuse(error);
                }
                // A kind is user text: it is looked up before it is copied.
                match self.skipped.get_mut(document.kind()) {
                    Some(count) => *count = count.saturating_add(1),
                    None => drop(self.skipped.insert(document.kind().to_owned(), 1)),
                }
                self.doubts.extend(document.repeated_keys());
                if makes_pods(document.root()) {
                    let namespace = document.namespace().or(self.namespace.as_deref()).unwrap_or("default");
                    let object = ObjectRef {
                        kind: document.kind().to_owned(),
                        namespace: Some(namespace.to_owned()),
                        name: document.name().unwrap_or_default().to_owned(),
                    };
                    self.places.insert(&object, &document);
                    self.importer.add_unread_workload(object);
                }
                return ControlFlow::Continue(());
            }
            Relevance::Foreign => {
                self.foreign.add(&document);
                self.doubts.extend(document.repeated_keys());
                return ControlFlow::Continue(());
            }
            Relevance::Unsupported(reason) => return self.refuse(document.refuse("apiVersion", &reason)),
            // A variant of a later version of that crate.
            _ => return self.refuse(document.refuse("", "the kind is not understood")),
        };
        if document.has_repeated_keys() {
            document.overlook(|path| !kind.depends_on(path));
            self.doubts.extend(document.repeated_keys());
        }
        let mut object = match document.deserialize_with(|from| Object::deserialize(kind, from)) {
            Ok(object) => object,
            Err(error) => return self.refuse(error),
        };
        if let Some(namespace) = &self.namespace {
            object.set_default_namespace(namespace);
        }
        self.importer.tell_apart(&mut object);
        let earlier = self.places.insert(&object.reference(), &document);
        self.doubts.extend(metadata::unknown_fields(&document));
        let Err(errors) = self.importer.add(object) else { return ControlFlow::Continue(()) };
        for error in &errors {
            let mut reason = error.reason().to_owned();
            if let Some(earlier) = earlier.as_deref().filter(|_| error.field() == "metadata.name") {
                reason.push_str(ANOTHER);
                reason.push_str(earlier);
            }
            self.refuse(
                document.refuse(error.field(), &reason).with_object(Some(error.object().to_string())),
            )?;
        }
        ControlFlow::Continue(())
    }

    fn refuse(&mut self, error: ReadError) -> ControlFlow<()> {
        self.errors.push(error);
        self.is_cut_off = self.errors.len() >= ERRORS;
        if self.is_cut_off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn finish(self, others: Others) -> Result<Loaded, LoadError> {
        let Self { importer, errors, is_cut_off, places, skipped, foreign, doubts, .. } = self;
        if !errors.is_empty() {
            return Err(LoadError { errors, is_cut_off });
        }
        let import = importer.finish().map_err(|errors| {
            let is_cut_off = errors.len() > ERRORS;
            let place = |error: &ConvertError| places.locate(error.object(), error.field(), error.reason());
            LoadError { errors: errors.iter().take(ERRORS).map(place).collect(), is_cut_off }
        })?;
        let place = |warning: &portcullis_k8s::Warning| {
            ReadWarning(places.locate(&warning.object, &warning.field, &warning.message))
        };
        let doubts = others.warnings.into_iter().chain(doubts).map(ReadWarning);
        let warnings = doubts.chain(import.warnings.iter().map(place)).collect();
        let policies = import.updates.iter().filter_map(|update| match update {
            Update::Policy(policy) => Some(&policy.id),
            _ => None,
        });
        let locations = policies.filter_map(|id| Some((id.clone(), places.policy(id)?))).collect();
        Ok(Loaded {
            updates: import.updates,
            warnings,
            skipped,
            others: others.counts,
            repeated: import.repeated,
            foreign: foreign.finish(),
            places: import.places,
            workloads: import.workloads,
            frontends: import.frontends,
            settings: import.settings,
            configured: import.configured,
            locations,
        })
    }
}

/// Whether an object of a kind that is not read holds a template of pods, where workloads have it.
fn makes_pods(object: Node<'_>) -> bool {
    let paths: [&[&str]; 3] = [
        &["spec", "template", "spec", "containers"],
        &["spec", "jobTemplate", "spec", "template", "spec", "containers"],
        &["spec", "jobTargetRef", "template", "spec", "containers"],
    ];
    paths.iter().any(|path| {
        let containers = path.iter().try_fold(object, |node, key| node.get(key));
        containers.is_some_and(|containers| containers.kind() == NodeKind::Sequence)
    })
}

/// Errors that are collected before reading stops.
const ERRORS: usize = 100;
