//! Watches of a Kubernetes API server: each change of an object that policy depends on, as it comes.
//!
//! [`Watch::start`] connects to a server and follows every kind that policy depends on and the server has. Changes come out
//! of one bounded channel, each with the time at which it was received, ready for a
//! [`World`](portcullis_k8s::World). This crate decides nothing: what an object means is up to the world, and so is what
//! stands in the place of one that cannot be read.
//!
//! When not to use it: when the objects come from elsewhere already, such as from the informers of an agent. Hand those to
//! the world as [`Observed`](portcullis_k8s::Observed).
//!
//! ```no_run
//! use portcullis_k8s::{World, WorldOptions};
//! use portcullis_kube::{Options, Source, Watch};
//!
//! let mut watch = Watch::start(Source::Inferred, Options::new())?;
//! let mut world = World::new(WorldOptions::new());
//! while let Some(change) = watch.blocking_next() {
//!     let changes = change.event.apply_to(&mut world);
//!     println!("{} changes of the model", changes.updates.len());
//! }
//! # Ok::<(), portcullis_kube::ConnectError>(())
//! ```
//!
//! # What holds
//! - A kind is listed as a whole before anything of it is seen, and a list that breaks off is thrown away:
//!   [`Event::Replace`] is all or nothing.
//! - A server that does not answer, refuses (401, 403), has no such kind (404), or no longer knows the version that the
//!   watch stands at (410) takes nothing away: the objects stay as they were last seen. A kind is emptied only when the
//!   definition of its custom resource was seen, and then seen to be gone.
//! - An object that cannot be read goes on as such, and never ends the watch.
//! - A connection that is silently dead is given up in less than 30 seconds, see [`Options::window`].
//! - The time between two attempts grows to 10 seconds at most, and is spread at random.
//! - Kinds that come later, with their definitions, are followed when they come.
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `latest` | yes | the newest version of Kubernetes that `k8s-openapi` knows, without which `kube` cannot be built. A program that chooses a version itself turns it off |
//!
//! TLS is that of `rustls` with `ring`.

extern crate alloc;

mod backoff;
mod change;
mod client;
mod definitions;
mod discovery;
mod follow;
mod lines;
mod list;
mod options;
mod sink;
mod source;
mod supervise;
mod watch;
mod wire;

pub use change::{Change, Event, State};
pub use options::Options;
pub use source::{ConnectError, Source};
pub use watch::Watch;
