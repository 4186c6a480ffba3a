//! The engine `nftables`: the kernel decides.

use portcullis::flow::FlowDecision;
use portcullis::ir::View;
use portcullis::reference::Settings;
use portcullis::scenario::{Evaluator, Resolved, Scenario};

use crate::failure::Failure;

#[cfg(target_os = "linux")]
pub(crate) use linux::Kernel;

#[cfg(target_os = "linux")]
mod linux {
    use core::cell::RefCell;

    use portcullis::flow::DecideHook;
    use portcullis::model::EndpointId;
    use portcullis::nftables::oracle::Oracle;
    use portcullis::packet::Packet;
    use portcullis::verdict::{Cause, Decision, Hook, Verdict};

    use super::{Evaluator, Failure, FlowDecision, Resolved, Scenario, Settings, View};

    /// The compiled policy in private network namespaces.
    pub(crate) struct Kernel {
        enforced: Oracle,
        staged: Option<Oracle>,
    }

    impl Kernel {
        pub(crate) fn load(scenario: &Scenario, settings: &Settings, staged: bool) -> Result<Self, Failure> {
            let engine = scenario.compile(settings).map_err(|error| Failure::Input(error.to_string()))?;
            let load = |view| {
                Oracle::load(engine.snapshot().clone(), view)
                    .map_err(|error| Failure::Environment(format!("engine `nftables`: {error}")))
            };
            let staged = staged.then(|| load(View::Pending)).transpose()?;
            Ok(Self { enforced: load(View::Enforced)?, staged })
        }

        /// What the kernel does with a flow, or why it cannot be asked.
        pub(crate) fn decide(
            &self,
            evaluator: &Evaluator<'_>,
            view: View,
            flow: &Resolved,
        ) -> Result<FlowDecision, String> {
            let oracle = match (view, &self.staged) {
                (View::Pending, Some(staged)) => staged,
                _ => &self.enforced,
            };
            let asking = Asking { oracle, failed: RefCell::default() };
            let decision = evaluator.decide(&asking, flow);
            match asking.failed.into_inner() {
                Some(error) => Err(format!("engine `nftables`: {error}")),
                None => Ok(decision),
            }
        }
    }

    /// Notes the first question that had no answer; what comes of the flow then is not used.
    struct Asking<'a> {
        oracle: &'a Oracle,
        failed: RefCell<Option<String>>,
    }

    impl DecideHook for Asking<'_> {
        fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
            self.oracle.ask(endpoint, hook, packet).unwrap_or_else(|error| {
                self.failed.borrow_mut().get_or_insert_with(|| error.to_string());
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
    pub(crate) fn load(_: &Scenario, _: &Settings, _: bool) -> Result<Self, Failure> {
        Err(Failure::Environment("engine `nftables` needs Linux".into()))
    }

    pub(crate) fn decide(&self, _: &Evaluator<'_>, _: View, _: &Resolved) -> Result<FlowDecision, String> {
        match *self {}
    }
}
