//! Telling the kernel.

use nix::errno::Errno;

use portcullis_core::backend::{DataplaneError, DataplaneErrorKind};
use portcullis_core::label::Name;

use crate::command::Command;

/// A way to nf_tables.
pub(crate) trait Transport {
    /// Carries out `batch`, all of it or nothing.
    ///
    /// # Errors
    /// When the kernel or the program in between refuses. Then nothing changed.
    fn commit(&mut self, table: &Name, batch: &[Command]) -> Result<(), ApplyError>;
}

/// Why the kernel was not changed, or could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub(crate) struct ApplyError {
    kind: Kind,
    errno: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Kind {
    /// The kernel refused a command.
    #[error("the kernel refuses {object}: {reason}")]
    Refused { object: String, reason: String },
    /// The machine cannot do it.
    #[error("{0}")]
    Environment(String),
    /// There was nothing to read.
    #[error("nothing to read")]
    Empty,
    /// The kernel may have carried out the batch, or not.
    #[error("the kernel's answer was lost: {0}")]
    NoAnswer(&'static str),
}

impl ApplyError {
    pub(crate) fn refused(command: Option<&Command>, errno: Errno, said: Option<&str>) -> Self {
        if errno == Errno::EPERM {
            return Self::environment(
                "changing nf_tables needs the capability CAP_NET_ADMIN in the user namespace that owns the network namespace",
            );
        }
        let mut reason = errno.desc().to_lowercase();
        if let Some(said) = said {
            reason = format!("{reason}: {said}");
        }
        Self {
            kind: Kind::Refused { object: command.map_or_else(|| "the update".to_owned(), object), reason },
            errno: Some(errno as i32),
        }
    }

    pub(crate) fn kernel(what: &str, errno: Errno) -> Self {
        let kind = match errno {
            Errno::EAGAIN => Kind::Empty,
            Errno::EPERM | Errno::EACCES => Kind::Environment(format!(
                "cannot {what}: {}; that needs the capability CAP_NET_ADMIN in the user namespace that owns the network namespace",
                errno.desc().to_lowercase()
            )),
            errno => Kind::Environment(format!("cannot {what}: {}", errno.desc().to_lowercase())),
        };
        Self { kind, errno: Some(errno as i32) }
    }

    /// Connection tracking could not be read or changed.
    pub(crate) fn tracking(error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Self::kernel("ask connection tracking", errno)
    }

    pub(crate) fn environment(reason: &str) -> Self {
        Self { kind: Kind::Environment(reason.to_owned()), errno: None }
    }

    pub(crate) const fn no_answer(reason: &'static str) -> Self {
        Self { kind: Kind::NoAnswer(reason), errno: None }
    }

    /// Whether the kernel may have carried out the batch nevertheless.
    pub(crate) const fn is_no_answer(&self) -> bool {
        matches!(self.kind, Kind::NoAnswer(_))
    }

    pub(crate) fn program(reason: String) -> Self {
        Self { kind: Kind::Refused { object: "the update".to_owned(), reason }, errno: None }
    }

    pub(crate) const fn is_empty_queue(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    /// The kernel's error number.
    #[must_use]
    pub(crate) const fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// Whether the machine cannot do it at all: rights, programs or kernel features are missing.
    #[must_use]
    pub(crate) const fn is_environment(&self) -> bool {
        matches!(self.kind, Kind::Environment(_) | Kind::Empty)
    }
}

impl From<ApplyError> for DataplaneError {
    fn from(error: ApplyError) -> Self {
        let kind = if error.is_environment() {
            DataplaneErrorKind::Environment
        } else {
            DataplaneErrorKind::Refused
        };
        Self::new(kind, error)
    }
}

/// Why an update failed, and then the load in its place.
#[derive(Debug, thiserror::Error)]
#[error("{reload}")]
struct ReloadFailed {
    reload: DataplaneError,
    #[source]
    update: DataplaneError,
}

/// The error of a load in place of an update, with that of the update as its cause.
pub(crate) fn both(update: DataplaneError, reload: DataplaneError) -> DataplaneError {
    // Callers ask for the reason why a policy does not fit by its type.
    if reload.lower().is_some() {
        return reload;
    }
    DataplaneError::new(reload.kind(), ReloadFailed { reload, update })
}

/// What a command is about.
fn object(command: &Command) -> String {
    match command {
        Command::AddTable(_) | Command::DeleteTable(_) => "the table".to_owned(),
        Command::AddCounter(name) | Command::DeleteCounter(name) => format!("counter {name}"),
        Command::AddSet(set) => format!("set {}", set.name),
        Command::DeleteSet(name) => format!("set {name}"),
        Command::AddChain(chain) => format!("chain {}", chain.name),
        Command::FlushChain(name) | Command::DeleteChain(name) => format!("chain {name}"),
        Command::AddRule(rule) => format!("a rule of chain {}", rule.chain),
        Command::AddElements(change) | Command::DeleteElements(change) => {
            format!("elements of set {}", change.set)
        }
    }
}
