//! The nftables backend: the decision IR as one `inet` table.
//!
//! [`Lowering`] is pure: a [`Snapshot`](portcullis_core::ir::Snapshot) or a [`Delta`](portcullis_core::ir::Delta)
//! becomes an [`Update`], batches of commands that text and netlink messages are made from. It does not touch the
//! kernel and needs no root. `Enforcer` (feature `apply`) keeps the table of the network namespace of its thread as it
//! should be; `oracle` (feature `oracle`) lets the kernel decide single packets in a namespace of its own.
//!
//! When not to use it: for packets that netfilter never sees, as between the ports of a bridge, and where rules need HTTP:
//! a flow that only an HTTP rule can decide is dropped, or handed over to an L7 enforcer, see
//! [`Inspected`](portcullis_core::backend::Inspected).
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `apply` | no | `Enforcer`, `Nft`; Linux |
//! | `nftables-json` | no | `Update::json`, for `nft -j` |
//! | `oracle` | no | the module `oracle`; Linux, root, the programs `nft` and `ip` |
//!
//! The order of evaluation follows Calico's `felix/rules/static.go` and `felix/rules/endpoints.go`; what is asked where
//! is in the crate's architecture notes.
//!
//! ```
//! use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface, Lower as _};
//! use portcullis_core::compile::{CompileScope, Compiler};
//! use portcullis_core::model::{Endpoint, EndpointId, Update};
//! use portcullis_core::settings::Settings;
//! use portcullis_nftables::{Existing, Lowering, Options};
//!
//! let id = EndpointId::workload("shop", "web");
//! let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
//! compiler.apply(Update::Endpoint(Endpoint::new(id.clone())))?;
//! let _ = compiler.commit();
//! let interface = Interface::new("veth0")?;
//! let bindings = Bindings::from([(id, Binding::workload(interface, ["10.0.0.7".parse()?]))]);
//! let desired = DesiredState::new(compiler.snapshot(), &bindings);
//! let (_, update) = Lowering::load(Options::new(), desired, &Existing::default())?;
//! assert!(update.to_string().contains("add element inet portcullis to_v4 { \"veth0\" . 10.0.0.7 : goto "));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

extern crate alloc;

#[cfg(feature = "apply")]
mod apply;
mod command;
#[cfg(feature = "nftables-json")]
mod json;
mod lower;
mod options;
#[cfg(feature = "oracle")]
pub mod oracle;
mod text;
mod update;

#[cfg(feature = "apply")]
pub use apply::{Drift, Enforcer, Nft};
pub use lower::Lowering;
pub use options::{Limits, Options};
pub use update::{Existing, Update};
