//! What the backend says to nf_tables, in a form that text, JSON and netlink are made from.
//!
//! Only what the lowering needs is here: a table for each family, hash sets and verdict maps, interval sets that never
//! change, chains, and rules made of a few parts.

use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

/// A kind of packets that nf_tables has tables for. The tables of one dataplane have one name.
///
/// No two objects of a dataplane have the same name, and an object's name tells its table: those of [`Family::Arp`] begin with
/// `arp_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// ARP.
    Arp,
}

impl Family {
    #[cfg(feature = "apply")]
    pub(crate) const ALL: [Self; 2] = [Self::Inet, Self::Arp];

    /// The family of the table that an object of this name is in.
    pub(crate) fn of(object: &str) -> Self {
        if object.starts_with("arp_") { Self::Arp } else { Self::Inet }
    }

    /// What nft calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Arp => "arp",
        }
    }
}

/// One change of a table. Commands of one batch take effect together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Creates the table unless it is there.
    AddTable(Family),
    /// Removes the table and all that is in it. An error when there is none.
    DeleteTable(Family),
    /// Creates a named counter of packets and bytes.
    AddCounter(Name),
    /// Removes a counter that no rule uses any more.
    DeleteCounter(Name),
    /// Creates a set or a verdict map.
    AddSet(Set),
    /// Removes a set that no rule uses any more.
    DeleteSet(Name),
    /// Creates a chain; of one that is there, nothing changes.
    AddChain(Chain),
    /// Removes all rules of a chain.
    FlushChain(Name),
    /// Removes a chain and its rules. An error while something jumps to it.
    DeleteChain(Name),
    /// Appends a rule.
    AddRule(Rule),
    /// Adds elements to a set. One that is there already, with the same target, stays.
    AddElements(Elements),
    /// Removes elements from a set. An error when one is missing.
    DeleteElements(Elements),
}

impl Command {
    /// The family of the table that it changes.
    pub(crate) fn family(&self) -> Family {
        match self {
            Self::AddTable(family) | Self::DeleteTable(family) => *family,
            Self::AddCounter(name)
            | Self::DeleteCounter(name)
            | Self::DeleteSet(name)
            | Self::FlushChain(name)
            | Self::DeleteChain(name) => Family::of(name),
            Self::AddSet(set) => Family::of(&set.name),
            Self::AddChain(chain) => Family::of(&chain.name),
            Self::AddRule(rule) => Family::of(&rule.chain),
            Self::AddElements(change) | Self::DeleteElements(change) => Family::of(&change.set),
        }
    }
}

/// A named set, or a map to verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// Its name, unique among sets and maps of the table.
    pub(crate) name: Name,
    /// The fields of the key, in order; more than one is a concatenation.
    pub(crate) key: Vec<Field>,
    /// What an element carries.
    pub(crate) kind: SetKind,
    /// Shown to operators; at most 127 bytes.
    pub(crate) comment: Option<String>,
}

/// What an element of a set carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SetKind {
    /// Single values: membership only, a hash table.
    Values,
    /// Ranges that do not overlap: membership only. Such a set is filled once and never changed.
    Ranges,
    /// Single values, each with a [`Target`]: a hash table.
    Verdicts,
    /// Single values, each of which goes after so many seconds. The elements have their own time, not the set.
    Timed(u32),
    /// What [`Part::Budget`] keeps of each value, until it was not met for an hour.
    Budgets,
}

/// Most values that a set of [`SetKind::Budgets`] keeps. A value beyond them does not match.
pub(crate) const MOST_BUDGETS: u32 = 65_535;
/// Seconds for which a value is kept that is not met.
pub(crate) const BUDGET_SECONDS: u32 = 3_600;

/// Elements of one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elements {
    /// The set.
    pub(crate) set: Name,
    /// The fields of its key, as in [`Set::key`].
    pub(crate) key: Vec<Field>,
    /// What they carry.
    pub(crate) kind: SetKind,
    /// The elements.
    pub(crate) elements: Vec<Element>,
}

/// One element of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    /// A value for each field of the key.
    pub(crate) key: Vec<Value>,
    /// Where a match leads; `None` in sets.
    pub(crate) target: Option<Target>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Its name.
    pub(crate) name: Name,
    /// Where it is hooked in; `None` for a chain that is only jumped to. The policy of a hooked chain is accept.
    pub(crate) hook: Option<BaseHook>,
    /// Shown to operators; at most 127 bytes.
    pub(crate) comment: Option<String>,
}

/// A place in the kernel's way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BaseHook {
    /// The netfilter hook.
    pub(crate) point: HookPoint,
    /// Its priority: lower runs earlier.
    pub(crate) priority: i32,
}

/// A netfilter hook. The family `arp` has those of the host itself only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HookPoint {
    /// Everything that comes in, before routing.
    Prerouting,
    /// What is for the host itself.
    Input,
    /// What is routed through.
    Forward,
    /// What the host itself sends.
    Output,
}

/// A rule: its parts are evaluated in order until one does not match or leads away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The chain it stands in.
    pub(crate) chain: Name,
    /// Its parts.
    pub(crate) parts: Vec<Part>,
    /// Shown to operators; at most 127 bytes.
    pub(crate) comment: Option<String>,
}

/// One part of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Matches when the field has the value.
    Is(Field, Value),
    /// Matches when the fields, together, are in the named set.
    In(Vec<Field>, Name),
    /// Matches when they are not.
    NotIn(Vec<Field>, Name),
    /// Looks the fields up in the named verdict map; no match when they are not there.
    Dispatch(Vec<Field>, Name),
    /// Looks the field up in a map that belongs to the rule; no match when it is not there. Values may be ranges that
    /// do not overlap.
    Switch(Field, Vec<(Value, Target)>),
    /// Matches when the kernel does not take the destination for one of this kind.
    DestinationIsNot(AddressKind),
    /// Matches when connection tracking rewrites the destination of the packet's connection.
    IsTranslated,
    /// Matches when all these bits of the packet's mark are set.
    HasMark(u32),
    /// Sets these bits of the packet's mark and leaves the others.
    SetMark(u32),
    /// Clears these bits of the packet's mark and leaves the others.
    ClearMark(u32),
    /// Exempts the packet from connection tracking.
    NoTrack,
    /// Adds the packet to the named counter.
    Count(Name),
    /// Sends an event with this prefix (at most 127 bytes) to the nflog group.
    Log(u16, String),
    /// Counts the packet for the value that it has in this field, in a set of [`SetKind::Budgets`], and matches as long as
    /// that value was not met more often than so many times a second.
    Budget(Field, Name, u32),
    /// Matches the segment that begins a TCP connection: SYN without ACK.
    BeginsTcp,
    /// Answers a TCP segment with a reset, and drops it.
    Reset,
    /// Leads away.
    Go(Target),
}

/// Rules of a chain with their comments.
pub(crate) type Content = Vec<(Vec<Part>, Option<String>)>;

/// The kinds of destinations that this host takes for itself. All others may be forwarded, also an address without a route in
/// the look-up, because another table may have one (policy routing, VRF).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AddressKind {
    /// An address of this host.
    Local,
    /// A broadcast address of one of its networks.
    Broadcast,
    /// An anycast address of one of its networks.
    Anycast,
    /// A multicast address.
    Multicast,
}

impl AddressKind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Local, Self::Broadcast, Self::Anycast, Self::Multicast];
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// On to the next hook.
    Accept,
    /// Away.
    Drop,
    /// Back to where the last jump came from.
    Return,
    /// To a chain, and back after it.
    Jump(Name),
    /// To a chain, and then back to where the last jump came from.
    Goto(Name),
}

impl Target {
    /// The chain it leads to.
    #[must_use]
    pub(crate) const fn chain(&self) -> Option<&Name> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}

/// Something of a packet that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Field {
    /// IPv4 or IPv6.
    Family,
    /// Name of the interface it came in through.
    InputInterface,
    /// Name of the interface it goes out through.
    OutputInterface,
    /// Source address; only packets of this family match.
    Source(IpVersion),
    /// Destination address; only packets of this family match.
    Destination(IpVersion),
    /// The upper-layer protocol, behind any extension headers.
    Protocol,
    /// The first two bytes of the transport header. Stands behind a condition on the protocol.
    SourcePort,
    /// The third and fourth byte of the transport header. Stands behind a condition on the protocol.
    DestinationPort,
    /// The first byte of the transport header. Stands behind a condition on the protocol.
    IcmpType,
    /// The second byte of the transport header. Stands behind a condition on the protocol.
    IcmpCode,
    /// The hop limit of IPv6; only such packets match.
    HopLimit,
    /// Bytes behind the IPv6 header; only such packets match.
    PayloadLength,
    /// The address that a neighbour advertisement is about: what stands behind the first eight bytes of the ICMPv6 header.
    /// Stands behind a condition on the type.
    NeighbourTarget,
    /// Bytes of a hardware address in ARP.
    ArpHardwareLength,
    /// The IPv4 address that the sender of ARP says is its own. Where it is follows from the hardware addresses having six bytes.
    ArpSender,
    /// Source of the first packet of the connection that the packet belongs to, or is about; only connections of this
    /// family match.
    Initiator(IpVersion),
    /// Source of the answers of that connection: the other end, after destination NAT.
    Responder(IpVersion),
    /// What connection tracking says. Values are of [`ConnectionState`]; only in [`Part::Switch`].
    ConnectionState,
}

/// A value, or a range of values, of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    /// Of [`Field::Family`].
    Family(IpVersion),
    /// Of an interface field, at most 15 bytes.
    Interface(Name),
    /// Of an interface field: all names that begin so. Only in [`Part::Is`].
    InterfacePrefix(Name),
    /// Of an address field.
    Address(IpAddr),
    /// Of an address field, first and last.
    Addresses(IpAddr, IpAddr),
    /// Of the protocol, a port, an ICMP field, one of the IPv6 header, or a length; below 256 where the field has one byte.
    Number(u16),
    /// The same, first and last.
    Numbers(u16, u16),
    /// Of [`Field::ConnectionState`].
    State(ConnectionState),
}

/// What connection tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ConnectionState {
    /// Belongs to no connection, and is the first of one.
    New,
    /// Belongs to no connection and cannot start one.
    Invalid,
    /// Belongs to a connection that was seen in both directions.
    Established,
    /// Belongs to a connection through another, such as an ICMP error.
    Related,
}
