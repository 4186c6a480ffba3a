//! A model that follows objects as they come, change and go.

mod change;
mod derive;
mod held;
mod index;
mod key;
mod observed;
mod part;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod usage;
mod why;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use portcullis_core::model::Update;
use portcullis_core::settings::Settings;

use crate::error::{ConvertError, ConvertErrors, ObjectRef, Warning};
use crate::importer::{BaselineReading, Configured};
use crate::kind::Kind;
use crate::names::Names;
use crate::safe_form::{self, SafeForm};
use crate::standing::{Clarity, Standing};

use change::Transaction;
use held::{Held, Objects};
use key::Place;
use usage::Usage;

pub use key::{ObjectKey, Unidentified};
pub use observed::Observed;

/// How a [`World`] reads objects where there is a choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldOptions {
    baseline: BaselineReading,
    unreadable: UnreadablePolicy,
}

/// What stands in the place of a policy that cannot be read (decision D13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnreadablePolicy {
    /// Its safe form: a rule that allows and is not clear matches nothing, another one that is not clear denies everything;
    /// where more than rules is not clear, no rule is. The policy then lets pass no more than its author can have meant.
    #[default]
    SafeForm,
    /// What it was when it was last understood; its safe form when it never was.
    LastGood,
}

impl WorldOptions {
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

    /// Sets what stands in the place of a policy that cannot be read.
    #[must_use]
    pub const fn unreadable_policies(mut self, stands: UnreadablePolicy) -> Self {
        self.unreadable = stands;
        self
    }
}

/// The objects of a cluster that runs, and the model that they make.
///
/// It takes objects as a watch gives them, each kind in any order against the others, and says what changes in the model: the
/// work for one object does not grow with the number of the others. After any events the model is the one that an
/// [`Importer`](crate::Importer) makes of the objects as they are, with [`ObjectSource::Cluster`](crate::ObjectSource::Cluster).
///
/// An object that cannot be read changes nothing else. A policy is replaced by its safe form, see [`UnreadablePolicy`]; of any
/// other object the last form that was understood stays, and without one nothing is known of it: a pod is then no endpoint, so
/// that a dataplane closes its interface; so are the pods of a namespace or service account of which nothing is known. Of network
/// sets, nodes, slices, profiles and host endpoints that were never understood, what can be read counts; what cannot may be
/// anything: rules that deny it deny more, and rules that allow it no more. That alone costs more where there are more
/// policies: the rules that may name such an object are looked at when it comes and when it goes.
///
/// ```
/// use portcullis_core::model::Cluster;
/// use portcullis_k8s::{Kind, ObjectKey, Observed, World, WorldOptions};
///
/// let mut world = World::new(WorldOptions::new());
/// let mut cluster = Cluster::new();
/// let kind = Kind::of("v1", "Pod").kind().unwrap();
/// let pod = br#"{"metadata": {"name": "a", "namespace": "n"}, "status": {"podIP": "10.0.0.1"}}"#;
///
/// cluster.extend(world.put(Observed::from_json(kind, pod).unwrap()).updates);
/// assert_eq!(cluster.endpoints().len(), 1);
/// cluster.extend(world.remove(&ObjectKey::new(kind, Some("n"), "a").unwrap()).updates);
/// assert!(cluster.endpoints().is_empty());
/// ```
#[derive(Debug)]
pub struct World {
    options: WorldOptions,
    names: Names,
    objects: Objects,
    usage: Usage,
    refusals: BTreeMap<(&'static str, Place), Refusal>,
    settings: Settings,
    /// Whether the parts of the model that need no object were told.
    has_begun: bool,
}

/// What follows from an event.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Changes {
    /// Changes of the model, in an order that is the same for the same event.
    pub updates: Vec<Update>,
    /// Objects of the event that could not be read.
    pub refusals: Vec<Refusal>,
    /// Doubts about the objects of the event. What only shows when all objects are known is told by [`World::doubts`].
    pub warnings: Vec<Warning>,
    /// The settings in their new form, when they changed.
    pub settings: Option<Settings>,
}

/// An object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Which object; without a name when it could not be told.
    pub object: ObjectRef,
    /// Fields and reasons.
    pub errors: ConvertErrors,
    /// What stands in its place.
    pub stands: Standing,
}

impl World {
    /// A world without objects. The built-in tiers are all that its model holds; the first event tells them.
    #[must_use]
    pub fn new(options: WorldOptions) -> Self {
        Self {
            options,
            names: Names::default(),
            objects: Objects::default(),
            usage: Usage::default(),
            refusals: BTreeMap::new(),
            settings: Settings::default(),
            has_begun: false,
        }
    }

    /// Takes an object that was added or changed. One with another unique id than the object that has its name replaces
    /// that object: nothing of it stays.
    pub fn put(&mut self, object: Observed) -> Changes {
        let mut transaction = Transaction::default();
        self.take(object, &mut transaction);
        self.commit(transaction)
    }

    /// Takes the news that an object is gone. Nothing happens when it is not known, or when the object of its name has
    /// another unique id.
    pub fn remove(&mut self, key: &ObjectKey) -> Changes {
        let mut transaction = Transaction::default();
        let held = self.objects.held(key.kind(), key.place());
        let is_other = |held: &Held| key.uid().is_some() && held.uid.is_some() && held.uid != key.uid();
        if held.is_some_and(|held| !is_other(held)) {
            self.drop_object(key.kind(), key.place(), &mut transaction);
        }
        self.commit(transaction)
    }

    /// Takes all objects of a kind, as a list gives them: those that it does not hold are gone. Nothing of it is seen before
    /// all of it is.
    ///
    /// When the list holds an object that cannot be told from others, nothing is taken to be gone: it may be that one.
    pub fn replace(
        &mut self,
        kind: Kind,
        objects: impl IntoIterator<Item = Result<Observed, Unidentified>>,
    ) -> Changes {
        let mut transaction = Transaction::default();
        let mut listed = BTreeSet::new();
        let mut is_complete = true;
        for object in objects {
            match object {
                Ok(object) => {
                    if object.key.kind() == kind.name() {
                        listed.insert(object.key.place().clone());
                    }
                    self.take(object, &mut transaction);
                }
                Err(error) => {
                    is_complete = false;
                    transaction.refusals.push(unnamed(&error));
                }
            }
        }
        if is_complete {
            let gone = self.objects.of_kind(kind.name()).map(|(place, _)| place);
            let gone: Vec<Place> = gone.filter(|place| !listed.contains(*place)).cloned().collect();
            for place in gone {
                self.drop_object(kind.name(), &place, &mut transaction);
            }
        }
        self.commit(transaction)
    }

    /// How many objects there are, those that could not be read among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects that could not be read when they were last put.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.values()
    }

    /// What the objects configure beside policy.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Which settings the objects say something about.
    #[must_use]
    pub fn configured(&self) -> Configured {
        self.usage.settings.configured()
    }

    fn take(&mut self, object: Observed, transaction: &mut Transaction) {
        let Observed { kind, key, object, raw } = object;
        let (name, place, uid) = (key.kind(), key.place().clone(), key.uid());
        let held = self.objects.held(name, &place);
        if held.is_some_and(|held| held.uid.is_some() && uid.is_some() && held.uid != uid) {
            self.drop_object(name, &place, transaction);
        }
        let read = object.and_then(|object| object.form(&mut self.names));
        let errors = match read {
            Ok((form, warnings)) => {
                transaction.warnings.extend(warnings);
                self.refusals.remove(&(name, place.clone()));
                let held = Held { uid, form: Some(form), clarity: Clarity::Clear, gap: None };
                return self.keep(name, place, held, transaction);
            }
            Err(errors) => errors,
        };
        let is_good = |held: &Held| held.clarity == Clarity::Clear && held.form.is_some();
        let last_good = self.objects.held_mut(name, &place).filter(|held| is_good(held));
        let keeps_last = !kind.is_policy() || self.options.unreadable == UnreadablePolicy::LastGood;
        let (errors, stands) = match last_good {
            Some(held) if keeps_last => {
                held.uid = uid.or(held.uid);
                (errors, Standing::LastGood)
            }
            _ => {
                let raw = raw.and_then(observed::Raw::into_value);
                let SafeForm { form, clarity, errors, stands, gap } =
                    safe_form::of(kind, &key, raw.as_ref(), errors, &mut self.names);
                self.keep(name, place.clone(), Held { uid, form, clarity, gap }, transaction);
                (errors, stands)
            }
        };
        let refusal = Refusal { object: key.reference(), errors, stands };
        transaction.refusals.push(refusal.clone());
        self.refusals.insert((name, place), refusal);
    }
}

/// The refusal of an object without a name.
fn unnamed(error: &Unidentified) -> Refusal {
    let object = ObjectRef { kind: error.kind().into(), namespace: None, name: "".into() };
    let reason = format!("{}; nothing is taken to be gone", error.reason());
    let errors = ConvertError::new(object.clone(), error.field(), reason).into();
    Refusal { object, errors, stands: Standing::Nothing }
}
