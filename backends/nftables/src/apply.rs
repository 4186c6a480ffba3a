//! Telling the kernel, and asking it.

mod enforcer;
mod event;
mod header;
pub(crate) mod netlink;
mod nft_program;
mod retired;
mod transport;

pub use enforcer::{Drift, Enforcer};
pub use netlink::{Events, LogMessage, Netlink};
pub use nft_program::Nft;
pub use transport::{ApplyError, Transport};
