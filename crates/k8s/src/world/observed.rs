//! Objects as a watch gives them.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use serde_json::Value;

use super::key::{ObjectKey, Unidentified, check_version};
use crate::error::{ConvertError, ConvertErrors};
use crate::kind::{Kind, Known};
use crate::object::Object;
use crate::repeats;
use crate::tracked::{Tracked, TrackedError};

/// An object as a list or a watch gave it: which one it is, and its content as far as it could be read.
///
/// Reading does not need the [`World`](crate::World), so it can be done on the thread that has the connection. A policy
/// keeps its text until the world has taken it, because it may have to be read again, rule by rule.
///
/// From an object of `k8s-openapi`, or of any type that serializes as the API does, it takes two lines:
///
/// ```
/// # use portcullis_k8s::{Kind, Observed, Relevance};
/// # let pod = serde_json::json!({"metadata": {"name": "a", "namespace": "n"}});
/// let Relevance::Relevant(kind) = Kind::of("v1", "Pod") else { unreachable!() };
/// let observed = Observed::from_value(kind, serde_json::to_value(&pod).unwrap()).unwrap();
/// # assert_eq!(observed.key().name().as_str(), "a");
/// ```
#[derive(Clone, Debug)]
pub struct Observed {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
    /// What was read, or why nothing was.
    pub(super) object: Result<Object, ConvertErrors>,
    /// The text of the object, for kinds that have a safe form.
    pub(super) raw: Option<Raw>,
}

/// The content of an object before it is read.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Json(Box<[u8]>),
    Value(Box<Value>),
}

impl Observed {
    /// Reads an object of a kind from JSON, as an API server sends it. One that says to be of another version is refused
    /// whole: nothing in it is taken to mean what it would in this one. Pods have one version, and it is not looked at.
    ///
    /// # Errors
    /// Only when it cannot be told which object it is. One of which nothing else can be read is taken all the same: the
    /// world says what stands in its place.
    pub fn from_json(kind: Kind, json: &[u8]) -> Result<Self, Unidentified> {
        if has_versions(kind)
            && let Err(reason) = check_version(kind, &mut serde_json::Deserializer::from_slice(json))
        {
            return Ok(Self::of_other_version(kind, ObjectKey::of_json(kind, json)?, reason));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let read = Object::deserialize(kind, &mut deserializer);
        let read = read.and_then(|object| deserializer.end().map(|()| object));
        let raw = kind.has_safe_form().then(|| Raw::Json(json.into()));
        match read {
            Ok(object) => {
                let key = ObjectKey::of_object(kind, &object)?;
                Ok(Self { kind, key, object: Ok(without_notes(kind, object)), raw })
            }
            Err(error) => {
                let key = ObjectKey::of_json(kind, json)?;
                // Of a text that says something twice there is no value.
                let value = repeats::value(json).ok();
                let placed = value.and_then(|value| Object::deserialize(kind, Tracked(&value)).err());
                let error = match placed {
                    Some(error) => misread(&key, &error),
                    None => ConvertError::new(key.reference(), "", error.to_string()),
                };
                Ok(Self { kind, key, object: Err(error.into()), raw })
            }
        }
    }

    /// Reads an object of a kind from a value; see [`Observed::from_json`].
    ///
    /// # Errors
    /// As [`Observed::from_json`].
    pub fn from_value(kind: Kind, value: Value) -> Result<Self, Unidentified> {
        if has_versions(kind)
            && let Err(reason) = check_version(kind, &value)
        {
            return Ok(Self::of_other_version(kind, ObjectKey::of_value(kind, &value)?, reason));
        }
        let (key, object) = match Object::deserialize(kind, Tracked(&value)) {
            Ok(object) => (ObjectKey::of_object(kind, &object)?, Ok(without_notes(kind, object))),
            Err(error) => {
                let key = ObjectKey::of_value(kind, &value)?;
                let error = misread(&key, &error);
                (key, Err(error.into()))
            }
        };
        Ok(Self { kind, key, object, raw: kind.has_safe_form().then(|| Raw::Value(Box::new(value))) })
    }

    fn of_other_version(kind: Kind, key: ObjectKey, reason: String) -> Self {
        let error = ConvertError::new(key.reference(), "apiVersion", reason);
        Self { kind, key, object: Err(error.into()), raw: None }
    }

    /// An object that was read before. When it has to be refused, its text is not there to be read again, so its safe form
    /// is that of an object of which only the name is known.
    ///
    /// # Errors
    /// When it has no name, or leaves it to the server.
    pub fn from_object(kind: Kind, object: Object) -> Result<Self, Unidentified> {
        let key = ObjectKey::of_object(kind, &object)?;
        if key.kind() != object.kind() {
            return Err(Unidentified::of_kind(kind, object.kind()));
        }
        Ok(Self { kind, key, object: Ok(object), raw: None })
    }

    /// Which object it is.
    #[must_use]
    pub const fn key(&self) -> &ObjectKey {
        &self.key
    }
}

/// Whether the version of an object is looked at: of pods, which are very many, there is only one.
const fn has_versions(kind: Kind) -> bool {
    !matches!(kind.known(), Known::Pod)
}

/// An object without the annotations and finalizers on which no policy depends: a list of pods is a third of them.
fn without_notes(kind: Kind, mut object: Object) -> Object {
    if !kind.depends_on("metadata.annotations") {
        let metadata = object.metadata_mut();
        metadata.annotations = None;
        metadata.finalizers = None;
    }
    object
}

fn misread(key: &ObjectKey, error: &TrackedError) -> ConvertError {
    ConvertError::new(key.reference(), error.field(), error.to_string())
}

impl Raw {
    /// The content as a value, or nothing when it is no JSON or says something twice.
    pub(super) fn into_value(self) -> Option<Value> {
        match self {
            Self::Json(json) => repeats::value(&json).ok(),
            Self::Value(value) => Some(*value),
        }
    }
}
