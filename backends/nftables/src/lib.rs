//! The nftables backend: the decision IR as one `inet` table.
//!
//! [`Lowering`] is pure: a [`Snapshot`](portcullis_core::ir::Snapshot) or a [`Delta`](portcullis_core::ir::Delta)
//! becomes an [`Update`], batches of [`Command`]s that text, JSON and netlink are made from. It does not touch the
//! kernel and needs no root.

extern crate alloc;

#[cfg(feature = "apply")]
mod apply;
mod binding;
mod bodies;
mod command;
mod decisions;
mod dispatch;
mod emit;
#[cfg(feature = "apply")]
mod enforcer;
mod fixed;
mod l4;
mod lowering;
mod names;
#[cfg(feature = "apply")]
mod netlink;
mod nets;
mod options;
#[cfg(feature = "oracle")]
pub mod oracle;
mod peers;
mod plan;
mod pool;
#[cfg(feature = "apply")]
mod process;
mod skeleton;
mod text;
mod update;

#[cfg(feature = "apply")]
pub use apply::{ApplyError, Counter, Transport};
pub use binding::{Binding, Bindings, Interface, InterfaceError};
pub use command::{
    BaseHook, Chain, Command, ConnectionState, Element, Elements, Field, HookPoint, Part, Rule, Set, SetKind,
    Target, Value,
};
#[cfg(feature = "apply")]
pub use enforcer::{Drift, EnforceError, Enforcer};
pub use lowering::{LowerError, Lowering};
#[cfg(feature = "apply")]
pub use netlink::{Event, Events, Flow, Netlink};
pub use options::{Inspected, Limits, LoggedEvents, Options};
#[cfg(feature = "apply")]
pub use process::Nft;
pub use text::text;
pub use update::{Existing, Stage, Update};
