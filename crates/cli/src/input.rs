//! Which manifests are read.

use std::path::PathBuf;

use clap::Args;
use portcullis::scenario::{LoadOptions, Scenario};

use crate::failure::Failure;
use crate::kustomize;

/// Manifests to read.
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// Manifests to read: a file, a directory (with all below it), or - for standard input
    ///
    /// YAML with one or more documents, or JSON, also in lists. In a directory: .yaml, .yml and .json; hidden
    /// directories and the patches of a kustomization are left out. What is no Kubernetes object, and objects that
    /// policy does not depend on, are skipped and counted.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required_unless_present = "kustomize")]
    pub(crate) files: Vec<PathBuf>,

    /// Manifests to read: what `kubectl kustomize DIR` builds, or `kustomize build DIR`
    ///
    /// Needs one of the two programs. Positions in messages are those in their output.
    #[arg(short = 'k', long, value_name = "DIR")]
    pub(crate) kustomize: Vec<PathBuf>,

    /// Leave out of directories what GLOB matches: files, and directories with all below them
    ///
    /// Without `/` it is about names at any depth (charts, '*.json'); with `/`, about the path below the directory that -f
    /// names ('apps/*/test', '**/secret/*.yaml').
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
}

impl InputArgs {
    /// How many times standard input is read.
    pub(crate) fn reads_of_stdin(&self) -> usize {
        self.files.iter().filter(|path| path.as_os_str() == "-").count()
    }

    /// Reads them all.
    pub(crate) fn read(&self, options: LoadOptions, quiet: bool) -> Result<Scenario, Failure> {
        let mut loader = options.loader();
        for pattern in &self.exclude {
            loader.exclude(pattern).map_err(|error| Failure::Usage(format!("--exclude: {error}")))?;
        }
        for path in &self.files {
            loader.add_path(path);
        }
        for folder in &self.kustomize {
            let built = kustomize::build(folder, quiet)?;
            loader.add_stream(&folder.to_string_lossy(), built.as_slice());
        }
        Scenario::from_loader(loader).map_err(|error| Failure::Input(error.to_string()))
    }
}
