//! Places where tests let the kernel refuse, or change the machine meanwhile.

use crate::error::LoadError;

/// Where a load or an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A map is about to be written.
    Write,
    /// The interfaces were looked up, and nothing is attached yet.
    InterfacesAreKnown,
    /// The verifier is about to look at a program.
    Verify,
    /// The programs of an interface are about to be attached.
    Attach(u32),
    /// The programs are attached, and those of unbound interfaces are about to go.
    Detach,
}

/// A refusal, in tests that ask for one.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it does fail")]
pub(crate) const fn reach(_: Place) -> Result<(), LoadError> {
    Ok(())
}

#[cfg(test)]
pub(crate) use in_tests::{reach, when};

#[cfg(test)]
mod in_tests {
    use core::cell::RefCell;

    use super::{LoadError, Place};

    type Fault = Box<dyn FnMut(Place) -> Result<(), LoadError>>;

    thread_local! {
        static FAULT: RefCell<Option<Fault>> = const { RefCell::new(None) };
    }

    pub(crate) fn reach(place: Place) -> Result<(), LoadError> {
        // Taken out meanwhile, so that it may do anything.
        let fault = FAULT.take();
        let Some(mut fault) = fault else { return Ok(()) };
        let result = fault(place);
        FAULT.set(Some(fault));
        result
    }

    /// Calls `fault` at every place that `work` reaches in this thread.
    pub(crate) fn when<T>(
        fault: impl FnMut(Place) -> Result<(), LoadError> + 'static,
        work: impl FnOnce() -> T,
    ) -> T {
        FAULT.set(Some(Box::new(fault)));
        let result = work();
        FAULT.set(None);
        result
    }
}
