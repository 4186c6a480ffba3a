//! Scenarios from manifests.

use std::path::Path;

use portcullis_k8s::{BaselineReading, ImportOptions};
use portcullis_manifest::{Limits, LoadError, Loader};

use super::{Location, Scenario};

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

    /// Sets which pods the Baseline tier still applies to once a NetworkPolicy selects them (decision D8).
    #[must_use]
    pub const fn baseline(mut self, reading: BaselineReading) -> Self {
        self.import = self.import.baseline(reading);
        self
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
        let mut loader = Loader::new(options.limits, options.import);
        for path in paths {
            loader.add_path(path.as_ref());
        }
        Self::finish(loader)
    }

    /// Reads manifests from a text.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(name: &str, text: &str, options: LoadOptions) -> Result<Self, LoadError> {
        let mut loader = Loader::new(options.limits, options.import);
        loader.add_stream(name, text.as_bytes());
        Self::finish(loader)
    }

    fn finish(loader: Loader) -> Result<Self, LoadError> {
        let loaded = loader.finish()?;
        let location =
            |(file, position): (_, portcullis_manifest::Position)| Location { file, line: position.line() };
        Ok(Self {
            cluster: loaded.updates.into_iter().collect(),
            places: loaded.places,
            locations: loaded.locations.into_iter().map(|(id, place)| (id, location(place))).collect(),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            foreign: loaded.foreign,
            skipped: loaded.skipped,
        })
    }
}
