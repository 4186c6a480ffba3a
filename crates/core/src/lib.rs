//! The heart of Portcullis: one dialect-free model of network policy, the evaluator that defines what it means, and the
//! compiler that turns it into tables for dataplanes.
//!
//! `no_std` with `alloc`. Nothing in this crate knows Kubernetes, JSON, files or a dataplane. Use the crate `portcullis`
//! unless you need this part alone.
//!
//! "web may reach db on 5432":
//!
//! ```
//! use portcullis_core::model::{EntitySelector, L4Match, Policy, PolicyId, Rule};
//!
//! let web = EntitySelector::workloads("app == 'web'")?;
//! let db = EntitySelector::workloads("app == 'db'")?;
//! let rule = Rule::allow().from(web).to_port(L4Match::tcp(5432));
//! let policy = Policy::ingress(PolicyId::new("Policy", None, "db"), db, [rule]);
//!
//! // Compiled for two workloads, and asked:
//! use portcullis_core::compile::{CompileScope, Compiler};
//! use portcullis_core::ir::Interpreter;
//! use portcullis_core::model::{Endpoint, EndpointId, Profile, Update};
//! use portcullis_core::packet::{Packet, Protocol};
//! use portcullis_core::settings::Settings;
//! use portcullis_core::verdict::{Hook, Verdict};
//!
//! let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
//! compiler.apply(Update::Policy(policy))?;
//! compiler.apply(Update::Profile(Profile::allow_all("open")))?;
//! for (name, address) in [("web", "10.0.0.1"), ("db", "10.0.0.2")] {
//!     let mut endpoint = Endpoint::new(EndpointId::workload("shop", name));
//!     endpoint.labels.insert("app", name);
//!     endpoint.addresses = vec![address.parse()?];
//!     endpoint.profiles = vec!["open".into()];
//!     compiler.apply(Update::Endpoint(endpoint))?;
//! }
//! let _ = compiler.commit();
//! let ask = |from: &str, port| {
//!     let packet = Packet::new(from.parse().unwrap(), "10.0.0.2".parse().unwrap(), Protocol::TCP);
//!     let db = EndpointId::workload("shop", "db");
//!     let packet = packet.to_port(port);
//!     Interpreter::new(compiler.snapshot()).decide(&db, Hook::WorkloadIngress, &packet).verdict
//! };
//! assert_eq!(ask("10.0.0.1", 5432), Verdict::Allow);
//! assert_eq!(ask("10.0.0.1", 22), Verdict::Deny);
//! assert_eq!(ask("10.0.0.3", 5432), Verdict::Deny);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `serde` | no | `Serialize` and `Deserialize` for the [`model`], [decisions](verdict), [`ir::Snapshot`] and [`ir::Delta`]; `Serialize` for errors. What is read is checked |
//!
//! # Threads
//!
//! Every type of this crate is `Send` and `Sync`; for [`Compiler`](compile::Compiler), [`Snapshot`](ir::Snapshot) and
//! [`Delta`](ir::Delta) that is asserted. A compiler is changed through `&mut`, so one thread owns it; a
//! [`Snapshot`](ir::Snapshot) can be read by many threads at once. Nothing locks, waits or keeps global state.
//!
//! # Memory
//!
//! Measured with `benches` (see `benches/RESULTS.md`), peak memory of a process that compiles once:
//!
//! | objects | all endpoints local | objects alone |
//! |---|---|---|
//! | 100,000 pods, 10,100 policies | 220 MB | 84 MB |
//! | 100,000 pods, 75,000 policies, 50,001 different programs | 617 MB | 209 MB |
//! | 10,000 pods, 10,000 policies that select every pod | 57 MB | 28 MB |
//!
//! So a pod costs about 2 kB, its labels and address included, and a program with its tables about 6 kB. With
//! [`CompileScope::Node`](compile::CompileScope::Node) only programs of endpoints on that node are made.
//!
//! # When a pod starts and ends
//!
//! A pod starts with an [`Update::Endpoint`](model::Update::Endpoint) and a [`commit`](compile::Compiler::commit), and only
//! then with its interface [bound](backend::Bindings); until then the interface is kept
//! [closed](backend::Bindings::close). A second pod with the labels of a first costs one entry of the address table
//! and one endpoint. When it ends, its binding is removed with its interface, and then the endpoint with
//! [`Update::RemoveEndpoint`](model::Update::RemoveEndpoint): so no address is open for longer than its owner is known.
//! An address that no object owns is outside, and meets only rules that name networks or anyone.
//!
//! # Enums that may grow
//!
//! Enums that a program may well match with a wildcard are `#[non_exhaustive]`. Those that say what policy means
//! (verdicts, actions, hooks, directions, placements, matches, effects of the IR, outcomes in a trace) are not: code that enforces them
//! has to know all of them, so a new one must break the build.
#![no_std]

extern crate alloc;

pub mod backend;
pub mod compile;
pub mod evaluate;
pub mod http;
pub mod ir;
pub mod label;
pub mod model;
pub mod net;
pub mod packet;
pub mod path;
pub mod principal;
pub mod quote;
pub mod reference;
pub mod selector;
#[cfg(feature = "serde")]
mod serialise;
pub mod settings;
pub mod shadow;
pub mod verdict;
pub mod wire;
