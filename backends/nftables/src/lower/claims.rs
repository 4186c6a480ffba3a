//! What workloads tell their neighbours about themselves: ARP and neighbour advertisements name addresses of their own only.
//!
//! The node answers neighbours as it likes, for others, too.

use core::net::{IpAddr, Ipv4Addr};

use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{BaseHook, Content, Field, HookPoint, Part, Target, Value};
use crate::lower::base_chains::{self, BaseChain, FORGED};
use crate::lower::base_names::BaseNames;
use crate::lower::discovery;
use crate::options::Options;

/// The chain for discovery that workloads send to this host.
const NEIGHBOURS: &str = "workload_neighbours";
/// The chain that compares the targets of advertisements.
const ADVERTISEMENTS: &str = "advertisements";
/// The hooked chains for ARP.
pub(crate) const ARP_INPUT: &str = "arp_input";
pub(crate) const ARP_OUTPUT: &str = "arp_output";
/// The chain that compares senders.
const ARP_CLAIMS: &str = "arp_claims";
/// Counts ARP of addresses that are not their sender's.
const ARP_FORGED: &str = "arp_forged";
/// Counts ARP at interfaces that nothing passes.
const ARP_UNKNOWN: &str = "arp_unknown";
/// The counters of the table for ARP.
pub(crate) const ARP_COUNTERS: [&str; 2] = [ARP_FORGED, ARP_UNKNOWN];

/// A rule with its comment.
type Line = (Vec<Part>, Option<String>);

/// The rule that brings discovery of workloads to what accepts it.
pub(crate) fn of_workloads(options: &Options, names: &BaseNames) -> Line {
    let chain = if options.shared.check_neighbour_claims { NEIGHBOURS } else { discovery::IN };
    discovery::any_source(names.name(chain))
}

/// The chains for neighbour advertisements, which are none without the check.
pub(crate) fn advertisements(
    options: &Options,
    names: &BaseNames,
    any_address: bool,
) -> Vec<(Name, Content)> {
    if !options.shared.check_neighbour_claims {
        return Vec::new();
    }
    let to = |chain| Part::Go(Target::Goto(names.name(chain)));
    let is_advertisement = Part::Is(Field::IcmpType, Value::Number(ADVERTISEMENT));
    let honest = |(set, key)| (vec![Part::In(key, set), to(discovery::IN)], None);
    let mut rules = vec![honest(names.neighbour_targets())];
    rules.extend(any_address.then(|| honest(names.any_address())));
    // Nobody lists link-local addresses. The kernel of a workload answers for one from that.
    let of_link = [Field::NeighbourTarget, Field::Source(IpVersion::V6)];
    let of_link = of_link.map(|field| Part::Is(field, discovery::span(0xfe80, 0xfebf)));
    rules.push((of_link.into_iter().chain([to(discovery::IN)]).collect(), None));
    rules.push((vec![to(FORGED)], None));
    vec![
        (
            names.name(NEIGHBOURS),
            vec![(vec![is_advertisement, to(ADVERTISEMENTS)], None), (vec![to(discovery::IN)], None)],
        ),
        (names.name(ADVERTISEMENTS), rules),
    ]
}

/// The chains of the table for ARP, which are none without the check.
pub(crate) fn arp(options: &Options, names: &BaseNames) -> Vec<(Name, BaseChain)> {
    if !options.shared.check_neighbour_claims {
        return Vec::new();
    }
    let to = |chain| Part::Go(Target::Goto(names.name(chain)));
    let rule = |parts: Vec<Part>| (parts, None);
    let at = |(set, _), field| Part::In(vec![field], set);
    let prefix = |field, prefix: &portcullis_core::backend::Interface| {
        Part::Is(field, Value::InterfacePrefix(prefix.name().into()))
    };
    let (input, output) = (Field::InputInterface, Field::OutputInterface);
    let mut comes_in = vec![
        rule(vec![at(names.arp_closed(), input), to(ARP_UNKNOWN)]),
        rule(vec![at(names.arp_workloads(), input), to(ARP_CLAIMS)]),
    ];
    let mut goes_out = vec![rule(vec![at(names.arp_closed(), output), to(ARP_UNKNOWN)])];
    for interfaces in &options.shared.workload_interfaces {
        comes_in.push(rule(vec![prefix(input, interfaces), to(ARP_UNKNOWN)]));
        let unbound = Part::NotIn(vec![output], names.arp_workloads().0);
        goes_out.push(rule(vec![prefix(output, interfaces), unbound, to(ARP_UNKNOWN)]));
    }
    let (sources, key) = names.arp_sources();
    let (any, any_key) = names.arp_any_address();
    let readable = Part::Is(Field::ArpHardwareLength, Value::Number(ETHERNET));
    // A sender without an address claims none; it looks whether another one has the address that it wants (RFC 5227).
    let none = Part::Is(Field::ArpSender, Value::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let claims = vec![
        rule(vec![readable.clone(), Part::In(key, sources), Part::Go(Target::Return)]),
        rule(vec![readable, none, Part::Go(Target::Return)]),
        rule(vec![Part::In(any_key, any), Part::Go(Target::Return)]),
        rule(vec![to(ARP_FORGED)]),
    ];
    let drops = |counter: &str, comment: &str| {
        let parts = vec![Part::Count(counter.into()), Part::Go(Target::Drop)];
        (names.name(counter), BaseChain { hook: None, rules: vec![(parts, Some(comment.into()))] })
    };
    let hooked = |name: &str, point, rules| {
        (name.into(), BaseChain { hook: Some(BaseHook { point, priority: base_chains::FILTER }), rules })
    };
    vec![
        hooked(ARP_INPUT, HookPoint::Input, comes_in),
        hooked(ARP_OUTPUT, HookPoint::Output, goes_out),
        (names.name(ARP_CLAIMS), BaseChain { hook: None, rules: claims }),
        drops(ARP_FORGED, "deny: ARP of an address that is not its sender's"),
        drops(ARP_UNKNOWN, "deny: ARP at an interface without a workload"),
    ]
}

/// The type of neighbour advertisements.
const ADVERTISEMENT: u16 = 136;
/// Bytes of a hardware address of Ethernet.
const ETHERNET: u16 = 6;
