//! The destination port of a flow: a number or a name.

use core::fmt;
use core::str::FromStr;

use portcullis_core::quote::quoted;

/// The destination port that a flow asks about.
///
/// ```
/// use portcullis::scenario::Port;
///
/// assert_eq!("80".parse(), Ok(Port::Number(80)));
/// assert_eq!("http".parse(), Ok(Port::Name("http".into())));
/// assert!("HTTP".parse::<Port>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Port {
    /// Its number.
    Number(u16),
    /// The name that the service, or a container of the destination, gives it.
    Name(Box<str>),
}

impl FromStr for Port {
    type Err = PortError;

    /// A number from 0 to 65535, or a name as the Kubernetes API takes it for container and service ports: DNS label
    /// with at least one letter. Source: kubernetes `pkg/apis/core/validation/validation.go`, `ValidatePortNumOrName`.
    fn from_str(text: &str) -> Result<Self, PortError> {
        let error = || PortError { text: quoted(text).to_string() };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Number).map_err(|_| error());
        }
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [text.bytes().next(), text.bytes().next_back()];
        let is_name = text.len() <= LONGEST
            && text.bytes().all(|byte| is_plain(byte) || byte == b'-')
            && text.bytes().any(|byte| byte.is_ascii_lowercase())
            && ends.into_iter().all(|end| end.is_some_and(is_plain));
        if is_name { Ok(Self::Name(text.into())) } else { Err(error()) }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A text that is no [`Port`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} is neither a whole number from 0 to 65535 nor the name of a port")]
pub struct PortError {
    text: String,
}

/// The longest name of a service's port; those of containers have 15 characters at most.
const LONGEST: usize = 63;
