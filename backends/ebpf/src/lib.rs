//! eBPF backend of Portcullis: the decision IR as the maps of one fixed tc program.
//!
//! The program never changes with policy; it is compiled from `bpf/` and embedded, so that building this crate needs no C
//! compiler. [`Lowering`] turns a snapshot and the endpoints of this node, and then deltas, into [`Write`]s to its maps.
//! That is pure. A packet takes the same few look-ups for any number of rules: its
//! addresses to classes, the classes to rows of the endpoint's program, the cell of the rows to a list by protocol and
//! port, and there the decision.
//!
//! When not to use it: on kernels before 6.1, on anything but Linux, and where netfilter has to see denied packets.
//!
//! # Pods that come and go
//!
//! An interface without a binding is not touched, so what passes there is not policy's. Close it
//! ([`Bindings::close`](portcullis_core::backend::Bindings::close)) when the pod's network is set up and bind it when the
//! pod is known: it is guarded from its first packet on. An interface that is gone does not keep the rest of an update from
//! being in force; it is told in [`Applied`](portcullis_core::backend::Applied), and tried again until it is there or unbound.
//! Close the interface of a pod that ends, and take it out when it is gone.
//!
//! # Threads, memory, namespaces
//!
//! An `Enforcer` can be moved to another thread, and refuses to work in another network namespace than the one it was made in.
//! `ip netns exec` mounts a `/sys` of its own, in which no BPF file system is: mount one, and name it by
//! [`Options::with_pins`]. The kernel sets the memory of the maps aside when they are made, by [`Capacity`]: the default
//! takes about 94 MB on two CPUs. The process keeps what it told the kernel beside that, and the enforcer as many decisions as
//! `Capacity::decisions` says.
//!
//! | feature | adds |
//! |---|---|
//! | `load` | [`Enforcer`]: loads, attaches, updates, hands over to the next process (Linux 6.1, root) |
//! | `oracle` | [`oracle`]: the program as judge of single packets, by `BPF_PROG_TEST_RUN` (Linux, root) |
//!
//! ```
//! use portcullis_core::compile::{CompileScope, Compiler};
//! use portcullis_core::model::{Endpoint, EndpointId, Update};
//! use portcullis_core::settings::Settings;
//! use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface, Lower as _};
//! use portcullis_ebpf::{Lowering, Options, Write};
//!
//! let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
//! let id = EndpointId::workload("shop", "web");
//! let mut web = Endpoint::new(id.clone());
//! web.addresses = vec!["10.0.0.7".parse()?];
//! compiler.apply(Update::Endpoint(web))?;
//! let _ = compiler.commit();
//! let interface = Interface::new("veth7")?.with_index(7);
//! let bindings = Bindings::from([(id, Binding::workload(interface, ["10.0.0.7".parse()?]))]);
//! let desired = DesiredState::new(compiler.snapshot(), &bindings);
//! let (_, update) = Lowering::load(Options::new(), desired, &())?;
//! assert!(matches!(update.writes().last(), Some(Write::Endpoint(7, Some(_)))));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
extern crate alloc;

#[cfg(feature = "load")]
mod error;
mod layout;
#[cfg(feature = "load")]
mod load;
mod lower;
mod options;
#[cfg(feature = "oracle")]
pub mod oracle;
mod write;

#[cfg(feature = "load")]
pub use error::LoadError;
#[cfg(feature = "load")]
pub use load::enforcer::Enforcer;
#[cfg(feature = "load")]
pub use load::reason::Reason;
pub use lower::Lowering;
pub use options::{AttachMode, Capacity, NodeBackends, Options};
pub use write::{Update, Write};
