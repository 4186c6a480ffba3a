//! What changes the number of a workload's pods.

use alloc::string::String;

use serde::Deserialize;

use crate::meta::ObjectMeta;

/// A `HorizontalPodAutoscaler`, of which policy needs to know that a workload may have several pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HorizontalPodAutoscaler {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: Option<AutoscalerSpec>,
}

/// What a [`HorizontalPodAutoscaler`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AutoscalerSpec {
    /// The workload.
    pub scale_target_ref: Option<ScaleTarget>,
    /// The most pods it may get.
    pub max_replicas: Option<i64>,
}

/// The workload that is scaled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ScaleTarget {
    /// Its kind.
    pub kind: Option<String>,
    /// Its name, in the same namespace.
    pub name: Option<String>,
}
