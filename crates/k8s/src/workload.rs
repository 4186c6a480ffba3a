//! Pods and the workloads that make them.

mod convert;
mod podspec;

pub use podspec::{Container, ContainerPort, HostIp, PodCondition, PodIp, PodSpec, PodStatus, PodTemplate};

pub(crate) use convert::{Hosting, Owner, PodRecord, protocol};

use alloc::string::String;

use serde::Deserialize;

use crate::meta::ObjectMeta;

/// A `Pod`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What was observed.
    pub status: Option<PodStatus>,
}

/// The kinds that make pods from a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WorkloadKind {
    /// `apps` Deployment.
    Deployment,
    /// `apps` StatefulSet.
    StatefulSet,
    /// `apps` DaemonSet.
    DaemonSet,
    /// `apps` ReplicaSet.
    ReplicaSet,
    /// Core ReplicationController.
    ReplicationController,
    /// `batch` Job.
    Job,
    /// `batch` CronJob.
    CronJob,
}

impl WorkloadKind {
    /// The kind as a user writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    /// The kind that users call `name`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "Deployment" => Self::Deployment,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "ReplicaSet" => Self::ReplicaSet,
            "ReplicationController" => Self::ReplicationController,
            "Job" => Self::Job,
            "CronJob" => Self::CronJob,
            _ => return None,
        })
    }
}

/// A workload: something that makes pods from a template. It stands for one pod when none of its pods is known.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Which kind of workload.
    pub kind: WorkloadKind,
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The template of its pods; for a CronJob that of its jobs' pods.
    pub template: PodTemplate,
    /// How many pods it may have at a time.
    pub count: PodCount,
    /// Whether it asks for no pods at all.
    pub(crate) is_scaled_to_zero: bool,
}

/// How many pods a workload may have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PodCount {
    /// One, or none.
    One,
    /// More than one, or it is not known.
    Several,
}

/// The shape of every workload kind but CronJob.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawWorkload {
    metadata: ObjectMeta,
    spec: RawSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    template: Option<PodTemplate>,
    replicas: Option<i64>,
    parallelism: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCronJob {
    metadata: ObjectMeta,
    spec: RawCronSpec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawCronSpec {
    job_template: RawJobTemplate,
    concurrency_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawJobTemplate {
    spec: RawSpec,
}

impl Workload {
    /// Reads a workload of the given kind.
    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
        kind: WorkloadKind,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let (metadata, spec, may_overlap) = if kind == WorkloadKind::CronJob {
            let raw = RawCronJob::deserialize(deserializer)?;
            // Missing means `Allow`: a job may start while the one before still runs.
            let policy = raw.spec.concurrency_policy.as_deref();
            let may_overlap = !matches!(policy, Some("Forbid" | "Replace"));
            (raw.metadata, raw.spec.job_template.spec, may_overlap)
        } else {
            let raw = RawWorkload::deserialize(deserializer)?;
            (raw.metadata, raw.spec, false)
        };
        let is_single = |count: Option<i64>| count.is_none_or(|count| count <= 1);
        let is_single = match kind {
            WorkloadKind::DaemonSet => false,
            WorkloadKind::Job | WorkloadKind::CronJob => is_single(spec.parallelism) && !may_overlap,
            _ => is_single(spec.replicas),
        };
        let count = if is_single { PodCount::One } else { PodCount::Several };
        let is_scaled_to_zero = spec.replicas == Some(0);
        Ok(Self { kind, metadata, template: spec.template.unwrap_or_default(), count, is_scaled_to_zero })
    }
}

/// The default name of a pod's service account.
const DEFAULT_ACCOUNT: &str = "default";

/// The name of the service account that a spec asks for.
fn account_of(spec: &PodSpec) -> &str {
    let named = |name: &Option<String>| name.as_deref().is_some_and(|n| !n.is_empty());
    if named(&spec.service_account_name) {
        spec.service_account_name.as_deref().unwrap_or(DEFAULT_ACCOUNT)
    } else if named(&spec.service_account) {
        spec.service_account.as_deref().unwrap_or(DEFAULT_ACCOUNT)
    } else {
        DEFAULT_ACCOUNT
    }
}
