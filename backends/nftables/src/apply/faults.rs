//! Places where tests let the kernel refuse, or change the machine meanwhile.

use alloc::borrow::Cow;

use crate::apply::transport::ApplyError;
use crate::command::Command;

/// What an attempt to carry out a batch meets.
#[cfg(test)]
#[derive(Debug)]
pub(crate) enum Place<'b> {
    /// The batch is about to be sent.
    Send(&'b mut Vec<Command>),
    /// The kernel has answered, and the answer is about to be told.
    Answer,
    /// The kernel is about to be asked about interfaces.
    Links,
}

/// The batch that is sent in place of this one: the same, but in tests that ask for a fault.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it does fail")]
pub(crate) const fn sending(batch: &[Command]) -> Result<Cow<'_, [Command]>, ApplyError> {
    Ok(Cow::Borrowed(batch))
}

/// What became of it.
#[cfg(not(test))]
pub(crate) fn answered(answer: Result<(), ApplyError>) -> Result<(), ApplyError> {
    answer
}

/// Before interfaces are asked about.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it does fail")]
pub(crate) const fn asking_links() -> Result<(), ApplyError> {
    Ok(())
}

#[cfg(all(test, feature = "oracle"))]
pub(crate) use in_tests::when;
#[cfg(test)]
pub(crate) use in_tests::{answered, asking_links, sending};

#[cfg(test)]
mod in_tests {
    use core::cell::RefCell;

    use super::{ApplyError, Command, Cow, Place};

    type Fault = Box<dyn FnMut(Place<'_>) -> Result<(), ApplyError>>;

    thread_local! {
        static FAULT: RefCell<Option<Fault>> = const { RefCell::new(None) };
    }

    fn reach(place: Place<'_>) -> Result<(), ApplyError> {
        // Taken out meanwhile, so that it may do anything.
        let Some(mut fault) = FAULT.take() else { return Ok(()) };
        let result = fault(place);
        FAULT.set(Some(fault));
        result
    }

    pub(crate) fn sending(batch: &[Command]) -> Result<Cow<'_, [Command]>, ApplyError> {
        let mut batch = batch.to_vec();
        reach(Place::Send(&mut batch))?;
        Ok(Cow::Owned(batch))
    }

    pub(crate) fn answered(answer: Result<(), ApplyError>) -> Result<(), ApplyError> {
        reach(Place::Answer)?;
        answer
    }

    pub(crate) fn asking_links() -> Result<(), ApplyError> {
        reach(Place::Links)
    }

    /// Calls `fault` at every place that `work` reaches in this thread.
    #[cfg(feature = "oracle")]
    pub(crate) fn when<T>(
        fault: impl FnMut(Place<'_>) -> Result<(), ApplyError> + 'static,
        work: impl FnOnce() -> T,
    ) -> T {
        FAULT.set(Some(Box::new(fault)));
        let result = work();
        FAULT.set(None);
        result
    }
}
