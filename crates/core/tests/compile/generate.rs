//! A small seeded generator of clusters, changes and packets, dense in collisions: few names, few addresses.

use core::net::IpAddr;

use portcullis_core::label::{Labels, NAME_KEY, Name, Scope};
use portcullis_core::model::*;
use portcullis_core::net::{Cidr, IpVersion};
use portcullis_core::packet::{HttpRequest, Packet, Protocol};
use portcullis_core::selector::{Expr, LabelRef};

pub(crate) struct Gen(u64);

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const TIERS: [&str; 4] = ["first", "default", "last", "missing"];
const PORTS: [u16; 5] = [22, 80, 81, 443, 8080];

impl Gen {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize].clone()
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }

    fn address(&mut self) -> IpAddr {
        if self.chance(70) {
            IpAddr::from([10, 0, self.below(2) as u8, self.below(6) as u8])
        } else {
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, self.below(2) as u16, self.below(4) as u16])
        }
    }

    fn net(&mut self, version: IpVersion) -> Cidr {
        loop {
            let address = self.address();
            if IpVersion::of(&address) != version {
                continue;
            }
            let prefix = match version {
                IpVersion::V4 => self.pick(&[0, 8, 23, 24, 29, 30, 31, 32]),
                IpVersion::V6 => self.pick(&[0, 16, 64, 112, 126, 128]),
            };
            return Cidr::new(address, prefix).unwrap();
        }
    }

    fn nets(&mut self) -> Vec<Cidr> {
        let version = if self.chance(70) { IpVersion::V4 } else { IpVersion::V6 };
        let mut nets = self.some(3, |g| g.net(version));
        if self.chance(10) {
            nets.push(self.net(IpVersion::V6));
        }
        nets
    }

    fn labels(&mut self) -> Labels {
        let mut labels = Labels::new();
        for key in ["app", "env", "uid"] {
            if self.chance(50) {
                labels.insert(key, self.pick(&["x", "y"]));
            }
        }
        labels
    }

    fn label_ref(&mut self) -> LabelRef {
        let scope = self.pick(&[Scope::Own, Scope::Own, Scope::Namespace, Scope::ServiceAccount]);
        let key = self.pick(&["app", "env", NAME_KEY]);
        LabelRef::new(scope, key)
    }

    fn expr(&mut self, depth: u64) -> Expr {
        let value = |g: &mut Self| Name::new(g.pick(&["x", "y", "a", "b", "s"]));
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0 => Expr::All,
            1 => Expr::Has(self.label_ref()),
            2 => Expr::Eq(self.label_ref(), value(self)),
            3 => Expr::Ne(self.label_ref(), value(self)),
            4 => Expr::In(self.label_ref(), vec!["a".into(), "x".into()]),
            5 => Expr::StartsWith(self.label_ref(), value(self)),
            6 => Expr::Not(Box::new(self.expr(depth - 1))),
            7 => Expr::Or(vec![self.expr(depth - 1), self.expr(depth - 1)]),
            _ => Expr::And(vec![self.expr(depth - 1), self.expr(depth - 1)]),
        }
    }

    fn selector(&mut self) -> EntitySelector {
        let kinds =
            self.pick(&[EntityKinds::WORKLOAD, EntityKinds::CALICO, EntityKinds::CALICO, EntityKinds::NODE]);
        EntitySelector { kinds, expr: self.expr(2) }
    }

    fn entity(&mut self) -> EntityMatch {
        let mut entity = EntityMatch::default();
        if self.chance(50) {
            entity.selector = Some(self.selector());
        }
        if self.chance(15) {
            entity.not_selector = Some(self.selector());
        }
        if self.chance(30) {
            entity.nets = self.nets();
        }
        if self.chance(15) {
            entity.not_nets = self.nets();
        }
        if self.chance(10) {
            entity.service = Some(self.service_id());
        }
        if self.chance(15) {
            entity.identity = Some(IdentityMatch { expr: self.expr(1) });
        }
        entity
    }

    fn service_id(&mut self) -> ServiceId {
        ServiceId { namespace: self.pick(&NAMESPACES).into(), name: self.pick(&["svc", "web"]).into() }
    }

    fn ports(&mut self) -> Vec<PortMatch> {
        self.some(2, |g| {
            if g.chance(30) {
                return PortMatch::Named(g.pick(&["http", "dns"]).into());
            }
            let (a, b) = (g.pick(&PORTS), g.pick(&PORTS));
            PortMatch::Range(PortRange::new(a.min(b), a.max(b)).unwrap())
        })
    }

    fn protocol(&mut self) -> Protocol {
        self.pick(&[
            Protocol::TCP,
            Protocol::TCP,
            Protocol::UDP,
            Protocol::SCTP,
            Protocol::ICMP,
            Protocol::ICMPV6,
            Protocol(47),
        ])
    }

    fn icmp(&mut self) -> IcmpMatch {
        let kind = self.chance(80).then(|| self.pick(&[0, 3, 8, 128, 135, 254]));
        IcmpMatch { kind, code: kind.and_then(|_| self.chance(40).then(|| self.pick(&[0, 1, 255]))) }
    }

    fn l4(&mut self) -> L4Match {
        let mut l4 = L4Match::default();
        if self.chance(70) {
            l4.protocol = Some(self.protocol());
        }
        if self.chance(10) {
            l4.not_protocol = Some(self.protocol());
        }
        if self.chance(10) {
            l4.icmp = Some(self.icmp());
        }
        if self.chance(10) {
            l4.not_icmp = Some(self.icmp());
        }
        if self.chance(60) {
            l4.destination_ports = self.ports();
        }
        if self.chance(15) {
            l4.not_destination_ports = self.ports();
        }
        if self.chance(15) {
            l4.source_ports = self.ports();
        }
        if self.chance(10) {
            l4.not_source_ports = self.ports();
        }
        l4
    }

    fn rule(&mut self) -> Rule {
        let mut rule =
            Rule::new(self.pick(&[Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log]));
        if self.chance(10) {
            rule.ip_version = Some(self.pick(&[IpVersion::V4, IpVersion::V6]));
        }
        rule.peers = self.some(2, Self::entity);
        if self.chance(20) {
            rule.local = self.entity();
        }
        rule.l4 = self.some(2, Self::l4);
        if rule.action == Action::Allow && self.chance(12) {
            let path = self.pick(&["/", "/x", "/x/y"]);
            rule.http = Some(HttpMatch {
                methods: self.some(1, |g| g.pick(&["GET", "PUT", "*"]).into()),
                paths: vec![PathMatch::Prefix(path.into())],
            });
        }
        rule
    }

    fn policy(&mut self) -> Policy {
        let kind = self.pick(&["NetworkPolicy", "GlobalNetworkPolicy"]);
        let name = self.pick(&["p", "p-q", "q", "r", "s", "t"]);
        let id = PolicyId::new(kind, Some(self.pick(&NAMESPACES).into()), name);
        let kinds = self.pick(&[EntityKinds::WORKLOAD, EntityKinds::WORKLOAD.union(EntityKinds::HOST)]);
        let subject = EntitySelector { kinds, expr: if self.chance(40) { Expr::All } else { self.expr(1) } };
        let mut policy = Policy::new(id, self.pick(&TIERS), subject);
        policy.order = self.chance(70).then(|| Order::from(self.below(3) as u32));
        policy.directions =
            self.pick(&[Directions::INGRESS, Directions::EGRESS, Directions::BOTH, Directions::BOTH]);
        policy.ingress = self.some(3, Self::rule);
        policy.egress = self.some(3, Self::rule);
        if self.chance(15) {
            policy.enforcement = Enforcement::Staged;
        }
        policy.placement = self.pick(&[
            Placement::Normal,
            Placement::Normal,
            Placement::Normal,
            Placement::ApplyOnForward,
            Placement::PreDnat,
            Placement::Untracked,
        ]);
        policy
    }

    fn endpoint(&mut self) -> Endpoint {
        let id = if self.chance(80) {
            EndpointId::workload(self.pick(&NAMESPACES), self.pick(&["one", "two", "three"]))
        } else {
            EndpointId::host(self.pick(&["h1", "h2"]))
        };
        let mut endpoint = Endpoint::new(id);
        endpoint.labels = self.labels();
        endpoint.addresses = self.some(2, Self::address);
        endpoint.service_account = self.chance(50).then(|| Name::new("s"));
        endpoint.node = Some(self.pick(&["n1", "n2"]).into());
        endpoint.profiles = self.some(2, |g| g.pick(&["open", "shut", "gone"]).into());
        endpoint.ports = self.some(2, |g| NamedPort {
            name: g.pick(&["http", "dns"]).into(),
            protocol: g.pick(&[Protocol::TCP, Protocol::UDP]),
            port: g.pick(&PORTS),
        });
        endpoint
    }

    fn tier(&mut self) -> Update {
        Update::Tier(Tier {
            name: self.pick(&TIERS[..3]).into(),
            order: self.chance(80).then(|| Order::from(self.below(3) as u32)),
            default_action: self.pick(&[DefaultAction::Deny, DefaultAction::Pass]),
        })
    }

    fn profile(&mut self) -> Update {
        Update::Profile(Profile {
            name: self.pick(&["open", "shut"]).into(),
            ingress: self.some(2, Self::rule),
            egress: self.some(2, Self::rule),
            labels: self.labels(),
            origin: self.pick(&[ProfileOrigin::Implicit, ProfileOrigin::Declared]),
        })
    }

    fn service(&mut self) -> Update {
        Update::Service(ServiceEndpoints {
            id: self.service_id(),
            backends: self.some(3, |g| ServiceBackend {
                address: g.address(),
                port: g.chance(80).then(|| (g.pick(&[Protocol::TCP, Protocol::UDP]), g.pick(&PORTS))),
            }),
        })
    }

    fn network_set(&mut self) -> Update {
        let namespace = self.chance(50).then(|| Name::new(self.pick(&NAMESPACES)));
        Update::NetworkSet(NetworkSet {
            id: NetworkSetId { namespace, name: self.pick(&["n1", "n2"]).into() },
            labels: self.labels(),
            nets: self.nets(),
        })
    }

    fn other(&mut self) -> Update {
        match self.below(7) {
            0 => self.tier(),
            1 => self.profile(),
            2 => self.service(),
            3 => self.network_set(),
            4 => Update::Namespace(Namespace { name: self.pick(&NAMESPACES).into(), labels: self.labels() }),
            5 => Update::ServiceAccount(ServiceAccount {
                namespace: self.pick(&NAMESPACES).into(),
                name: "s".into(),
                labels: self.labels(),
            }),
            _ => Update::Node(Node {
                name: self.pick(&["n1", "n2"]).into(),
                labels: self.labels(),
                addresses: self.some(2, Self::address),
            }),
        }
    }

    pub(crate) fn cluster(&mut self) -> Vec<Update> {
        let mut updates = Vec::new();
        for _ in 0..self.below(8) {
            updates.push(Update::Policy(self.policy()));
        }
        for _ in 0..self.below(8) {
            updates.push(Update::Endpoint(self.endpoint()));
        }
        for _ in 0..self.below(10) {
            updates.push(self.other());
        }
        updates
    }

    /// A change to an existing cluster: additions, changes, removals, half of them of what is there.
    pub(crate) fn change(&mut self, cluster: &Cluster) -> Update {
        match self.below(10) {
            0 | 1 => Update::Policy(self.policy()),
            2 | 3 => Update::Endpoint(self.endpoint()),
            4 | 5 => self.other(),
            6 => match cluster.policies().values().nth(self.below(6) as usize) {
                Some(policy) if self.chance(50) => {
                    let mut policy = policy.clone();
                    policy.tier = self.pick(&TIERS).into();
                    Update::Policy(policy)
                }
                Some(policy) => Update::RemovePolicy(policy.id.clone()),
                None => self.other(),
            },
            7 => match cluster.endpoints().values().nth(self.below(6) as usize) {
                Some(endpoint) if self.chance(50) => {
                    let mut endpoint = endpoint.clone();
                    endpoint.labels = self.labels();
                    Update::Endpoint(endpoint)
                }
                Some(endpoint) => Update::RemoveEndpoint(endpoint.id.clone()),
                None => self.other(),
            },
            8 => match self.below(4) {
                0 => Update::RemoveTier(self.pick(&TIERS).into()),
                1 => Update::RemoveProfile(self.pick(&["open", "shut"]).into()),
                2 => Update::RemoveService(self.service_id()),
                _ => Update::RemoveNamespace(self.pick(&NAMESPACES).into()),
            },
            _ => match (cluster.network_sets().keys().next(), cluster.nodes().keys().next()) {
                (Some(id), _) if self.chance(50) => Update::RemoveNetworkSet(id.clone()),
                (_, Some(name)) => Update::RemoveNode(name.clone()),
                _ => Update::RemoveServiceAccount(self.pick(&NAMESPACES).into(), "s".into()),
            },
        }
    }

    pub(crate) fn packet(&mut self) -> Packet {
        let source = self.address();
        let destination = loop {
            let address = self.address();
            if IpVersion::of(&address) == IpVersion::of(&source) {
                break address;
            }
        };
        let near = |g: &mut Self| g.pick(&PORTS).wrapping_add(g.pick(&[0, 0, 0, 1, u16::MAX]));
        let mut packet = Packet::new(source, destination, self.protocol());
        packet.source_port = near(self);
        packet.destination_port = near(self);
        if self.chance(80) {
            packet = packet.with_icmp(self.pick(&[0, 3, 8, 128, 135, 254]), self.pick(&[0, 1, 255]));
        }
        if self.chance(25) {
            let text = ["spiffe://t/ns/a/sa/s", "spiffe://t/ns/b/sa/x", "", "junk"];
            packet.principal = Some(self.pick(&text).into());
        }
        if self.chance(25) {
            let path = self.pick(&["/", "/x/y", "/z", "/%"]);
            packet.http = Some(HttpRequest { method: self.pick(&["GET", "PUT"]).into(), path: path.into() });
        }
        packet
    }
}
