//! Why a batch stopped.

use portcullis_core::backend::{DataplaneError, DataplaneErrorKind};

/// Why an update is not in force.
#[derive(Debug)]
pub(super) enum Halt {
    /// What the table holds is not known any more, because others changed it, or because the kernel's answer was lost. A load from what
    /// is there now brings everything in force.
    Again(DataplaneError),
    /// The kernel refuses, or others change their own tables all the time.
    Failed(DataplaneError),
}

impl Halt {
    pub(super) fn touched() -> Self {
        Self::Again(DataplaneError::new(
            DataplaneErrorKind::Contended,
            "others change the table all the time, so that no update of it gets through",
        ))
    }

    pub(super) fn into_error(self) -> DataplaneError {
        match self {
            Self::Again(error) | Self::Failed(error) => error,
        }
    }
}

impl<E: Into<DataplaneError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
