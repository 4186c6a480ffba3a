//! Addresses and networks.

mod ranges;

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use ranges::{AddressRange, address_after, longest_prefix_ranges};

/// An IP version: the address family of a packet, a network or a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Bits of an address, which is the longest prefix: 32 or 128.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The version of `address`.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "4",
            Self::V6 => "6",
        })
    }
}

/// A network: an address prefix without host bits.
///
/// Ordered by family, then address, then prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// The network that contains `address` and has `prefix` leading bits.
    ///
    /// # Errors
    /// When `prefix` is longer than the address, or the network lies in the IPv4-mapped range `::ffff:0:0/96`
    /// (such a network never matches a packet, and readers disagree about its meaning).
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let net = IpNet::new(address, prefix).map_err(|_| CidrError(CidrErrorKind::PrefixTooLong))?;
        if let IpAddr::V6(v6) = address
            && v6.to_ipv4_mapped().is_some()
            && prefix >= 96
        {
            return Err(CidrError(CidrErrorKind::Mapped));
        }
        Ok(Self(net.trunc()))
    }

    /// The network that holds `address` alone.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(canonical(address)))
    }

    /// The networks that contain `address`, from the longest prefix to the shortest; IPv4-mapped ones are left out.
    pub fn containing(address: IpAddr) -> impl Iterator<Item = Self> {
        (0..=IpVersion::of(&address).bits()).rev().filter_map(move |prefix| Self::new(address, prefix).ok())
    }

    /// The first address of the network.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// The last address of the network.
    #[must_use]
    pub fn last_address(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// Number of leading bits that are fixed.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether the network holds one address alone.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.prefix() == self.version().bits()
    }

    /// The family of the network.
    #[must_use]
    pub fn version(&self) -> IpVersion {
        match self.0 {
            IpNet::V4(_) => IpVersion::V4,
            IpNet::V6(_) => IpVersion::V6,
        }
    }

    /// Whether `address` lies in the network. Always false across families.
    #[must_use]
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether `other` lies in this network or equals it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Reads a CIDR as `text` says it, and tells whether bits beyond the prefix were set.
    ///
    /// Such host bits are cleared (decision D21: existing objects carry them), so the result is the containing
    /// network. Leading zeros, zones and a missing prefix are refused.
    ///
    /// # Errors
    /// When `text` is not an address, a slash and a prefix length, or is IPv4-mapped.
    pub fn parse_lenient(text: &str) -> Result<(Self, HostBits), CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError(CidrErrorKind::NoPrefix))?;
        let address: IpAddr = address.parse().map_err(|_| CidrError(CidrErrorKind::Address))?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CidrError(CidrErrorKind::Prefix));
        }
        if prefix.len() > 1 && prefix.starts_with('0') {
            return Err(CidrError(CidrErrorKind::Prefix));
        }
        let prefix: u8 = prefix.parse().map_err(|_| CidrError(CidrErrorKind::PrefixTooLong))?;
        let net = Self::new(address, prefix)?;
        let host_bits = if net.address() == address { HostBits::Clear } else { HostBits::Set };
        Ok((net, host_bits))
    }
}

/// Whether a CIDR text had bits set beyond its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostBits {
    /// The text named a network address.
    Clear,
    /// The text named an address inside the network; the network was taken.
    Set,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_lenient(text).map(|(net, _)| net)
    }
}

impl From<Ipv4Net> for Cidr {
    fn from(net: Ipv4Net) -> Self {
        Self(IpNet::V4(net.trunc()))
    }
}

impl TryFrom<Ipv6Net> for Cidr {
    type Error = CidrError;

    fn try_from(net: Ipv6Net) -> Result<Self, Self::Error> {
        Self::new(IpAddr::V6(net.addr()), net.prefix_len())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a text or an address and prefix are not a [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct CidrError(CidrErrorKind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum CidrErrorKind {
    #[error("a prefix length is missing, as in `10.0.0.0/8`")]
    NoPrefix,
    #[error("not an IP address")]
    Address,
    #[error("the prefix length is not a plain number")]
    Prefix,
    #[error("the prefix is longer than the address")]
    PrefixTooLong,
    #[error("an IPv4-mapped IPv6 network never matches, write the IPv4 network")]
    Mapped,
}

/// `address` with an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) replaced by the IPv4 address it stands for.
///
/// Every address enters the model this way, so an address has one spelling.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_cleared_and_reported() {
        let (net, bits) = Cidr::parse_lenient("10.1.2.3/8").unwrap();
        assert_eq!(alloc::format!("{net}"), "10.0.0.0/8");
        assert_eq!(bits, HostBits::Set);
        assert_eq!(Cidr::parse_lenient("10.0.0.0/8").unwrap().1, HostBits::Clear);
        assert_eq!(Cidr::parse_lenient("2001:DB8::/32").unwrap().1, HostBits::Clear);
    }

    #[test]
    fn odd_spellings_are_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "010.0.0.0/8",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/8 ",
            " 10.0.0.0/8",
            "::/129",
            "::ffff:10.0.0.0/104",
            "fe80::1%eth0/64",
            "10.0.0.0/8/8",
            "::/0000",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert!("::/0".parse::<Cidr>().is_ok());
        assert!("0.0.0.0/0".parse::<Cidr>().is_ok());
    }

    #[test]
    fn families_never_mix() {
        let all4: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(!all4.contains(&"::1".parse().unwrap()));
        assert!(all4.contains(&"255.255.255.255".parse().unwrap()));
        assert_eq!(canonical("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
