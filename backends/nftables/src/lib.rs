//! The nftables backend: the decision IR as a table of the family `inet`, and claims of addresses in one of `arp`.
//!
//! [`Lowering`] is pure: a [`Snapshot`](portcullis_core::ir::Snapshot) or a [`Delta`](portcullis_core::ir::Delta)
//! becomes an [`Update`], batches of commands that text, JSON and netlink messages are made from. It does not touch the
//! kernel and needs no root. `Enforcer` (feature `apply`) is the [dataplane](portcullis_core::backend::Dataplane) that keeps
//! the table as it should be; `oracle` (feature `oracle`) lets the kernel decide single packets in a namespace of its own.
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
//! # The table of a pod
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
//!
//! # Enforcement
//!
//! ```no_run
//! # #[cfg(feature = "apply")]
//! # fn enforce(mut compiler: portcullis_core::compile::Compiler) -> Result<(), Box<dyn core::error::Error>> {
//! use portcullis_core::backend::{Bindings, Dataplane as _, DataplaneOptions, DesiredState, Interface, LoggedEvents};
//! use portcullis_nftables::{Enforcer, Options};
//!
//! let shared = DataplaneOptions::new().with_events(LoggedEvents::Denied);
//! let mut dataplane = Enforcer::open(Options::from(shared))?;
//! let mut bindings = Bindings::new();
//! // A pod is being made: its interface is there, and nobody knows it yet.
//! bindings.close(Interface::new("veth0")?);
//! let applied = dataplane.load(DesiredState::new(compiler.snapshot(), &bindings))?;
//! assert!(applied.is_complete());
//! // Objects change: each delta is told.
//! let delta = compiler.commit();
//! let _ = dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta)?;
//! while let Some(event) = dataplane.next_event()? {
//!     println!("{:?} {}", event.action, event.decision.cause);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Threads and namespaces
//!
//! An `Enforcer` works in the network namespace of the thread that opened it, also when another thread uses it later. It
//! can be sent to another thread, and is used by one at a time. `ip netns exec` mounts `/sys` anew, so a program that is run
//! by it sees no BPF file system there; nftables does not need one.
//!
//! # Pod start and pod end
//!
//! [Close](portcullis_core::backend::Bindings::close) the host's end of the interface before it comes up,
//! [bind](portcullis_core::backend::Bindings::bind) it once the pod's addresses are known, and at the end
//! [unbind](portcullis_core::backend::Bindings::unbind) it, and close it again if the interface stays. An interface that is
//! neither bound nor closed is not touched, unless
//! [`workload_interfaces`](portcullis_core::backend::DataplaneOptions::workload_interfaces) tells by its name that it is a workload's:
//! then it is cut off. Interfaces go by
//! name and need not be there. The first closed interface that its name does not tell adds rules, which stay until the next load.

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
