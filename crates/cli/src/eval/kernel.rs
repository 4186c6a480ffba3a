//! The engines `nftables` and `ebpf`: the kernel decides.

use portcullis::ir::View;
use portcullis::reference::Settings;
use portcullis::scenario::{Answer, Evaluator, Plan, Scenario};

use crate::args::Engine;
use crate::failure::Failure;

#[cfg(target_os = "linux")]
pub(crate) use linux::Kernel;

#[cfg(target_os = "linux")]
mod linux {
    use core::cell::RefCell;
    use core::fmt::Display;

    use portcullis::flow::DecideHook;
    use portcullis::ir::Snapshot;
    use portcullis::model::EndpointId;
    use portcullis::packet::Packet;
    use portcullis::verdict::{Cause, Decision, Hook, Verdict};
    use portcullis::{ebpf, nftables};

    use super::{Answer, Engine, Evaluator, Failure, Plan, Scenario, Settings, View};

    /// The compiled policy in the kernel, where no traffic meets it but the packets asked about.
    pub(crate) struct Kernel {
        enforced: Oracle,
        staged: Option<Oracle>,
    }

    impl Kernel {
        pub(crate) fn load(
            engine: Engine,
            scenario: &Scenario,
            settings: &Settings,
            staged: bool,
        ) -> Result<Self, Failure> {
            let compiled = scenario.compile(settings).map_err(|error| Failure::Input(error.to_string()))?;
            let load = |view| Oracle::load(engine, compiled.snapshot(), view);
            let staged = staged.then(|| load(View::Pending)).transpose()?;
            Ok(Self { enforced: load(View::Enforced)?, staged })
        }

        /// What the kernel does with a flow, or why it cannot be asked.
        pub(crate) fn decide(
            &self,
            evaluator: &Evaluator<'_>,
            view: View,
            plan: &Plan,
        ) -> Result<Answer, String> {
            let oracle = match (view, &self.staged) {
                (View::Pending, Some(staged)) => staged,
                _ => &self.enforced,
            };
            let asking = Asking { oracle, failed: RefCell::default() };
            let decision = evaluator.decide(&asking, plan);
            match asking.failed.into_inner() {
                Some(error) => Err(error),
                None => Ok(decision),
            }
        }
    }

    enum Oracle {
        Nftables(nftables::oracle::Oracle),
        Ebpf(ebpf::oracle::Oracle),
    }

    impl Oracle {
        fn load(engine: Engine, snapshot: &Snapshot, view: View) -> Result<Self, Failure> {
            let failed = |error: &dyn Display| Failure::Environment(said(engine.name(), error));
            match engine {
                Engine::Ebpf => ebpf::oracle::Oracle::load(snapshot.clone(), view)
                    .map(Self::Ebpf)
                    .map_err(|error| failed(&error)),
                _ => nftables::oracle::Oracle::load(snapshot.clone(), view)
                    .map(Self::Nftables)
                    .map_err(|error| failed(&error)),
            }
        }

        fn ask(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Result<Decision, String> {
            match self {
                Self::Nftables(oracle) => {
                    oracle.ask(endpoint, hook, packet).map_err(|error| said(Engine::Nftables.name(), &error))
                }
                Self::Ebpf(oracle) => {
                    oracle.ask(endpoint, hook, packet).map_err(|error| said(Engine::Ebpf.name(), &error))
                }
            }
        }
    }

    fn said(engine: &str, error: &dyn Display) -> String {
        format!("engine `{engine}`: {error}")
    }

    /// Notes the first question that had no answer; what comes of the flow then is not used.
    struct Asking<'a> {
        oracle: &'a Oracle,
        failed: RefCell<Option<String>>,
    }

    impl DecideHook for Asking<'_> {
        fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
            self.oracle.ask(endpoint, hook, packet).unwrap_or_else(|error| {
                self.failed.borrow_mut().get_or_insert(error);
                Decision::new(Verdict::Deny, Cause::NoPolicy)
            })
        }
    }
}

/// There is none on other systems.
#[cfg(not(target_os = "linux"))]
pub(crate) enum Kernel {}

#[cfg(not(target_os = "linux"))]
impl Kernel {
    pub(crate) fn load(engine: Engine, _: &Scenario, _: &Settings, _: bool) -> Result<Self, Failure> {
        Err(Failure::Environment(format!("engine `{}` needs Linux", engine.name())))
    }

    pub(crate) fn decide(&self, _: &Evaluator<'_>, _: View, _: &Plan) -> Result<Answer, String> {
        match *self {}
    }
}
