//! Answers: a verdict and the decision it comes from, in one number.

use core::fmt;

use portcullis_core::ir::{DecisionId, Id};
use portcullis_core::verdict::Verdict;

/// What one hook says to one packet. Four bytes: reading the verdict looks nothing up, and
/// [`Matcher::resolve`](crate::Matcher::resolve) finds cause and log entries when they are wanted.
///
/// The default denies and has no decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer(u32);

impl Answer {
    /// Denied because something is missing: the endpoint, its program for the hook, or an entry of a table.
    pub(crate) const MISSING: Self = Self::pack(Verdict::Deny, ID);

    /// Not an answer: the table does not fit in one line.
    pub(crate) const ELSEWHERE: Self = Self(u32::MAX);

    const fn pack(verdict: Verdict, id: u32) -> Self {
        let code: u32 = match verdict {
            Verdict::Allow => 0,
            Verdict::Deny => 1,
            Verdict::Continue => 2,
            Verdict::Inspect => 3,
        };
        Self(code.wrapping_shl(30) | id)
    }

    /// `None` when the number of the decision has more than 30 bits, or all of them set.
    pub(crate) fn new(verdict: Verdict, decision: DecisionId) -> Option<Self> {
        (decision.number() < ID).then(|| Self::pack(verdict, decision.number()))
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The verdict for a packet without principal and HTTP request.
    #[inline]
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self.0.wrapping_shr(30) {
            0 => Verdict::Allow,
            1 => Verdict::Deny,
            2 => Verdict::Continue,
            _ => Verdict::Inspect,
        }
    }

    /// The decision; `None` when something is missing and the packet is denied.
    #[inline]
    #[must_use]
    pub fn decision(self) -> Option<DecisionId> {
        let id = self.0 & ID;
        (id != ID).then(|| DecisionId::new(id))
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self::MISSING
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("verdict", &self.verdict())
            .field("decision", &self.decision())
            .finish()
    }
}

/// The bits of the decision's number; all set when there is none.
const ID: u32 = 0x3FFF_FFFF;
