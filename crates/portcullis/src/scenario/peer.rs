//! The ends of a flow as people write them.

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use portcullis_core::label::Name;
use portcullis_core::net::canonical;
use portcullis_core::quote::quoted;

/// One end of a flow, before it is looked up.
///
/// `node/`, `hep/`, `set/` and `svc/` are reserved: a pod in a namespace of that name cannot be written, its address can.
/// IPv4-mapped IPv6 addresses are read as the IPv4 address they stand for.
///
/// ```
/// use portcullis::scenario::Peer;
///
/// let peer: Peer = "yaobank/customer".parse()?;
/// assert_eq!(peer, Peer::Workload { namespace: "yaobank".into(), name: "customer".into() });
/// assert_eq!("::ffff:10.0.0.1".parse::<Peer>()?.to_string(), "10.0.0.1");
/// # Ok::<(), portcullis::scenario::PeerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// `namespace/name`: a pod, or a workload and so its pods.
    Workload {
        /// The namespace.
        namespace: Name,
        /// The name of the pod or workload.
        name: Name,
    },
    /// A bare address. When a known pod, host endpoint or node owns it, that is the end.
    Address(IpAddr),
    /// `node/NAME`: the host itself.
    Node(Name),
    /// `hep/NAME`: a host endpoint.
    HostEndpoint(Name),
    /// `set/NAME` or `set/NAMESPACE/NAME`: the first address of a network set.
    NetworkSet {
        /// The namespace; `None` for a global set.
        namespace: Option<Name>,
        /// The set's name.
        name: Name,
    },
    /// `svc/NAMESPACE/NAME`: a service, which is each of its backends. Only as a destination.
    Service {
        /// The namespace.
        namespace: Name,
        /// The service's name.
        name: Name,
    },
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(canonical(address)));
        }
        let error = || PeerError { text: quoted(text).to_string() };
        let mut parts = text.split('/').map(|part| if part.is_empty() { Err(error()) } else { Ok(part) });
        let (Some(first), Some(second)) = (parts.next(), parts.next()) else { return Err(error()) };
        let (first, second, third) = (first?, second?, parts.next().transpose()?);
        if parts.next().is_some() {
            return Err(error());
        }
        match (first, third) {
            ("node", None) => Ok(Self::Node(second.into())),
            ("hep", None) => Ok(Self::HostEndpoint(second.into())),
            ("set", None) => Ok(Self::NetworkSet { namespace: None, name: second.into() }),
            ("set", Some(third)) => {
                Ok(Self::NetworkSet { namespace: Some(second.into()), name: third.into() })
            }
            ("svc", Some(third)) => Ok(Self::Service { namespace: second.into(), name: third.into() }),
            ("svc", None) => Err(error()),
            (_, None) => Ok(Self::Workload { namespace: first.into(), name: second.into() }),
            (_, Some(_)) => Err(error()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::HostEndpoint(name) => write!(f, "hep/{name}"),
            Self::NetworkSet { namespace: Some(namespace), name } => write!(f, "set/{namespace}/{name}"),
            Self::NetworkSet { namespace: None, name } => write!(f, "set/{name}"),
            Self::Service { namespace, name } => write!(f, "svc/{namespace}/{name}"),
        }
    }
}

/// A text that is not a [`Peer`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text} is not a peer; expected namespace/pod, an IP address, node/NAME, hep/NAME, set/[NAMESPACE/]NAME or \
     svc/NAMESPACE/NAME"
)]
pub struct PeerError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_prints_as_it_is_written() {
        for text in [
            "yaobank/customer",
            "10.0.0.1",
            "2001:db8::1",
            "node/worker-1",
            "hep/worker-1.eth0",
            "set/outside",
            "set/yaobank/outside",
            "svc/yaobank/customer",
            "nodes/a",
        ] {
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn reserved_words_are_not_namespaces() {
        assert_eq!("node/a".parse::<Peer>().unwrap(), Peer::Node("a".into()));
        assert_eq!("set/a".parse::<Peer>().unwrap(), Peer::NetworkSet { namespace: None, name: "a".into() });
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "/",
            "a",
            "a/",
            "/a",
            "a/b/c",
            "node/",
            "node/a/b",
            "hep/a/b",
            "set/",
            "set//a",
            "set/a/",
            "set/a/b/c",
            "svc/a",
            "svc/a/b/c",
            "a//b",
            "10.0.0",
            "10.0.0.0/8",
            "010.0.0.1x",
            "fe80::1%eth0",
        ] {
            let parsed = text.parse::<Peer>();
            // `10.0.0.0/8` has the form of a pod; it is refused when no such pod is found.
            if text == "10.0.0.0/8" {
                assert!(matches!(parsed, Ok(Peer::Workload { .. })));
            } else {
                assert!(parsed.is_err(), "{text}: {parsed:?}");
            }
        }
        let error = "a\nb".parse::<Peer>().unwrap_err().to_string();
        assert!(error.starts_with("`a\\nb` is not a peer; expected"), "{error}");
    }
}
