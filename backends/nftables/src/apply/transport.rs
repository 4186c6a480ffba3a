//! Telling the kernel.

use core::fmt;

use nix::errno::Errno;

use portcullis_core::backend::{DataplaneError, DataplaneErrorKind};
use portcullis_core::label::Name;

use crate::command::Command;

/// A way to nf_tables.
pub trait Transport {
    /// Carries out `batch`, all of it or nothing.
    ///
    /// # Errors
    /// When the kernel or the program in between refuses. Then nothing changed.
    fn commit(&mut self, table: &Name, batch: &[Command]) -> Result<(), ApplyError>;
}

/// Why the kernel was not changed, or could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyError {
    kind: Kind,
    object: Option<String>,
    errno: Option<i32>,
    stderr: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel refused a command.
    Refused(String),
    /// The machine cannot do it.
    Environment(String),
    /// There was nothing to read.
    Empty,
}

impl ApplyError {
    pub(crate) fn refused(command: Option<&Command>, errno: Errno, said: Option<&str>) -> Self {
        if errno == Errno::EPERM {
            return Self::environment("changing nf_tables needs root, or the capability CAP_NET_ADMIN");
        }
        let mut reason = errno.desc().to_lowercase();
        if let Some(said) = said {
            reason = format!("{reason}: {said}");
        }
        Self {
            kind: Kind::Refused(reason),
            object: command.map(object),
            errno: Some(errno as i32),
            stderr: None,
        }
    }

    pub(crate) fn kernel(what: &str, errno: Errno) -> Self {
        let kind = match errno {
            Errno::EAGAIN => Kind::Empty,
            errno => Kind::Environment(format!("cannot {what}: {}", errno.desc().to_lowercase())),
        };
        Self { kind, object: None, errno: Some(errno as i32), stderr: None }
    }

    pub(crate) fn environment(reason: &str) -> Self {
        Self { kind: Kind::Environment(reason.to_owned()), object: None, errno: None, stderr: None }
    }

    pub(crate) fn program(reason: String, stderr: String) -> Self {
        Self { kind: Kind::Refused(reason), object: None, errno: None, stderr: Some(stderr) }
    }

    pub(crate) const fn is_empty_queue(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    /// The object that the kernel did not take, when it says which.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// The kernel's error number.
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// What the `nft` program wrote to its standard error.
    #[must_use]
    pub fn stderr(&self) -> Option<&str> {
        self.stderr.as_deref()
    }

    /// Whether the machine cannot do it at all: rights, programs or kernel features are missing.
    #[must_use]
    pub const fn is_environment(&self) -> bool {
        matches!(self.kind, Kind::Environment(_) | Kind::Empty)
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, &self.object) {
            (Kind::Refused(reason), Some(object)) => write!(f, "the kernel refuses {object}: {reason}"),
            (Kind::Refused(reason), None) => write!(f, "the kernel refuses the update: {reason}"),
            (Kind::Environment(reason), _) => f.write_str(reason),
            (Kind::Empty, _) => f.write_str("nothing to read"),
        }
    }
}

impl core::error::Error for ApplyError {}

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

/// What a command is about.
fn object(command: &Command) -> String {
    match command {
        Command::AddTable | Command::DeleteTable => "the table".to_owned(),
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
