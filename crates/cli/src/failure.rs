//! How a command ends when it does not succeed.

use core::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use portcullis::quote::escaped;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The input is at fault.
    Input(String),
    /// The command line is at fault.
    Usage(String),
    /// The environment cannot do what is asked.
    Environment(String),
    /// The reader of our output closed it.
    OutputClosed,
}

impl Failure {
    /// A file that cannot be read.
    pub(crate) fn unreadable(file: &str, error: &io::Error) -> Self {
        Self::Input(format!("{file}: cannot be read: {}", reason(error)))
    }

    /// The exit code of the contract.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Environment(_) => ExitCode::from(3),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }

    /// What to tell the user.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Input(message) | Self::Usage(message) | Self::Environment(message) => Some(message),
            Self::OutputClosed => None,
        }
    }
}

/// Failures to write output: a closed pipe is no fault.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Environment(format!("cannot write the output: {}", reason(&error))),
        }
    }
}

/// A path for a message.
pub(crate) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy()).to_string()
}

fn reason(error: &io::Error) -> String {
    let known = match error.kind() {
        io::ErrorKind::NotFound => "no such file",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::IsADirectory => "it is a directory",
        io::ErrorKind::StorageFull => "no space left",
        _ => return lower(error),
    };
    known.to_owned()
}

/// The system's words without its capital and its number.
fn lower(error: impl Display) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
}
