//! eBPF backend of Portcullis: the decision IR as the maps of one fixed tc program.
//!
//! The program never changes with policy; it is compiled from `bpf/` and embedded, so that building this crate needs no C
//! compiler. [`Lowering::load`] turns a snapshot and the endpoints of this node into [`Write`]s to its maps,
//! [`Lowering::update`] a delta. Both are pure. A packet takes the same few look-ups whatever the number of rules: its
//! addresses to classes, the classes to rows of the endpoint's program, the cell of the rows to a list by protocol and
//! port, and there the decision.
//!
//! When not to use it: on kernels before 6.1, on anything but Linux, and where netfilter has to see denied packets.
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
//! use portcullis_ebpf::{Binding, Bindings, Lowering, Options, Write};
//!
//! let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
//! let id = EndpointId::workload("shop", "web");
//! let mut web = Endpoint::new(id.clone());
//! web.addresses = vec!["10.0.0.7".parse()?];
//! compiler.apply(Update::Endpoint(web))?;
//! let _ = compiler.commit();
//! let bindings = Bindings::from([(id, Binding::workload(7, ["10.0.0.7".parse()?]))]);
//! let (_, update) = Lowering::load(Options::new(), compiler.snapshot(), &bindings)?;
//! assert!(matches!(update.writes().last(), Some(Write::Endpoint(7, Some(_)))));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
extern crate alloc;

mod addresses;
#[cfg(feature = "load")]
mod attach;
mod binding;
#[cfg(feature = "load")]
mod cgroup;
#[cfg(feature = "load")]
mod clsact;
#[cfg(feature = "load")]
mod cut;
#[cfg(feature = "load")]
mod enforcer;
#[cfg(feature = "load")]
mod epoch;
mod error;
#[cfg(feature = "load")]
mod event;
#[cfg(feature = "load")]
mod flows;
#[cfg(feature = "load")]
mod folder;
mod layout;
#[cfg(feature = "load")]
mod load_error;
mod lowering;
#[cfg(feature = "load")]
mod maps;
#[cfg(feature = "load")]
mod memory;
#[cfg(feature = "load")]
mod object;
mod objects;
mod options;
#[cfg(feature = "oracle")]
pub mod oracle;
#[cfg(feature = "load")]
mod qdisc;
mod space;
mod store;
mod write;

pub use binding::{Binding, Bindings};
#[cfg(feature = "load")]
pub use enforcer::{Counter, EnforceError, Enforcer, Reason};
pub use error::LowerError;
#[cfg(feature = "load")]
pub use event::Event;
#[cfg(feature = "load")]
pub use load_error::LoadError;
pub use lowering::Lowering;
pub use options::{Attachment, Capacity, Inspected, LoggedEvents, NodeBackends, Options};
pub use write::{Update, Write};
