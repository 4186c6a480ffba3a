//! What an engine refuses.

use core::fmt;

use crate::label::Name;
use crate::model::{Action, Rule, Update};
use crate::verdict::Direction;

/// Why an update was refused. The engine is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} rule {}: an HTTP match needs the action allow",
            self.owner, self.direction, self.rule
        )
    }
}

impl core::error::Error for UpdateError {}

/// Refuses what has no meaning.
pub(super) fn check(update: &Update) -> Result<(), UpdateError> {
    let (ingress, egress): (&[Rule], &[Rule]) = match update {
        Update::Policy(policy) => (&policy.ingress, &policy.egress),
        Update::Profile(profile) => (&profile.ingress, &profile.egress),
        _ => return Ok(()),
    };
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        let bad = rules.iter().position(|rule| rule.http.is_some() && rule.action != Action::Allow);
        if let Some(rule) = bad {
            let owner = match update {
                Update::Policy(policy) => alloc::format!("{}", policy.id).into(),
                Update::Profile(profile) => profile.name.clone(),
                _ => return Ok(()),
            };
            return Err(UpdateError { owner, direction, rule });
        }
    }
    Ok(())
}
