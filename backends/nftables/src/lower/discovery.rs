//! Neighbour and listener discovery of IPv6, which no policy is asked about (decision D23). Nothing that is forwarded comes here.

use core::net::{IpAddr, Ipv6Addr};

use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;
use portcullis_core::packet::Protocol;
use portcullis_core::path::discovery::{
    LISTENER_BYTES, LISTENER_HOPS, LISTENER_TYPES, NEIGHBOUR_BYTES, NEIGHBOUR_HOPS, NEIGHBOUR_TYPES,
};

use crate::command::{AddressKind, Content, Field, Part, Target, Value};
use crate::lower::base_names::BaseNames;

/// The chain that accepts discovery for this host.
pub(crate) const IN: &str = "neighbours_in";
/// The chain that accepts discovery of this host.
pub(crate) const OUT: &str = "neighbours_out";
/// The chain that accepts messages between neighbours on the link and to this host.
const NEIGHBOURS: &str = "neighbours";
/// The chain that accepts messages about listeners on the link.
const LISTENERS: &str = "listeners";

/// A rule with its comment.
type Line = (Vec<Part>, Option<String>);

/// The chains: what passes is accepted, the rest comes back.
pub(crate) fn chains(names: &BaseNames) -> Vec<(Name, Content)> {
    let to = |chain| Target::Goto(names.name(chain));
    let is_group = || Part::Is(Field::Destination(IpVersion::V6), span(0xff02, 0xff02));
    let accept = |parts: Vec<Part>| (parts.into_iter().chain([Part::Go(Target::Accept)]).collect(), None);
    let neighbours = vec![
        accept(vec![is_group()]),
        accept(vec![Part::Is(Field::Destination(IpVersion::V6), span(0xfe80, 0xfebf))]),
        (vec![Part::DestinationIsNot(AddressKind::Local), Part::Go(Target::Return)], None),
        accept(Vec::new()),
    ];
    let listeners = link_addresses()
        .map(|source| accept(vec![is_group(), Part::Is(Field::Source(IpVersion::V6), source)]));
    vec![
        (names.name(IN), kinds(&to(NEIGHBOURS), &to(LISTENERS))),
        // Whom this host asks and answers is a neighbour; nobody else sends here.
        (names.name(OUT), kinds(&Target::Accept, &to(LISTENERS))),
        (names.name(NEIGHBOURS), neighbours),
        (names.name(LISTENERS), listeners.to_vec()),
    ]
}

/// The rule that brings ICMPv6 to `chain`.
pub(crate) fn any_source(chain: Name) -> Line {
    (message(vec![Part::Go(Target::Jump(chain))]), None)
}

/// The rules that bring ICMPv6 from addresses of the link to [`IN`].
pub(crate) fn link_sources(names: &BaseNames) -> Content {
    let rule = |source| {
        let source = Part::Is(Field::Source(IpVersion::V6), source);
        (message(vec![source, Part::Go(Target::Jump(names.name(IN)))]), None)
    };
    link_addresses().map(rule).to_vec()
}

fn message(rest: Vec<Part>) -> Vec<Part> {
    let version = Part::Is(Field::Family, Value::Family(IpVersion::V6));
    let protocol = Part::Is(Field::Protocol, Value::Number(Protocol::ICMPV6.0.into()));
    [version, protocol].into_iter().chain(rest).collect()
}

/// One rule for each type of message, with what such a message has.
fn kinds(neighbours: &Target, listeners: &Target) -> Content {
    let rules = |types: &[u8], hops: u8, bytes: u16, to: &Target| -> Content {
        let rule = |kind: &u8| {
            let parts = vec![
                Part::Is(Field::IcmpType, Value::Number((*kind).into())),
                Part::Is(Field::IcmpCode, Value::Number(0)),
                Part::Is(Field::HopLimit, Value::Number(hops.into())),
                Part::Is(Field::PayloadLength, Value::Numbers(0, bytes.saturating_sub(IPV6_HEADER))),
                Part::Go(to.clone()),
            ];
            (message(parts), None)
        };
        types.iter().map(rule).collect()
    };
    let mut all = rules(&NEIGHBOUR_TYPES, NEIGHBOUR_HOPS, NEIGHBOUR_BYTES, neighbours);
    all.extend(rules(&LISTENER_TYPES, LISTENER_HOPS, LISTENER_BYTES, listeners));
    all
}

/// Bytes of the header of IPv6, which its length leaves out.
const IPV6_HEADER: u16 = 40;

/// Addresses of the link, and that of who has none yet.
pub(crate) fn link_addresses() -> [Value; 2] {
    [span(0xfe80, 0xfebf), Value::Address(IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
}

/// All addresses whose first 16 bits are in a range.
pub(crate) fn span(first: u16, last: u16) -> Value {
    let low = Ipv6Addr::from(u128::from(first) << 112);
    let high = Ipv6Addr::from(u128::from(last) << 112 | u128::MAX >> 16);
    Value::Addresses(low.into(), high.into())
}
