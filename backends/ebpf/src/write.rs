//! The commands for the kernel, in order.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use portcullis_core::ir::DecisionEntry;
use portcullis_core::net::Cidr;

use crate::layout::{Cells, EndpointWords, Page, ProgramWords, Rows, Runs};

/// Writes that lead from one state of the maps to the next. They are carried out one after the other, in order.
///
/// After any number of them, every packet gets its old or its new decision. Lists, pages, cells, rows and programs are only
/// written while no packet can reach them. What packets can reach, endpoints and addresses, changes in one of two ways.
/// Where each write is good on its own (a pod comes or goes, endpoints get other programs), it takes effect at once.
/// Where only all of them together make sense, they are double-buffered: each entry gets its new value in the inactive buffer,
/// and [`Write::Flip`] makes that the active one for all readers at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub(crate) writes: Vec<Write>,
}

impl Update {
    /// The writes, in order.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// One write to one map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// Waits until every packet that is in flight has left the programs (an RCU grace period).
    GracePeriod,
    /// A list of `runs`.
    Runs(u32, Box<Runs>),
    /// A page of `pages`.
    Page(u32, Box<Page>),
    /// A block of `rows`.
    Rows(u32, Box<Rows>),
    /// A line of `cells`.
    Cells(u32, Box<Cells>),
    /// An entry of `programs`.
    Program(u32, ProgramWords),
    /// The number stands for this decision from now on, and its counter begins at zero.
    Decision(u32, Arc<DecisionEntry>),
    /// The endpoint at an interface, or none.
    Endpoint(u32, Option<Box<EndpointWords>>),
    /// Both buffers of the class of an address or network, or none.
    Address(Cidr, Option<[u32; 2]>),
    /// Flips to this one of the two buffers of endpoints and addresses.
    Flip(u32),
}
