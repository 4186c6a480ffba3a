//! The status that implementations write into policies of the network policy API.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

/// Conditions of a policy. Only the names of the fields are checked; the contents never matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Status {
    /// The conditions.
    pub conditions: Option<Vec<Condition>>,
}

/// One condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: Option<String>,
    /// A word for programs.
    pub reason: Option<String>,
    /// A text for people.
    pub message: Option<String>,
    /// When it changed.
    pub last_transition_time: Option<String>,
    /// The generation of the policy it was observed on.
    pub observed_generation: Option<i64>,
}
