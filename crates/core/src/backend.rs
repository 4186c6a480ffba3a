//! The contract of dataplanes: what a backend takes, what it gives, and how it fails.
//!
//! A backend turns a [`Snapshot`](crate::ir::Snapshot) and the [`Bindings`] of one node into something that decides
//! packets. It has up to three faces, each a trait:
//!
//! - [`Lower`] is pure: it turns a snapshot, then deltas, into writes. It needs no root and no kernel.
//! - [`Dataplane`] enforces on this machine: it is what a node agent drives, as `Box<dyn Dataplane>`.
//! - [`Oracle`] loads a snapshot where no traffic meets it, and lets the kernel decide single packets.
//!
//! The types around them mean the same in every backend. Nothing here knows a particular backend; a new one is a crate
//! that implements these traits.
//!
//! # What every dataplane promises
//!
//! - *Ok means in force.* A load or an update that returns without an error has brought the whole desired state in
//!   force, but for the endpoints that [`Applied`] names.
//! - *A refusal changes nothing.* When the state does not fit or the kernel refuses, the policy before stays in force, and
//!   every packet gets its old or its new decision, also when the load replaces the state of an earlier process. The next
//!   [`Dataplane::update`] brings the whole state in force by itself, or fails again.
//! - *A failure has an owner.* An interface that is gone, or that the kernel does not let us guard, is the failure of that endpoint,
//!   never of the node's policy.
//! - *Unknown is closed.* A packet on a [closed](Bindings::close) interface is dropped, and so is one with an address
//!   that is not its workload's.
//! - *A key of a decision never changes its meaning* while an event or a count of it can still be delivered.

mod applied;
mod binding;
mod dataplane;
mod error;
mod event;
mod lower;
mod newly_denied;
mod node_interfaces;
mod options;
mod oracle;

pub use applied::{Applied, Unreached};
pub use binding::{Binding, BindingError, Bindings, Interface, InterfaceError};
pub use dataplane::{Counter, Dataplane, Health, TrackedAt, TrackedFlow, Usage};
pub use error::{DataplaneError, DataplaneErrorKind, LowerError, LowerErrorKind};
pub use event::{Event, EventAction};
pub use lower::{DesiredState, Lower};
pub use newly_denied::NewlyDenied;
pub use node_interfaces::NodeInterfaces;
pub use options::{DataplaneOptions, Ended, Inspected, LoggedEvents};
pub use oracle::{Oracle, OracleError, OracleErrorKind};
