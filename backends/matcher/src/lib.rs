//! A flat in-process matcher: the decision IR lowered to arrays that answer one packet in a fixed number of look-ups.
//!
//! [`Matcher::lower`] reads a [`Snapshot`](portcullis_core::ir::Snapshot); [`Matcher::apply`] gives the matcher of
//! the next generation and shares every page that the delta does not touch. A matcher never changes, so any number
//! of threads may read one at once. The verdict path takes no lock and allocates nothing.
//!
//! `Publisher` hands each new generation to any number of `Reader`s, which never wait for it.
//!
//! `no_std` with `alloc`. Do not use it where the kernel must decide: it only answers.
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `std` | yes | `Publisher` and `Reader` |
#![no_std]
#![deny(clippy::arithmetic_side_effects)]

extern crate alloc;

mod address_map;
mod addresses;
mod answer;
mod batch;
mod cow_vec;
mod directory;
mod endpoints;
mod flows;
mod l4_table;
mod lower;
mod matcher;
mod packet;
mod program;
mod projection;
#[cfg(feature = "std")]
mod publish;

pub use answer::Answer;
pub use batch::{Pair, Query};
pub use directory::Directory;
pub use endpoints::EndpointHandle;
pub use flows::{
    Basis, Ends, Flow, FlowAnswer, FlowEnd, FlowLimits, FlowLimitsError, FlowPacket, FlowState, FlowTable,
    Gate, TcpFlags,
};
pub use matcher::{Matcher, Viewed};
pub use packet::PacketKey;
#[cfg(feature = "std")]
pub use publish::{PublishError, Publisher, Reader};
