//! The engines of the registry: the kernel decides.

use portcullis::backend::Oracle;
use portcullis::backends::{Backend, OpenError};
use portcullis::ir::View;
use portcullis::scenario::Scenario;
use portcullis::settings::Settings;

use crate::failure::Failure;

/// The compiled policy in the kernel, as it is and, when asked for, with staged policies in force.
pub(crate) struct InKernel {
    backend: &'static Backend,
    enforced: Box<dyn Oracle>,
    staged: Option<Box<dyn Oracle>>,
}

impl InKernel {
    pub(crate) fn load(
        backend: &'static Backend,
        scenario: &Scenario,
        settings: &Settings,
        staged: bool,
    ) -> Result<Self, Failure> {
        let compiled = scenario.compile(settings).map_err(|error| Failure::Input(error.to_string()))?;
        let load = |view| {
            backend
                .oracle(compiled.snapshot(), view)
                .map_err(|error| Failure::Environment(reason(backend, &error)))
        };
        let staged = staged.then(|| load(View::Staged)).transpose()?;
        Ok(Self { backend, enforced: load(View::Enforced)?, staged })
    }

    pub(crate) const fn backend(&self) -> &'static Backend {
        self.backend
    }

    pub(crate) fn of(&self, view: View) -> &dyn Oracle {
        match (view, &self.staged) {
            (View::Staged, Some(staged)) => staged.as_ref(),
            _ => self.enforced.as_ref(),
        }
    }
}

/// The reason, with the feature as it is called in this crate.
fn reason(backend: &Backend, error: &OpenError) -> String {
    let engine = backend.name();
    match error {
        OpenError::NotBuilt(_) if cfg!(target_os = "linux") => format!(
            "engine `{engine}`: not in this build; build portcullis-cli with the feature `kernel-engines`"
        ),
        OpenError::NotBuilt(_) => format!("engine `{engine}`: it needs Linux"),
        OpenError::Oracle { source, .. } => format!("engine `{engine}`: {source}"),
        error => format!("engine `{engine}`: {error}"),
    }
}
