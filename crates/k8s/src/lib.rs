//! Kubernetes and Calico objects, and their conversion to the Portcullis model.
//!
//! `no_std` with `alloc`. A conversion keeps the exact meaning of an object or refuses it; it never widens.
#![no_std]

extern crate alloc;

pub mod admin_network_policy;
pub mod autoscaling;
pub mod calico;
mod cidr;
pub mod cluster;
pub mod cluster_network_policy;
mod context;
mod error;
mod foreign;
mod form;
mod frontend;
mod gap;
mod importer;
mod intstr;
mod kind;
mod meta;
mod names;
mod near;
pub mod network_policy;
mod object;
mod path;
mod repeats;
mod safe_form;
mod selector;
pub mod service;
mod standing;
mod status;
mod tier;
mod tracked;
mod validate;
pub mod workload;
mod world;

pub use error::{ConvertError, ConvertErrors, ObjectRef, Warning};
pub use frontend::{
    BackendState, Frontend, FrontendBackend, FrontendKind, FrontendPort, LoadBalancer, TrafficPolicy,
};
pub use importer::{
    BaselineReading, Configured, Import, ImportOptions, Importer, ObjectSource, PodPlace, SYNTHETIC_RANGES,
    WorkloadPods,
};
pub use intstr::IntOrString;
pub use kind::{Kind, Relevance};
pub use meta::{ObjectMeta, OwnerReference};
pub use object::Object;
pub use selector::{LabelSelector, LabelSelectorRequirement};
pub use standing::Standing;
pub use status::Status;
pub use tier::{CLOSED as CLOSED_TIER, SHIELD as SHIELD_TIER, shielding_policy};
pub use world::{Changes, ObjectKey, Observed, Refusal, Unidentified, UnreadablePolicy, World, WorldOptions};
