//! Scenarios from manifests.

use std::path::Path;

use portcullis_k8s::{BaselineReading, ImportOptions};
use portcullis_manifest::{Limits, LoadError, Loader};

use super::Scenario;

/// How manifests are read.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    limits: Limits,
    import: ImportOptions,
}

impl LoadOptions {
    /// The usual limits and readings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limits on the input.
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the namespace of namespaced objects that name none; `default` otherwise.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.import = self.import.namespace(namespace);
        self
    }

    /// Sets which pods the Baseline tier still applies to once a NetworkPolicy selects them (decision D8).
    #[must_use]
    pub fn baseline(mut self, reading: BaselineReading) -> Self {
        self.import = self.import.baseline(reading);
        self
    }

    /// A loader that has read nothing, for manifests from several places.
    #[must_use]
    pub fn loader(self) -> Loader {
        Loader::new(self.limits, self.import)
    }
}

impl Scenario {
    /// Reads manifests: files, directories with all below them, or `-` for standard input.
    ///
    /// # Errors
    /// All that is wrong with the input, one line each with file, line, object, field and reason. There is no
    /// scenario then: a policy that was left out could allow what it should deny.
    ///
    /// ```no_run
    /// use portcullis::scenario::{LoadOptions, Scenario};
    ///
    /// let scenario = Scenario::load(["manifests"], LoadOptions::new())?;
    /// println!("{} policies", scenario.cluster().policies().len());
    /// # Ok::<(), portcullis::manifest::LoadError>(())
    /// ```
    pub fn load<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        options: LoadOptions,
    ) -> Result<Self, LoadError> {
        let mut loader = options.loader();
        for path in paths {
            loader.add_path(path.as_ref());
        }
        Self::from_loader(loader)
    }

    /// Reads manifests from a text.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(name: &str, text: &str, options: LoadOptions) -> Result<Self, LoadError> {
        let mut loader = options.loader();
        loader.add_stream(name, text.as_bytes());
        Self::from_loader(loader)
    }

    /// What a loader has read.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn from_loader(loader: Loader) -> Result<Self, LoadError> {
        let loaded = loader.finish()?;
        Ok(Self {
            cluster: loaded.updates.into_iter().collect(),
            places: loaded.places,
            workloads: loaded.workloads,
            frontends: loaded.frontends,
            policies: loaded.locations,
            settings: loaded.settings,
            configured: loaded.configured,
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            foreign: loaded.foreign,
            repeated: loaded.repeated,
            skipped: loaded.skipped,
            others: loaded.others,
        })
    }
}
