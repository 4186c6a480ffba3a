//! The IP families that one rule is about.

use portcullis_core::net::IpVersion;

/// Whether networks of both families may stand in one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    /// They may not: Calico's validator refuses such a rule of `projectcalico.org/v3`. Source:
    /// `libcalico-go/lib/validator/v3/validator.go`, `scanNets`.
    One,
    /// They may: nobody validates objects of `crd.projectcalico.org/v1`, and Felix makes a rule for each family. Such
    /// a rule is about a family only when each list of networks that it has names one of that family. Source:
    /// `felix/rules/policy.go`, `FilterRuleToIPVersion`.
    Mixed,
}

/// The family that the rule is about so far, and what becomes of a network of the other one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) families: Families,
    pub(super) version: Option<IpVersion>,
    /// Whether there was a network of the other family.
    pub(super) is_mixed: bool,
}
