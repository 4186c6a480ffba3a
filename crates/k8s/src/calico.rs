//! Calico's own kinds.

use portcullis_core::model::Update;
use serde::Deserializer;

use alloc::vec::Vec;

use crate::error::{ConvertError, Warning};
use crate::meta::{ObjectMeta, Placing};
use crate::names::Names;
use crate::object::Relevance;

/// An object of one of Calico's kinds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CalicoObject {}

/// Whether policy depends on objects of this kind of the group `projectcalico.org` or `crd.projectcalico.org`.
pub(crate) fn relevance(_version: &str, _kind: &str) -> Relevance {
    Relevance::Ignored
}

impl CalicoObject {
    /// Reads an object of `kind`, which [`relevance`] called relevant.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        api_version: &str,
        kind: &str,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let _ = (api_version, deserializer);
        Err(serde::de::Error::custom(alloc::format!("`{kind}` is not a kind that policy depends on")))
    }

    /// The kind as a user writes it.
    pub(crate) fn kind(&self) -> &'static str {
        match *self {}
    }

    /// Whether objects of this kind live in a namespace.
    pub(crate) fn placing(&self) -> Placing {
        match *self {}
    }

    /// The metadata.
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match *self {}
    }

    /// The object in the model.
    pub(crate) fn convert(
        &self,
        _names: &mut Names,
    ) -> Result<(Vec<Update>, Vec<Warning>), Vec<ConvertError>> {
        match *self {}
    }
}
