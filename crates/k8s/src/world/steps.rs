//! How many objects and entries of indexes an event looks at: what the tests of its cost count.

#[cfg(test)]
extern crate std;

#[cfg(test)]
std::thread_local! {
    static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// Counts a look at one object or entry. Outside tests it does nothing.
#[inline]
pub(super) fn count() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// How many looks there were so far on this thread.
#[cfg(test)]
pub(super) fn taken() -> u64 {
    STEPS.with(core::cell::Cell::get)
}
