//! What the fixed chains of all tables are made of.

use crate::command::{BaseHook, Content};

/// A chain: where it is hooked in, and its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BaseChain {
    pub(crate) hook: Option<BaseHook>,
    pub(crate) rules: Content,
}

/// Counts packets that claim an address which is not their sender's.
pub(crate) const FORGED: &str = "forged";
/// netfilter's `NF_IP_PRI_FILTER`.
pub(crate) const FILTER: i32 = 0;
