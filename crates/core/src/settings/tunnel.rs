//! Tunnels: packets that carry packets.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::packet::{Packet, Protocol};

/// A kind of encapsulation, known by the outer header. It is one for IPv4 and for IPv6.
///
/// A node takes the packets out of a tunnel that ends at it, and nothing compares the inner source with the outer one. A
/// workload that may send such packets can thus forge any source.
///
/// ```
/// use portcullis_core::settings::Tunnel;
///
/// assert_eq!("udp:6081".parse(), Ok(Tunnel::Udp(6081)));
/// assert_eq!("47".parse::<Tunnel>().map(|gre| gre.to_string()), Ok("47".into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Tunnel {
    /// An IP protocol: 4 is IPv4 in IP, 41 IPv6 in IP, 47 GRE.
    Protocol(Protocol),
    /// A destination port of UDP: 4789 is VXLAN, 8472 VXLAN of Linux and Cilium, 6081 Geneve.
    Udp(u16),
}

impl Tunnel {
    /// IPv4 in IP (protocol 4), and VXLAN at its port (UDP 4789) and at the one that Linux, Flannel and Cilium use (UDP 8472).
    ///
    /// Source: Calico `felix/rules/endpoints.go` drops IP in IP and VXLAN from workloads unless
    /// `allowIPIPPacketsFromWorkloads` and `allowVXLANPacketsFromWorkloads` of FelixConfiguration say otherwise.
    pub const DEFAULT: [Self; 3] = [Self::Protocol(Protocol(4)), Self::Udp(4789), Self::Udp(8472)];

    pub(super) fn usual() -> Vec<Self> {
        Self::DEFAULT.to_vec()
    }

    /// Whether `packet` is in such a tunnel.
    #[must_use]
    pub fn carries(self, packet: &Packet) -> bool {
        match self {
            Self::Protocol(protocol) => packet.protocol == protocol,
            Self::Udp(port) => packet.protocol == Protocol::UDP && packet.destination_port == port,
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(Protocol(number)) => write!(f, "{number}"),
            Self::Udp(port) => write!(f, "udp:{port}"),
        }
    }
}

/// Reads what [`Display`](fmt::Display) prints: an IP protocol number, or `udp:` and a port from 1 to 65535.
impl FromStr for Tunnel {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self, TunnelError> {
        // `parse` would take a sign, which nobody means.
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let found = match text.split_once(':') {
            Some((name, port)) if name.eq_ignore_ascii_case("udp") && is_number(port) => {
                port.parse().ok().filter(|port| *port != 0).map(Self::Udp)
            }
            None if is_number(text) => text.parse().ok().map(|number| Self::Protocol(Protocol(number))),
            _ => None,
        };
        found.ok_or(TunnelError(()))
    }
}

/// A text that names no [`Tunnel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelError(());

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tunnel is an IP protocol from 0 to 255, or `udp:` and a port from 1 to 65535")
    }
}

impl core::error::Error for TunnelError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn tunnels_are_read_as_they_are_printed() {
        for tunnel in [Tunnel::Protocol(Protocol(0)), Tunnel::Protocol(Protocol(255)), Tunnel::Udp(1)]
            .into_iter()
            .chain(Tunnel::DEFAULT)
        {
            assert_eq!(tunnel.to_string().parse(), Ok(tunnel));
        }
        assert_eq!("UDP:4789".parse(), Ok(Tunnel::Udp(4789)));
        for text in
            ["", "256", "+4", "-1", "udp", "udp:", "udp:0", "udp:+1", "udp:65536", "tcp:80", "4 ", "udp:1:2"]
        {
            assert!(text.parse::<Tunnel>().is_err(), "{text}");
        }
    }
}
