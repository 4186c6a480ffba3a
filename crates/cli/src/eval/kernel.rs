//! The engines `nftables` and `ebpf`: the kernel decides.

use portcullis::ir::View;
use portcullis::kernel::{Kernel, KernelEngine, KernelError};
use portcullis::scenario::Scenario;
use portcullis::settings::Settings;

use crate::failure::Failure;

/// The compiled policy in the kernel, as it is and, when asked for, with staged policies in force.
pub(crate) struct InKernel {
    enforced: Kernel,
    staged: Option<Kernel>,
}

impl InKernel {
    pub(crate) fn load(
        engine: KernelEngine,
        scenario: &Scenario,
        settings: &Settings,
        staged: bool,
    ) -> Result<Self, Failure> {
        let compiled = scenario.compile(settings).map_err(|error| Failure::Input(error.to_string()))?;
        let load = |view| {
            Kernel::load(engine, compiled.snapshot(), view)
                .map_err(|error| Failure::Environment(reason(&error)))
        };
        let staged = staged.then(|| load(View::Staged)).transpose()?;
        Ok(Self { enforced: load(View::Enforced)?, staged })
    }

    pub(crate) fn of(&self, view: View) -> &Kernel {
        match (view, &self.staged) {
            (View::Staged, Some(staged)) => staged,
            _ => &self.enforced,
        }
    }
}

/// The reason, with the feature as it is called in this crate.
pub(crate) fn reason(error: &KernelError) -> String {
    if error.is_not_built() && cfg!(target_os = "linux") {
        let engine = error.engine().name();
        format!(
            "engine `{engine}`: not in this build; build portcullis-cli with the feature `kernel-engines`"
        )
    } else {
        error.to_string()
    }
}
