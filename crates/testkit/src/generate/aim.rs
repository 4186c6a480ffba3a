//! Packets that hit a chosen rule, and packets that miss it in one field.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis::model::*;
use portcullis::net::{Cidr, IpVersion};
use portcullis::packet::{HttpRequest, Icmp, Packet, Protocol};
use portcullis::reference::{Miss, Reference, RuleOutcome, Step};
use portcullis::settings::{Failsafes, Settings};
use portcullis::verdict::{Direction, Hook, RuleRef};

use super::{Generator, NAMESPACES};

/// A packet at a hook of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The hook.
    pub hook: Hook,
    /// The packet.
    pub packet: Packet,
}

/// A field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the fields of `Packet`, by name")]
pub enum Field {
    Source,
    Destination,
    Protocol,
    SourcePort,
    DestinationPort,
    IcmpType,
    IcmpCode,
    Principal,
    HttpMethod,
    HttpPath,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 10] = [
        Self::Source,
        Self::Destination,
        Self::Protocol,
        Self::SourcePort,
        Self::DestinationPort,
        Self::IcmpType,
        Self::IcmpCode,
        Self::Principal,
        Self::HttpMethod,
        Self::HttpPath,
    ];
}

/// How many packets are tried before a rule counts as one that nothing hits.
const TRIES: usize = 300;

impl Generator {
    /// A packet that `rule` matches when it stands alone, at a hook where its policy applies. `None` when none was
    /// found: the rule contradicts itself, or nothing in the cluster is selected.
    pub fn hit(&mut self, cluster: &Cluster, rule: &RuleRef) -> Option<Aim> {
        let range = Range::new(cluster, rule)?;
        let settings = settings();
        let reference = Reference::new(&range.alone, &settings);
        let mut stands: Vec<(EndpointId, Hook)> = cluster
            .endpoints()
            .keys()
            .flat_map(|id| Hook::ALL.map(|hook| (id.clone(), hook)))
            .filter(|(_, hook)| hook.direction() == rule.direction)
            .filter(|(id, hook)| outcome(&reference, id, *hook, &plain()).is_some())
            .collect();
        self.shuffle(&mut stands);
        for (endpoint, hook) in stands {
            let mut packet = self.packet();
            for _ in 0..TRIES {
                match outcome(&reference, &endpoint, hook, &packet) {
                    Some(RuleOutcome::Missed(miss)) => self.correct(&mut packet, miss, &range),
                    Some(RuleOutcome::Matched | RuleOutcome::NeedsHttp) => {
                        return Some(Aim { endpoint, hook, packet });
                    }
                    // Exempt from policy.
                    None => packet = self.packet(),
                }
            }
        }
        None
    }

    /// Packets that differ from `hit` in one field each and that `rule` does not match; for each field the values
    /// next to what the rule names, as far as they miss.
    #[must_use]
    pub fn near_misses(&self, cluster: &Cluster, rule: &RuleRef, hit: &Aim) -> Vec<(Field, Packet)> {
        let Some(range) = Range::new(cluster, rule) else { return Vec::new() };
        let settings = settings();
        let reference = Reference::new(&range.alone, &settings);
        let mut misses: Vec<(Field, Packet)> = Vec::new();
        for field in Field::ALL {
            for packet in range.variants(field, &hit.packet) {
                let outcome = outcome(&reference, &hit.endpoint, hit.hook, &packet);
                if matches!(outcome, Some(RuleOutcome::Missed(_))) && misses.iter().all(|(_, p)| *p != packet)
                {
                    misses.push((field, packet));
                }
            }
        }
        misses
    }

    /// Changes the field that made the packet miss.
    fn correct(&mut self, packet: &mut Packet, miss: Miss, range: &Range) {
        let fields: &[Field] = match miss {
            Miss::IpVersion => &[],
            Miss::Source => &[Field::Source],
            Miss::Destination => &[Field::Destination],
            Miss::Identity => &[Field::Principal],
            Miss::Protocol => &[Field::Protocol],
            Miss::Icmp => &[Field::IcmpType, Field::IcmpCode, Field::Protocol],
            Miss::SourcePort => &[Field::SourcePort, Field::Protocol],
            // A named port belongs to an address and a protocol.
            Miss::DestinationPort => &[Field::DestinationPort, Field::Destination, Field::Protocol],
            Miss::Http => &[Field::HttpPath, Field::HttpMethod],
        };
        // Now and then the other family, or a fresh start, which also leads out of dead ends.
        if fields.is_empty() || self.chance(10) {
            let version = self.pick(&[IpVersion::V4, IpVersion::V6]);
            let addresses: Vec<IpAddr> =
                range.addresses.iter().copied().filter(|a| IpVersion::of(a) == version).collect();
            packet.source = self.pick(&addresses);
            packet.destination = self.pick(&addresses);
            return;
        }
        let field = self.pick(fields);
        let variants = range.variants(field, packet);
        if !variants.is_empty() {
            *packet = self.pick(&variants);
        }
    }
}

fn settings() -> Settings {
    Settings::default().with_failsafes(&Failsafes::none()).with_tunnels(&[])
}

fn plain() -> Packet {
    Packet::new(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into(), Protocol::TCP)
}

/// What became of the only rule of the only policy; `None` where it was not asked.
fn outcome(
    reference: &Reference<'_>,
    endpoint: &EndpointId,
    hook: Hook,
    packet: &Packet,
) -> Option<RuleOutcome> {
    let (_, trace) = reference.explain(endpoint, hook, packet);
    let mut steps = trace.steps.iter().skip_while(|step| !matches!(step, Step::Policy { .. }));
    steps.find_map(|step| match step {
        Step::Rule { outcome, .. } => Some(Some(*outcome)),
        Step::TierEnd { .. } => Some(None),
        _ => None,
    })?
}

/// A cluster with one rule in it, and the values around what it and the objects name.
struct Range {
    alone: Cluster,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
    protocols: Vec<Protocol>,
    icmp: Vec<u8>,
    principals: Vec<String>,
    methods: Vec<String>,
    paths: Vec<String>,
}

impl Range {
    fn new(cluster: &Cluster, rule_ref: &RuleRef) -> Option<Self> {
        let mut policy = cluster.policies().get(&rule_ref.policy)?.clone();
        let (keep, drop) = match rule_ref.direction {
            Direction::Ingress => (&mut policy.ingress, &mut policy.egress),
            Direction::Egress => (&mut policy.egress, &mut policy.ingress),
        };
        let rule = keep.get(rule_ref.index)?.clone();
        *keep = vec![rule.clone()];
        drop.clear();
        policy.enforcement = Enforcement::Enforced;
        let others = cluster.updates().filter(|update| !matches!(update, Update::Policy(_)));
        let alone: Cluster = others.chain([Update::Policy(policy)]).collect();
        let mut range = Self {
            addresses: addresses(cluster, &rule),
            ports: vec![0, 1, u16::MAX],
            protocols: [1, 6, 17, 47, 58, 132].map(Protocol).to_vec(),
            icmp: vec![0, u8::MAX],
            principals: Vec::new(),
            methods: ["GET", "PUT", "POST"].map(String::from).to_vec(),
            paths: ["/", "/none", "/%"].map(String::from).to_vec(),
            alone,
        };
        range.add_ports(cluster, &rule);
        for account in ["s", "x"] {
            range.principals.extend(NAMESPACES.map(|ns| format!("spiffe://t/ns/{ns}/sa/{account}")));
        }
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = path;
            range.paths.extend([path.to_string(), format!("{path}/more"), format!("{path}more")]);
        }
        Some(range)
    }

    fn add_ports(&mut self, cluster: &Cluster, rule: &Rule) {
        for l4 in &rule.l4 {
            for list in
                [&l4.source_ports, &l4.not_source_ports, &l4.destination_ports, &l4.not_destination_ports]
            {
                for port in list {
                    if let PortMatch::Range(range) = port {
                        let (first, last) = (range.first(), range.last());
                        self.ports.extend([first.saturating_sub(1), first, last, last.saturating_add(1)]);
                    }
                }
            }
            for message in [l4.icmp, l4.not_icmp].into_iter().flatten() {
                for value in [message.kind, message.code].into_iter().flatten() {
                    self.icmp.extend([value.saturating_sub(1), value, value.saturating_add(1)]);
                }
            }
        }
        self.ports.extend(cluster.endpoints().values().flat_map(|e| &e.ports).map(|port| port.port));
        let backends = cluster.services().values().flat_map(|service| &service.backends);
        self.ports.extend(backends.filter_map(|backend| Some(backend.port?.1)));
        self.ports.sort_unstable();
        self.ports.dedup();
    }

    /// `packet` with other values in `field`.
    fn variants(&self, field: Field, packet: &Packet) -> Vec<Packet> {
        let with = |change: &dyn Fn(&mut Packet)| {
            let mut packet = packet.clone();
            change(&mut packet);
            packet
        };
        let icmp = packet.icmp.unwrap_or(Icmp { kind: 0, code: 0 });
        let http = packet.http.clone().unwrap_or(HttpRequest { method: "GET".into(), path: "/".into() });
        let same_family = self.addresses.iter().filter(|a| IpVersion::of(a) == packet.version());
        let all: Vec<Packet> = match field {
            Field::Source => same_family.map(|a| with(&|p| p.source = *a)).collect(),
            Field::Destination => same_family.map(|a| with(&|p| p.destination = *a)).collect(),
            Field::Protocol => self.protocols.iter().map(|v| with(&|p| p.protocol = *v)).collect(),
            Field::SourcePort => self.ports.iter().map(|v| with(&|p| p.source_port = *v)).collect(),
            Field::DestinationPort => self.ports.iter().map(|v| with(&|p| p.destination_port = *v)).collect(),
            Field::IcmpType => {
                let message = |kind| Some(Icmp { kind, ..icmp });
                self.icmp.iter().map(|v| with(&|p| p.icmp = message(*v))).collect()
            }
            Field::IcmpCode => {
                let message = |code| Some(Icmp { code, ..icmp });
                self.icmp.iter().map(|v| with(&|p| p.icmp = message(*v))).collect()
            }
            Field::Principal => {
                let present =
                    self.principals.iter().map(|v| with(&|p| p.principal = Some(v.as_str().into())));
                present.chain([with(&|p| p.principal = None)]).collect()
            }
            Field::HttpMethod => {
                let request = |v: &str| Some(HttpRequest { method: v.into(), ..http.clone() });
                self.methods.iter().map(|v| with(&|p| p.http = request(v))).collect()
            }
            Field::HttpPath => {
                let request = |v: &str| Some(HttpRequest { path: v.into(), ..http.clone() });
                self.paths.iter().map(|v| with(&|p| p.http = request(v))).collect()
            }
        };
        all.into_iter().filter(|variant| variant != packet).collect()
    }
}

/// The addresses of all objects, the edges of all nets and the addresses just outside them.
fn addresses(cluster: &Cluster, rule: &Rule) -> Vec<IpAddr> {
    let mut all = vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])];
    all.extend(cluster.endpoints().values().flat_map(|endpoint| &endpoint.addresses));
    all.extend(cluster.nodes().values().flat_map(|node| &node.addresses));
    all.extend(cluster.services().values().flat_map(|s| s.backends.iter().map(|b| &b.address)));
    let mut nets: Vec<Cidr> = cluster.network_sets().values().flat_map(|set| set.nets.clone()).collect();
    for entity in rule.peers.iter().chain([&rule.local]) {
        nets.extend(entity.nets.iter().chain(&entity.not_nets));
    }
    for net in nets {
        let (first, last) = (net.address(), net.last_address());
        all.extend([first, last, step(first, false), step(last, true)]);
    }
    let mut all: Vec<IpAddr> = all.into_iter().map(portcullis::net::canonical).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The address after, or before; itself at the end.
fn step(address: IpAddr, up: bool) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            Ipv4Addr::from_bits(if up { bits.saturating_add(1) } else { bits.saturating_sub(1) }).into()
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            Ipv6Addr::from_bits(if up { bits.saturating_add(1) } else { bits.saturating_sub(1) }).into()
        }
    }
}
