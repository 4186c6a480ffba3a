//! The per-pod reading of the Baseline tier (decision D8) in answers.

use portcullis_core::path::FlowDecision;
use portcullis_core::verdict::{Cause, Decision};
use portcullis_k8s::shielding_policy;

/// `decision` in terms of objects that exist.
///
/// The conversion lets a policy of its own keep isolated pods away from the Baseline tier. When that is what let a packet
/// through, no policy of the user's decided, and the default of Kubernetes holds.
pub(super) fn without_shields(mut decision: FlowDecision) -> FlowDecision {
    for side in [&mut decision.egress, &mut decision.ingress].into_iter().flatten() {
        unveil(&mut side.decision);
        side.consulted.iter_mut().for_each(|asked| unveil(&mut asked.decision));
    }
    decision
}

fn unveil(decision: &mut Decision) {
    if decision.cause.policy().is_some_and(|policy| shielding_policy(policy).is_some()) {
        decision.cause = Cause::NoPolicy;
    }
}
