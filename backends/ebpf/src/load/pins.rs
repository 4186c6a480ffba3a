//! The folder of pins and marks in a BPF file system.

use std::fs;
use std::path::{Path, PathBuf};

use crate::load::error::LoadError;

/// What is in the folder, in order: names, which are empty where they are no text, and paths.
pub(crate) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, LoadError> {
    let failed = |error| LoadError::new(format!("`{}`", folder.display()), &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        found.push((entry.file_name().into_string().unwrap_or_default(), entry.path()));
    }
    found.sort();
    Ok(found)
}
