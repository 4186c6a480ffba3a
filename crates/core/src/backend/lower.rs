//! The pure half of a backend.

use crate::backend::{Bindings, LowerError};
use crate::ir::{Delta, Snapshot};

/// The desired state: the compiled policy, and where the node's endpoints are.
#[derive(Clone, Copy, Debug)]
pub struct DesiredState<'a> {
    /// The policy.
    pub snapshot: &'a Snapshot,
    /// The endpoints of this node.
    pub bindings: &'a Bindings,
}

impl<'a> DesiredState<'a> {
    /// Both together.
    #[must_use]
    pub const fn new(snapshot: &'a Snapshot, bindings: &'a Bindings) -> Self {
        Self { snapshot, bindings }
    }
}

/// Turns snapshots and deltas of the IR into writes for a dataplane, without carrying them out.
///
/// The value remembers what it emitted, so that a delta becomes a few writes on top of that. It expresses the
/// whole policy or fails; it never approximates.
pub trait Lower: Sized {
    /// What can be chosen.
    type Options;
    /// What an earlier process left in the kernel, to be replaced.
    type Existing: Default;
    /// What is to be written, in order.
    type Update;

    /// Everything that `desired` needs, in place of `existing`.
    ///
    /// # Errors
    /// When it does not fit the limits, cannot be expressed, or the snapshot breaks an invariant.
    fn load(
        options: Self::Options,
        desired: DesiredState<'_>,
        existing: &Self::Existing,
    ) -> Result<(Self, Self::Update), LowerError>;

    /// What `delta`, which leads to the snapshot of `desired`, and changed bindings need. On an error the value is as it
    /// was, and still stands for [`Lower::generation`].
    ///
    /// # Errors
    /// As for [`Lower::load`], and when the delta starts from another generation.
    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Self::Update, LowerError>;

    /// The generation of the snapshot that the value stands for.
    fn generation(&self) -> u64;
}
