//! Programs that are not made because they would be too large.

use alloc::collections::BTreeSet;

use super::Compiler;
use crate::compile::effort::CompileLimits;
use crate::model::PolicyId;

/// Why programs were not made, see [`Compiler::excess`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Excess {
    /// The policies of these programs. One of them, or several together, ask for too much.
    pub policies: BTreeSet<PolicyId>,
    /// Which limit it is: `steps` or `predicates` of [`CompileLimits`].
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
}

impl Compiler {
    /// The same with other limits. To be called before the first object is applied.
    #[must_use]
    pub fn with_limits(mut self, limits: CompileLimits) -> Self {
        self.programs.set_limits(limits);
        self.addresses.set_most_predicates(limits.predicates);
        self
    }

    /// The limits that it was made with.
    #[must_use]
    pub const fn limits(&self) -> &CompileLimits {
        self.programs.limits()
    }

    /// What did not fit the [limits](CompileLimits) at the last commit. `None` when all fits, as it nearly always does.
    ///
    /// The programs it is about deny everything but what is exempt everywhere, such as ports that the settings name. Evaluated
    /// packets differ from the policies as they are written, so a caller closes one of the policies, or refuses all.
    #[must_use]
    pub fn excess(&self) -> Option<Excess> {
        let limits = self.programs.limits();
        let too_many = self.programs.has_too_many_predicates();
        let mut policies = BTreeSet::new();
        let mut any = false;
        for key in self.programs.refused() {
            any = true;
            let own = key.tiers.iter().flat_map(|tier| &tier.policies);
            policies.extend(own.filter_map(|ix| Some(self.policies.lookup(*ix)?.policy.id.clone())));
        }
        let (limit, value) = match (too_many, any) {
            (true, _) => ("predicates", limits.predicates),
            (false, true) => ("steps", limits.steps),
            (false, false) => return None,
        };
        Some(Excess { policies, limit, value })
    }
}
