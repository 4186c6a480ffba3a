//! Telling the kernel, and asking it.

mod commit;
mod drift;
mod ended;
mod enforcer;
mod event;
mod faults;
mod halt;
mod header;
mod ipvs;
mod lost;
mod masters;
mod netlink;
mod nft_program;
mod retired;
mod transport;

pub use drift::Drift;
pub use enforcer::Enforcer;
#[cfg(feature = "oracle")]
pub(crate) use netlink::{Events, LogMessage, Netlink};
pub use nft_program::Nft;
#[cfg(feature = "oracle")]
pub(crate) use transport::{ApplyError, Transport};

#[cfg(all(test, feature = "oracle"))]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test helpers stop at the first surprise, and say what was not run"
)]
mod tests;
