//! Telling the kernel, and asking it.

mod enforcer;
mod event;
mod header;
mod netlink;
mod nft_program;
mod retired;
mod transport;

pub use enforcer::{Drift, Enforcer};
#[cfg(feature = "oracle")]
pub(crate) use netlink::{Events, LogMessage, Netlink};
pub use nft_program::Nft;
#[cfg(feature = "oracle")]
pub(crate) use transport::{ApplyError, Transport};

#[cfg(all(test, feature = "oracle"))]
mod tests;
