//! From manifests to the model.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::ControlFlow;
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::io::Read;
use std::path::{Path, PathBuf};

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, PolicyId, Update};
use portcullis_core::settings::Settings;
use portcullis_k8s::{
    Configured, ConvertError, Frontend, ImportOptions, Importer, Kind, Object, ObjectRef, PodPlace,
    Relevance, WorkloadPods,
};

use crate::document::Document;
use crate::error::{ReadError, ReadErrorKind};
use crate::foreign::{ForeignCount, ForeignPolicies};
use crate::limits::Limits;
use crate::metadata;
use crate::other::Others;
use crate::policy_place::{PolicyPlace, RulePlaces};
use crate::position::Position;
use crate::reader::Reader;
use crate::shell;
use crate::template;
use crate::tree::{Node, NodeKind};

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

/// Why there is no model. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    errors: Vec<ReadError>,
    is_cut_off: bool,
}

/// A doubt about an object, with its place. Prints like a [`ReadError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadWarning(ReadError);

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

impl LoadError {
    /// Adds to errors about two objects of one name, where they stand in a kustomization, how to read what it builds:
    /// objects of one name in several overlays are as they should be.
    fn with_kustomizations(mut self, kustomizations: &[PathBuf]) -> Self {
        for error in self.errors.iter_mut().filter(|error| error.reason().contains(ANOTHER)) {
            let file = Path::new(error.file().unwrap_or_default()).to_owned();
            if let Some(folder) =
                file.ancestors().find(|folder| kustomizations.iter().any(|known| known == folder))
            {
                let folder = shell::quoted(folder);
                *error =
                    error.clone().with_note(&format!("; `-k {folder}` reads what this kustomization builds"));
            }
        }
        self
    }

    /// The errors, in the order of the input. Never empty.
    #[must_use]
    pub fn errors(&self) -> &[ReadError] {
        &self.errors
    }

    /// Whether there were so many errors that the rest of the input was not read.
    #[must_use]
    pub const fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }
}

/// One error a line.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        if self.is_cut_off {
            write!(f, "\nstopped after {} errors", self.errors.len())?;
        }
        Ok(())
    }
}

impl core::error::Error for LoadError {}

impl ReadWarning {
    /// The file as the caller named it, or `stdin`.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.0.file()
    }

    /// Where the object begins in the file.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.0.position()
    }

    /// The object as `kind namespace/name`.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.0.object()
    }

    /// The path of the field, unless it is about the object as a whole.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.0.field()
    }

    /// The message alone.
    #[must_use]
    pub fn message(&self) -> &str {
        self.0.reason()
    }
}

impl fmt::Display for ReadWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// Where each object was, in 24 bytes or so: there may be hundreds of thousands.
#[derive(Debug, Default)]
struct Places {
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
    fn insert(&mut self, object: &ObjectRef, document: &Document) -> Option<String> {
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
    fn policy(&self, id: &PolicyId) -> Option<PolicyPlace> {
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

    fn locate(&self, object: &ObjectRef, field: &str, reason: &str) -> ReadError {
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

fn key(object: &ObjectRef) -> u64 {
    // Fixed keys: the same input gives the same messages.
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

/// What stands before the place of an earlier object.
const ANOTHER: &str = "; another one of this name is at ";

/// Errors that are collected before reading stops.
const ERRORS: usize = 100;
