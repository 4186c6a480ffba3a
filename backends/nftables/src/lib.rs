//! The nftables backend.
mod command;
pub use command::*;
