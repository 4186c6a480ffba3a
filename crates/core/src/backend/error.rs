//! Why a state cannot be lowered, or is not in force.

use alloc::boxed::Box;
use alloc::string::String;
use core::error::Error;
use core::fmt;

use crate::backend::BindingError;
use crate::model::EndpointId;

/// Why a snapshot or delta could not be lowered. Nothing was written, and the state that was lowered before still stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct LowerError(#[from] LowerErrorKind);

/// The kinds of [`LowerError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LowerErrorKind {
    /// The delta starts from another generation than the one that was lowered last.
    #[error("the delta starts from generation {expected}, what was lowered is at {found}")]
    Generation {
        /// The generation that was lowered last.
        found: u64,
        /// The one that the delta starts from.
        expected: u64,
    },
    /// A limit of the backend is too small.
    #[error("the policy does not fit: `{name}` holds {limit}, {needed} are needed")]
    Limit {
        /// The limit, by the name it has in the backend's options.
        name: &'static str,
        /// Its value.
        limit: u64,
        /// How much is needed at least.
        needed: u64,
    },
    /// The backend cannot express it.
    #[error("{}{reason}", .endpoint.as_ref().map(|id| alloc::format!("{id}: ")).unwrap_or_default())]
    Unsupported {
        /// The endpoint it is about, when it is about one.
        endpoint: Option<EndpointId>,
        /// What cannot be expressed.
        reason: String,
    },
    /// Bindings contradict each other.
    #[error(transparent)]
    Bindings(#[from] BindingError),
    /// The snapshot breaks an invariant, see [`Snapshot::verify`](crate::ir::Snapshot::verify).
    #[error("the snapshot breaks an invariant, see `Snapshot::verify`")]
    Invalid,
    /// The same, where the backend tells the entry.
    #[error("{reason}")]
    InvalidEntry {
        /// The entry, and what is wrong with it.
        reason: String,
    },
}

impl From<BindingError> for LowerError {
    fn from(error: BindingError) -> Self {
        Self(error.into())
    }
}

impl LowerError {
    /// A delta that starts elsewhere.
    #[must_use]
    pub const fn generation(found: u64, expected: u64) -> Self {
        Self(LowerErrorKind::Generation { found, expected })
    }

    /// A limit that is too small. Counts beyond 64 bits are told as the largest.
    #[must_use]
    pub fn limit(name: &'static str, limit: impl TryInto<u64>, needed: impl TryInto<u64>) -> Self {
        let limit = limit.try_into().unwrap_or(u64::MAX);
        let needed = needed.try_into().unwrap_or(u64::MAX);
        Self(LowerErrorKind::Limit { name, limit, needed })
    }

    /// Something that the backend cannot express.
    #[must_use]
    pub fn unsupported(endpoint: Option<&EndpointId>, reason: impl fmt::Display) -> Self {
        let reason = alloc::string::ToString::to_string(&reason);
        Self(LowerErrorKind::Unsupported { endpoint: endpoint.cloned(), reason })
    }

    /// A snapshot that breaks an invariant.
    #[must_use]
    pub const fn invalid() -> Self {
        Self(LowerErrorKind::Invalid)
    }

    /// A snapshot or delta with an entry that breaks an invariant.
    #[must_use]
    pub fn invalid_entry(reason: impl fmt::Display) -> Self {
        Self(LowerErrorKind::InvalidEntry { reason: alloc::string::ToString::to_string(&reason) })
    }

    /// Which kind it is, with the particulars.
    #[must_use]
    pub const fn kind(&self) -> &LowerErrorKind {
        &self.0
    }
}

/// Why a dataplane did not carry out a call. After a load or an update, the policy before is still in force.
#[derive(Debug)]
pub struct DataplaneError {
    kind: DataplaneErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

/// The kinds of [`DataplaneError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DataplaneErrorKind {
    /// The policy does not fit or cannot be expressed: the source is a [`LowerError`]. The kernel was not asked.
    DoesNotFit,
    /// The machine cannot do it: rights, programs or kernel features are missing.
    Environment,
    /// The kernel refuses.
    Refused,
    /// Others change the kernel's tables all the time, so that no update gets through.
    Contended,
    /// Nothing was loaded yet.
    NotLoaded,
}

impl DataplaneError {
    /// An error of this kind, because of `source`.
    #[must_use]
    pub fn new(kind: DataplaneErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    /// The error of a call that needs a load first.
    #[must_use]
    pub fn not_loaded() -> Self {
        Self::new(DataplaneErrorKind::NotLoaded, "no snapshot was loaded yet")
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> DataplaneErrorKind {
        self.kind
    }

    /// Why the policy does not fit, when that is it.
    #[must_use]
    pub fn lower(&self) -> Option<&LowerError> {
        self.source.downcast_ref()
    }
}

impl From<LowerError> for DataplaneError {
    fn from(error: LowerError) -> Self {
        Self::new(DataplaneErrorKind::DoesNotFit, error)
    }
}

impl fmt::Display for DataplaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for DataplaneError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn an_error_tells_its_kind_its_text_once_and_its_cause() {
        let error = DataplaneError::from(LowerError::limit("runs", 8_u32, 9_usize));
        assert_eq!(error.kind(), DataplaneErrorKind::DoesNotFit);
        assert_eq!(error.to_string(), "the policy does not fit: `runs` holds 8, 9 are needed");
        let limit = LowerErrorKind::Limit { name: "runs", limit: 8, needed: 9 };
        assert_eq!(error.lower().map(LowerError::kind), Some(&limit));
        assert_eq!(
            LowerError::limit("runs", -1_i32, u128::MAX).to_string().matches("18446744073709551615").count(),
            2
        );
        let id = EndpointId::workload("shop", "web");
        let refused = LowerError::unsupported(Some(&id), "it has five addresses of one family");
        assert_eq!(refused.to_string(), "shop/web: it has five addresses of one family");
        assert_eq!(DataplaneError::not_loaded().kind(), DataplaneErrorKind::NotLoaded);
    }

    /// The text of the error itself is not that of its cause again, or a report would say it twice.
    #[test]
    fn a_chain_says_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write map `cells`")]
        struct Write(#[source] LowerError);
        let error = DataplaneError::new(DataplaneErrorKind::Refused, Write(LowerError::invalid()));
        let cause = error.source().unwrap().to_string();
        assert_eq!(error.to_string(), "cannot write map `cells`");
        assert!(cause.contains("invariant"));
    }
}
