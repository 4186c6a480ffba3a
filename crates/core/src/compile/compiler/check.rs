//! What the compiler refuses.

use crate::label::Name;
use crate::model::{Action, Cluster, Directions, Policy, Profile, Rule, Update};
use crate::verdict::Direction;

/// Why an update was refused. The compiler is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{owner} {direction} rule {rule}: {reason}")]
pub struct UpdateError {
    owner: Name,
    direction: Direction,
    rule: usize,
    reason: Reason,
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("an HTTP match needs the action allow")]
    HttpWithoutAllow,
    #[error("the policy's `directions` leave this direction out, so the rule would do nothing")]
    DirectionIsOff,
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
    check_rules(policy.directions, &policy.ingress, &policy.egress, || alloc::format!("{}", policy.id).into())
}

fn check_profile(profile: &Profile) -> Result<(), UpdateError> {
    check_rules(Directions::BOTH, &profile.ingress, &profile.egress, || profile.name.clone())
}

fn check_rules(
    directions: Directions,
    ingress: &[Rule],
    egress: &[Rule],
    owner: impl FnOnce() -> Name,
) -> Result<(), UpdateError> {
    for (direction, is_on, rules) in
        [(Direction::Ingress, directions.ingress, ingress), (Direction::Egress, directions.egress, egress)]
    {
        let refused = |rule: &Rule| {
            if !is_on {
                Some(Reason::DirectionIsOff)
            } else if rule.http.is_some() && rule.action != Action::Allow {
                Some(Reason::HttpWithoutAllow)
            } else {
                None
            }
        };
        let first = rules.iter().enumerate().find_map(|(at, rule)| Some((at, refused(rule)?)));
        if let Some((rule, reason)) = first {
            return Err(UpdateError { owner: owner(), direction, rule, reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;
    use crate::compile::{CompileScope, Compiler};
    use crate::model::{EntitySelector, PolicyId};
    use crate::settings::Settings;

    #[test]
    fn rules_of_a_direction_that_is_off_are_refused() {
        let subject = EntitySelector::workloads("app == 'db'").unwrap();
        let mut policy = Policy::ingress(PolicyId::new("Policy", None, "db"), subject, [Rule::allow()]);
        let fits = Update::Policy(policy.clone());
        assert_eq!(check(&fits), Ok(()));
        policy.egress.push(Rule::new(Action::Deny));
        let error = check(&Update::Policy(policy.clone())).unwrap_err();
        assert_eq!((error.owner(), error.rule()), ("Policy db", 0));
        assert_eq!(
            error.to_string(),
            "Policy db egress rule 0: the policy's `directions` leave this direction out, so the rule would do nothing"
        );
        // A whole cluster is held to the same, and what is refused changes nothing.
        let cluster = Cluster::from_iter([Update::Policy(policy.clone())]);
        assert_eq!(
            Compiler::from_cluster(cluster, Settings::default(), CompileScope::All).unwrap_err(),
            error
        );
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        assert_eq!(compiler.apply(Update::Policy(policy.clone())), Err(error));
        assert!(compiler.cluster().policies().is_empty());
        policy.directions.egress = true;
        assert_eq!(check(&Update::Policy(policy)), Ok(()));
    }
}
