//! How much work a compile may be, so that no policy keeps a node busy.

/// How much compiling may cost. Both sizes follow from the objects alone, not from the order in which they came, and not
/// from the machine.
///
/// Where rules ask about two things at once, such as source ports and ports, or networks of both ends, what they say together
/// can be as large as the product. A program that would be larger than this is not made: it denies what no built-in rule
/// exempts, and [`Compiler::excess`](super::Compiler::excess) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompileLimits {
    /// Steps to make the tables of one program for one address family: rules that are looked at for a pair of rows, and
    /// intervals of ports that they take. 2 to 20 ns each.
    pub steps: u64,
    /// Predicates of all classes together: how many conditions of rules hold for an address, summed over the classes of
    /// addresses. About 10 bytes each. Where they are more, no program is made.
    pub predicates: u64,
}

impl Default for CompileLimits {
    /// A third of a second for a program, and 160 MB.
    fn default() -> Self {
        Self { steps: 1 << 24, predicates: 1 << 24 }
    }
}

impl CompileLimits {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With another limit of [steps](CompileLimits::steps).
    #[must_use]
    pub const fn with_steps(mut self, most: u64) -> Self {
        self.steps = most;
        self
    }

    /// With another limit of [predicates](CompileLimits::predicates).
    #[must_use]
    pub const fn with_predicates(mut self, most: u64) -> Self {
        self.predicates = most;
        self
    }
}

/// The steps of one table.
#[derive(Debug)]
pub(super) struct Steps {
    done: u64,
    most: u64,
}

/// More steps than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Steps {
    pub(super) const fn up_to(most: u64) -> Self {
        Self { done: 0, most }
    }

    pub(super) const fn done(&self) -> u64 {
        self.done
    }

    /// Counts steps that are about to be done.
    pub(super) fn count(&mut self, steps: usize) -> Result<(), TooMany> {
        self.done = self.done.saturating_add(u64::try_from(steps).unwrap_or(u64::MAX));
        if self.done > self.most { Err(TooMany) } else { Ok(()) }
    }
}
