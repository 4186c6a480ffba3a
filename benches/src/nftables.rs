//! The nftables backend on the kernel of this machine, beside rivals. Root only; every table is in a network namespace
//! of its own.

mod load;
mod packets;
mod rivals;
pub(crate) mod world;

use core::error::Error;
use std::io::Write;

/// What a measurement may run into.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

pub(crate) fn run(what: &[String], out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let wanted = |name: &str| what.is_empty() || what.iter().any(|arg| arg == name);
    if wanted("packets") {
        packets::run(out).map_err(|error| -> Box<dyn Error> { error })?;
    }
    if wanted("load") {
        load::run(out).map_err(|error| -> Box<dyn Error> { error })?;
    }
    Ok(())
}
