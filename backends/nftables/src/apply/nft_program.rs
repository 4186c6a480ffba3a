//! Commands through the `nft` program: slower, but what an operator can read, check and repeat.

use std::io::{ErrorKind, Write as _};
use std::process::{Command as Process, Stdio};

use portcullis_core::backend::DataplaneError;
use portcullis_core::label::Name;

use crate::apply::transport::{ApplyError, Transport};
use crate::command::Command;
use crate::text::text;
use crate::update::{Stage, Update};

/// The `nft` program of this machine, in the network namespace of the thread that calls it.
#[derive(Clone, Debug)]
pub struct Nft {
    version: [u32; 3],
}

/// What the text needs: comments on chains, and typed maps of three fields.
const OLDEST: [u32; 3] = [1, 0, 6];

impl Nft {
    /// Looks for the program.
    ///
    /// # Errors
    /// When it is missing or older than 1.0.6.
    pub fn probe() -> Result<Self, DataplaneError> {
        Ok(Self::find()?)
    }

    fn find() -> Result<Self, ApplyError> {
        let said = run(&["--version"], "")?;
        let version = version(&said)
            .ok_or_else(|| ApplyError::environment(&format!("`nft --version` says `{}`", said.trim())))?;
        if version < OLDEST {
            let [major, minor, patch] = version;
            let reason = format!("`nft` is version {major}.{minor}.{patch}; 1.0.6 or newer is needed");
            return Err(ApplyError::environment(&reason));
        }
        Ok(Self { version })
    }

    /// The program's version.
    #[must_use]
    pub const fn version(&self) -> [u32; 3] {
        self.version
    }

    /// Asks whether the kernel would take `update` in one batch, and changes nothing.
    ///
    /// # Errors
    /// When it would not.
    pub fn check(&self, update: &Update) -> Result<(), DataplaneError> {
        Ok(run(&["-c", "-f", "-"], &update.to_string()).map(drop)?)
    }

    /// Carries `update` out, batch by batch. An [`Enforcer`](crate::Enforcer) takes it for a change from outside.
    ///
    /// # Errors
    /// When the kernel refuses a batch. Those before it are in force.
    pub fn carry_out(&self, update: &Update) -> Result<(), DataplaneError> {
        for stage in update.stages() {
            if stage.after_grace {
                std::thread::sleep(Stage::GRACE);
            }
            self.run(&update.table, &stage.commands)?;
        }
        Ok(())
    }

    fn run(&self, table: &Name, batch: &[Command]) -> Result<(), ApplyError> {
        if batch.is_empty() {
            return Ok(());
        }
        run(&["-f", "-"], &text(table, batch)).map(drop)
    }
}

impl Transport for Nft {
    fn commit(&mut self, table: &Name, batch: &[Command]) -> Result<(), ApplyError> {
        self.run(table, batch)
    }
}

/// Runs `nft`; what it wrote.
fn run(arguments: &[&str], input: &str) -> Result<String, ApplyError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            ApplyError::environment("there is no program `nft`: install the package nftables")
        }
        _ => ApplyError::environment(&format!("cannot run `nft`: {error}")),
    };
    let mut child = Process::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // A program that gave up early says why on its standard error, which is more than a broken pipe says.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let reason = stderr.lines().next().unwrap_or("no reason given").to_owned();
        return Err(ApplyError::program(reason));
    }
    if let Some(Err(error)) = written {
        return Err(failed(error));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version in `nftables v1.0.6 (Lester Gooch #5)`.
fn version(said: &str) -> Option<[u32; 3]> {
    let numbers = said.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
    let mut parts = numbers.split('.').map(|part| part.parse().unwrap_or(0));
    Some([parts.next()?, parts.next()?, parts.next().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("nftables v1.0.6 (Lester Gooch #5)\n"), Some([1, 0, 6]));
        assert_eq!(version("nftables v1.1\n"), Some([1, 1, 0]));
        assert_eq!(version("what"), None);
    }
}
