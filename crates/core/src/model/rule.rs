//! Rules: what they match and what they do.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::label::Name;
use crate::model::ServiceId;
use crate::net::{Cidr, IpVersion};
use crate::packet::{Icmp, Protocol};
use crate::selector::Expr;

/// What a matching rule does. Matching on this enum must break when it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Action {
    /// Accept for this endpoint and direction; no later rule or tier is asked.
    Allow,
    /// Drop.
    Deny,
    /// Leave this tier and go on with the next.
    Pass,
    /// Note the packet and go on with the next rule.
    Log,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Pass => "pass",
            Self::Log => "log",
        })
    }
}

/// One rule of a policy or profile, for one direction.
///
/// All parts must match. A rule matches when **some** peer of `peers` and **some** item of `l4` match together
/// with `local`, `ip_version` and `http`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Rule {
    /// What the rule does.
    pub action: Action,
    /// The author's name for the rule, for people only.
    pub name: Option<Name>,
    /// The family the packet must have.
    pub ip_version: Option<IpVersion>,
    /// The far end: the source of an ingress rule, the destination of an egress rule. Alternatives; empty is anyone.
    pub peers: Vec<EntityMatch>,
    /// The near end: the destination of an ingress rule, the source of an egress rule.
    pub local: EntityMatch,
    /// Protocol and ports. Alternatives; empty is any protocol.
    pub l4: Vec<L4Match>,
    /// HTTP methods and paths.
    pub http: Option<HttpMatch>,
}

impl Rule {
    /// A rule that matches every packet.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            name: None,
            ip_version: None,
            peers: Vec::new(),
            local: EntityMatch::default(),
            l4: Vec::new(),
            http: None,
        }
    }
}

/// What one end of a connection must be. Every part that is present must hold; the default matches anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct EntityMatch {
    /// The address belongs to an object that this selects.
    pub selector: Option<EntitySelector>,
    /// The address belongs to no object that this selects. Unknown outside addresses satisfy it.
    pub not_selector: Option<EntitySelector>,
    /// The address lies in one of these; empty is any address. A list without a member of the packet's family
    /// never matches (Calico `felix/rules/policy.go`).
    pub nets: Vec<Cidr>,
    /// The address lies in none of these. As for `nets`, a non-empty list without a member of the packet's family
    /// makes the rule match nothing.
    pub not_nets: Vec<Cidr>,
    /// The address, and for a destination also protocol and port, is a backend of this service.
    pub service: Option<ServiceId>,
    /// What a proxy-supplied principal must be; see [`IdentityMatch`].
    pub identity: Option<IdentityMatch>,
}

impl EntityMatch {
    /// Matches addresses of the objects that `selector` selects.
    #[must_use]
    pub fn select(selector: EntitySelector) -> Self {
        Self { selector: Some(selector), ..Self::default() }
    }

    /// Matches addresses inside `nets`.
    #[must_use]
    pub fn nets(nets: Vec<Cidr>) -> Self {
        Self { nets, ..Self::default() }
    }

    /// Matches no address at all: the safe form of a peer that cannot be expressed, for rules that allow.
    #[must_use]
    pub fn nobody() -> Self {
        Self::select(EntitySelector { kinds: EntityKinds::NONE, expr: Expr::All })
    }

    /// Whether every address matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

/// A label expression together with the kinds of object it may select.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct EntitySelector {
    /// Objects of other kinds are never selected.
    pub kinds: EntityKinds,
    /// What the labels must satisfy.
    pub expr: Expr,
}

/// A set of object kinds that own addresses and labels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKinds(u8);

impl EntityKinds {
    /// No kind: selects nothing.
    pub const NONE: Self = Self(0);
    /// Workload endpoints (pods).
    pub const WORKLOAD: Self = Self(1);
    /// Host endpoints.
    pub const HOST: Self = Self(2);
    /// Network sets, namespaced and global.
    pub const NETWORK_SET: Self = Self(4);
    /// Nodes, by their own addresses.
    pub const NODE: Self = Self(8);
    /// What a Calico selector ranges over: workloads, host endpoints and network sets.
    pub const CALICO: Self = Self(1 | 2 | 4);

    /// The kinds of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every kind of `other` is in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no kind is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for EntityKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(1u8, "workload"), (2, "host"), (4, "network-set"), (8, "node")];
        f.debug_set()
            .entries(names.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| name))
            .finish()
    }
}

/// What the authenticated identity of a peer must be.
///
/// Used **only** when the packet carries a principal; without one, the selector (which already holds the service
/// account condition) decides alone. A principal that is empty or is not `spiffe://…/ns/NS/sa/SA` satisfies no
/// identity match (decision D20). Source: Calico `app-policy/checker`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct IdentityMatch {
    /// What the labels of the principal's service account and namespace must satisfy; both carry their name under
    /// [`crate::label::NAME_KEY`]. Own-scope labels are all missing.
    pub expr: Expr,
}

/// Protocol, port and ICMP conditions. Every part that is present must hold; the default matches any packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct L4Match {
    /// The packet's protocol.
    pub protocol: Option<Protocol>,
    /// Any protocol but this.
    pub not_protocol: Option<Protocol>,
    /// The ICMP type and code. Packets that are neither ICMP nor ICMPv6 do not match.
    pub icmp: Option<IcmpMatch>,
    /// Not this ICMP type and code, taken together (decision D5). Packets that are neither ICMP nor ICMPv6 do not
    /// match.
    pub not_icmp: Option<IcmpMatch>,
    /// Alternatives; empty is any port. A protocol without ports never matches a non-empty list.
    pub source_ports: Vec<PortMatch>,
    /// None of these.
    pub not_source_ports: Vec<PortMatch>,
    /// Alternatives; empty is any port. A protocol without ports never matches a non-empty list.
    pub destination_ports: Vec<PortMatch>,
    /// None of these.
    pub not_destination_ports: Vec<PortMatch>,
}

/// A port condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum PortMatch {
    /// The port lies in the range.
    Range(PortRange),
    /// (address, protocol, port) is a port of this name of an endpoint; of an endpoint that the same side's
    /// positive selector selects, when there is one.
    ///
    /// Sources: Kubernetes `NetworkPolicyPort.port`; Calico `felix/calc/rule_scanner.go`.
    Named(Name),
}

/// An inclusive range of ports; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The range from `first` to `last`, both included; `None` when `last` is below `first`.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The range of one port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` lies in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

/// A port, or two with a colon between them: what [`Display`](fmt::Display) prints.
impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| {
            let plain = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| plain).ok_or(PortRangeError(()))
        };
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        Self::new(port(first)?, port(last)?).ok_or(PortRangeError(()))
    }
}

/// The text is no range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a port, as in `80`, nor a range of ports, as in `8000:8080`")]
pub struct PortRangeError(());

/// An ICMP type, with or without a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct IcmpMatch {
    /// The type; `None` is any.
    pub kind: Option<u8>,
    /// The code; `None` is any. Only with a type.
    pub code: Option<u8>,
}

impl IcmpMatch {
    /// Whether `message` has this type and code.
    #[must_use]
    pub fn matches(self, message: Icmp) -> bool {
        self.kind.is_none_or(|k| k == message.kind) && self.code.is_none_or(|c| c == message.code)
    }
}

/// HTTP conditions of a rule. Both lists must match; an empty list matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct HttpMatch {
    /// Alternatives, compared exactly; `*` is any method.
    pub methods: Vec<Name>,
    /// Alternatives.
    pub paths: Vec<PathMatch>,
}

/// A condition on the normalised path of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum PathMatch {
    /// The whole path.
    Exact(Name),
    /// Whole leading segments: `/foo` matches `/foo` and `/foo/bar`, not `/foobar`.
    Prefix(Name),
}
