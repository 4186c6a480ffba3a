//! What the compiler refuses.

use crate::label::Name;
use crate::model::{Action, Cluster, Policy, Profile, Rule, Update};
use crate::verdict::Direction;

/// Why an update was refused. The compiler is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{owner} {direction} rule {rule}: an HTTP match needs the action allow")]
pub struct UpdateError {
    owner: Name,
    direction: Direction,
    rule: usize,
}

impl UpdateError {
    /// The policy (as `kind namespace/name`) or profile (by name) that was refused.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The position of the rule, from 0.
    #[must_use]
    pub const fn rule(&self) -> usize {
        self.rule
    }
}

/// Refuses what has no meaning.
pub(super) fn check(update: &Update) -> Result<(), UpdateError> {
    match update {
        Update::Policy(policy) => check_policy(policy),
        Update::Profile(profile) => check_profile(profile),
        _ => Ok(()),
    }
}

/// Refuses a cluster in which something has no meaning.
pub(super) fn check_all(cluster: &Cluster) -> Result<(), UpdateError> {
    cluster.policies().values().try_for_each(check_policy)?;
    cluster.profiles().values().try_for_each(check_profile)
}

fn check_policy(policy: &Policy) -> Result<(), UpdateError> {
    check_rules(&policy.ingress, &policy.egress, || alloc::format!("{}", policy.id).into())
}

fn check_profile(profile: &Profile) -> Result<(), UpdateError> {
    check_rules(&profile.ingress, &profile.egress, || profile.name.clone())
}

fn check_rules(ingress: &[Rule], egress: &[Rule], owner: impl FnOnce() -> Name) -> Result<(), UpdateError> {
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        let bad = rules.iter().position(|rule| rule.http.is_some() && rule.action != Action::Allow);
        if let Some(rule) = bad {
            return Err(UpdateError { owner: owner(), direction, rule });
        }
    }
    Ok(())
}
