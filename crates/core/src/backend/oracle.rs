//! The kernel as judge of single packets.

use alloc::string::{String, ToString as _};
use core::cell::RefCell;
use core::fmt;

use crate::evaluate::Evaluate;
use crate::model::EndpointId;
use crate::packet::Packet;
use crate::verdict::{Cause, Decision, Hook, Verdict};

/// A snapshot loaded where no traffic meets it, to ask the dataplane about single packets.
pub trait Oracle: Send + Sync {
    /// What the dataplane does with `packet` at `hook` of `endpoint`. An endpoint that is not in the snapshot is denied.
    ///
    /// # Errors
    /// When there is no such packet on the wire, the dataplane cannot be asked, or what it did contradicts the decision it
    /// took.
    fn ask(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Result<Decision, OracleError>;
}

impl dyn Oracle + '_ {
    /// Answers `question`, which may ask hook by hook.
    ///
    /// # Errors
    /// That of the first packet that had no answer; the answer to the question is not used then.
    pub fn answer<T>(&self, question: impl FnOnce(&dyn Evaluate) -> T) -> Result<T, OracleError> {
        let asking = Asking { oracle: self, failed: RefCell::default() };
        let answer = question(&asking);
        asking.failed.into_inner().map_or(Ok(answer), Err)
    }
}

/// Notes the first packet that had no answer.
struct Asking<'a> {
    oracle: &'a (dyn Oracle + 'a),
    failed: RefCell<Option<OracleError>>,
}

impl Evaluate for Asking<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.oracle.ask(endpoint, hook, packet).unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            Decision::new(Verdict::Deny, Cause::NoPolicy)
        })
    }
}

/// A packet that the dataplane cannot be asked about is denied, with the cause of an endpoint that is not there; use
/// [`Oracle::ask`] or `answer` to tell the two apart.
impl Evaluate for dyn Oracle + '_ {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.ask(endpoint, hook, packet).unwrap_or(Decision::new(Verdict::Deny, Cause::NoPolicy))
    }
}

/// Why there is no oracle, or no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct OracleError {
    kind: OracleErrorKind,
    reason: String,
}

/// The kinds of [`OracleError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OracleErrorKind {
    /// The machine cannot do it: rights, programs or kernel features are missing.
    Environment,
    /// There is no such packet on the wire, or the kernel does not route it.
    Unaskable,
    /// What the dataplane did with the packet is not what the decision it took says. That is a fault of the backend.
    Contradiction,
}

impl OracleError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: OracleErrorKind, reason: impl fmt::Display) -> Self {
        Self { kind, reason: reason.to_string() }
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> OracleErrorKind {
        self.kind
    }
}
