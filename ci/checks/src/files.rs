//! The files of the project.

use std::path::PathBuf;
use std::process::Command;

/// The files that git tracks.
#[derive(Debug)]
pub(crate) struct Files {
    /// The folder of the checkout.
    pub(crate) root: PathBuf,
    /// Each file, by its path below `root`.
    pub(crate) names: Vec<String>,
}

impl Files {
    /// Asks git.
    ///
    /// # Errors
    /// When git cannot be run, or this is no checkout.
    pub(crate) fn tracked() -> Result<Self, String> {
        let root = git(&["rev-parse", "--show-toplevel"])?.trim_end().to_owned();
        let names = git(&["ls-files", "-z", "--full-name", &root])?;
        Ok(Self { root: root.into(), names: names.split_terminator('\0').map(String::from).collect() })
    }
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        // Reading a list of files is safe whoever owns the checkout.
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    if !output.status.success() {
        return Err(format!("git: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
