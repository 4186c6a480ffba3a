//! What an object is called, read without the rest of it.

use alloc::format;
use alloc::string::{String, ToString};

use portcullis_core::label::Name;
use portcullis_core::quote::quoted;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::ObjectRef;
use crate::kind::{Group, Kind, Known, Relevance};
use crate::object::Object;
use crate::validate;

/// The identity of an object: kind, namespace, name, and its unique id where that is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    kind: &'static str,
    place: Place,
    uid: Option<Uid>,
}

/// Namespace and name of an object of some kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: Option<Name>,
    pub(super) name: Name,
}

/// The unique id of an object, of which only this is asked: is it the same one?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Uid(u128);

/// An object without a name that can be told, so that nobody can say which one it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {field}: {reason}")]
pub struct Unidentified {
    kind: &'static str,
    field: &'static str,
    reason: String,
}

impl ObjectKey {
    /// The object of this kind, namespace and name, whatever its unique id. A namespace is required for namespaced kinds, and
    /// left out for others.
    ///
    /// # Errors
    /// When the name or a required namespace is empty, or none that an object can have.
    pub fn new(kind: Kind, namespace: Option<&str>, name: &str) -> Result<Self, Unidentified> {
        let name_of_kind = kind.name();
        let refuse = |field, reason: String| Unidentified { kind: name_of_kind, field, reason };
        if name.is_empty() {
            return Err(refuse("metadata.name", "a name is required".to_string()));
        }
        validate::dns_subdomain(name).map_err(|reason| refuse("metadata.name", reason.to_string()))?;
        let namespace = match namespace.filter(|namespace| !namespace.is_empty() && kind.is_namespaced()) {
            None if kind.is_namespaced() => {
                return Err(refuse("metadata.namespace", "a namespace is required".to_string()));
            }
            None => None,
            Some(namespace) => {
                validate::dns_label(namespace)
                    .map_err(|reason| refuse("metadata.namespace", reason.to_string()))?;
                Some(Name::new(namespace))
            }
        };
        Ok(Self { kind: name_of_kind, place: Place { namespace, name: Name::new(name) }, uid: None })
    }

    /// The same object, told from others of its name by its unique id.
    #[must_use]
    pub fn with_uid(mut self, uid: &str) -> Self {
        self.uid = Some(Uid::of(uid)).filter(|_| !uid.is_empty());
        self
    }

    /// The key of an object in JSON, of which only the metadata is looked at.
    ///
    /// # Errors
    /// When the text is no JSON object, or has no name that can be read; see [`ObjectKey::new`].
    pub fn of_json(kind: Kind, json: &[u8]) -> Result<Self, Unidentified> {
        Self::read(kind, &mut serde_json::Deserializer::from_slice(json))
    }

    /// As [`ObjectKey::of_json`], for an object that was read as a value.
    ///
    /// # Errors
    /// When it has no name that can be read; see [`ObjectKey::new`].
    pub fn of_value(kind: Kind, value: &Value) -> Result<Self, Unidentified> {
        Self::read(kind, value)
    }

    /// The key of an object that was read.
    ///
    /// # Errors
    /// When it leaves its name to the server, or has none; see [`ObjectKey::new`].
    pub(super) fn of_object(kind: Kind, object: &Object) -> Result<Self, Unidentified> {
        let meta = object.metadata();
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        let key = Self::new(kind, namespace, name.unwrap_or_default())?;
        Ok(key.with_uid(meta.uid.as_deref().unwrap_or_default()))
    }

    fn read<'de, D: Deserializer<'de>>(kind: Kind, deserializer: D) -> Result<Self, Unidentified>
    where
        D::Error: core::fmt::Display,
    {
        let refuse = |reason: String| Unidentified { kind: kind.name(), field: "metadata", reason };
        let head = Head::deserialize(deserializer).map_err(|error| refuse(format!("{error}")))?;
        let meta = head.metadata.unwrap_or_default();
        let mut name = meta.name;
        // Calico stores the metadata that the author gave in an annotation.
        if let Known::Calico(_, Group::Storage) = kind.known()
            && let Some(stored) = meta.annotations.and_then(|annotations| annotations.metadata)
        {
            let stored: Meta = serde_json::from_str(&stored).map_err(|error| refuse(format!("{error}")))?;
            name = stored.name.filter(|name| !name.is_empty()).or(name);
        }
        let key = Self::new(kind, meta.namespace.as_deref(), name.as_deref().unwrap_or_default())?;
        Ok(key.with_uid(meta.uid.as_deref().unwrap_or_default()))
    }

    /// The kind, see [`Kind::name`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The namespace, for kinds that have one.
    #[must_use]
    pub const fn namespace(&self) -> Option<&Name> {
        self.place.namespace.as_ref()
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.place.name
    }

    /// How messages call the object.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        reference(self.kind, &self.place)
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn uid(&self) -> Option<Uid> {
        self.uid
    }
}

/// How messages call an object.
pub(super) fn reference(kind: &str, place: &Place) -> ObjectRef {
    ObjectRef {
        kind: kind.into(),
        namespace: place.namespace.as_ref().map(ToString::to_string),
        name: place.name.to_string(),
    }
}

impl Uid {
    /// FNV-1a of the text: servers make these ids, so nobody chooses two that clash.
    fn of(text: &str) -> Self {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        Self(text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
    }
}

impl Unidentified {
    /// An object of another kind than it was said to be.
    pub(super) fn of_kind(kind: Kind, other: &str) -> Self {
        Self { kind: kind.name(), field: "kind", reason: format!("the object is a {other}") }
    }

    /// The kind of the object.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// The field that is missing or cannot be read.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// Why: one line.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Refuses an object that says that it is of another version, or of another kind, than it is read as.
pub(super) fn check_version<'de, D: Deserializer<'de>>(kind: Kind, deserializer: D) -> Result<(), String> {
    // Anything else that is wrong with it is found when it is read.
    let Ok(Head { api_version: Some(version), kind: Some(said), .. }) = Head::deserialize(deserializer)
    else {
        return Ok(());
    };
    match Kind::of(&version, &said) {
        Relevance::Relevant(of) if of.name() == kind.name() => Ok(()),
        Relevance::Unsupported(reason) => Err(reason),
        _ => Err(format!("{} of {} is no {}", quoted(&said), quoted(&version), kind.name())),
    }
}

/// The start of an object. Everything else is passed over.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<Meta>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "projectcalico.org/metadata")]
    metadata: Option<String>,
}
