//! Everything but policies.

use portcullis::label::{Labels, Name};
use portcullis::model::*;
use portcullis::net::IpVersion;
use portcullis::packet::Protocol;
use portcullis::settings::{Failsafe, Failsafes, NodeSettings, Settings, Tunnel, WorkloadToHost};

use super::{Generator, NAMESPACES, PORTS, TIERS};

impl Generator {
    pub(super) fn other(&mut self) -> Update {
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

    pub(super) fn endpoint(&mut self) -> Endpoint {
        let id = if self.chance(80) {
            EndpointId::workload(self.pick(&NAMESPACES), self.pick(&["one", "two", "three"]))
        } else {
            EndpointId::host(self.pick(&["h1", "h2", "h3"]))
        };
        let mut endpoint = Endpoint::new(id);
        endpoint.labels = self.labels();
        endpoint.addresses = self.some(2, |g| {
            let address = g.address();
            g.mapped(address)
        });
        endpoint.service_account = self.chance(50).then(|| Name::new("s"));
        endpoint.node = Some(self.pick(&["n1", "n2"]).into());
        if endpoint.id.kind == EndpointKind::Host {
            endpoint.interface = self.pick(&[None, Some("eth0"), Some(WILDCARD_INTERFACE)]).map(Name::new);
        }
        endpoint.profiles = self.some(2, |g| g.pick(&["open", "shut", "gone"]).into());
        endpoint.ports = self.some(2, |g| NamedPort {
            name: g.pick(&["http", "dns"]).into(),
            protocol: g.pick(&[Protocol::TCP, Protocol::UDP]),
            port: g.pick(&PORTS),
        });
        endpoint
    }

    /// Settings of all nodes, and of none, one or both of the two nodes.
    pub fn settings(&mut self) -> Settings {
        let mut settings = Settings { every_node: self.node_settings(), ..Settings::default() };
        for node in ["n1", "n2"] {
            if self.chance(50) {
                settings.nodes.insert(node.into(), self.node_settings());
            }
        }
        settings
    }

    fn node_settings(&mut self) -> NodeSettings {
        let action = [WorkloadToHost::Accept, WorkloadToHost::Drop, WorkloadToHost::HostPolicy];
        let failsafes = match self.below(4) {
            0 => Failsafes::none(),
            1 => Failsafes::default(),
            _ => Failsafes { inbound: self.some(3, Self::failsafe), outbound: self.some(3, Self::failsafe) },
        };
        let tunnels = match self.below(4) {
            0 => Tunnel::DEFAULT.to_vec(),
            _ => self.some(2, Self::tunnel),
        };
        NodeSettings { failsafes, workload_to_host: self.pick(&action), tunnels }
    }

    fn tunnel(&mut self) -> Tunnel {
        if self.chance(50) {
            Tunnel::Udp(self.pick(&PORTS))
        } else {
            Tunnel::Protocol(self.pick(&[Protocol(4), Protocol(47), Protocol::SCTP]))
        }
    }

    fn failsafe(&mut self) -> Failsafe {
        let version = self.pick(&[IpVersion::V4, IpVersion::V6]);
        Failsafe {
            protocol: self.pick(&[Protocol::TCP, Protocol::UDP, Protocol::SCTP]),
            port: self.pick(&PORTS),
            net: self.chance(50).then(|| self.net(version)),
        }
    }

    pub(super) fn service(&mut self) -> Update {
        Update::Service(ServiceEndpoints {
            id: self.service_id(),
            backends: self.some(3, |g| ServiceBackend {
                address: g.address(),
                port: g.chance(80).then(|| (g.pick(&[Protocol::TCP, Protocol::UDP]), g.pick(&PORTS))),
            }),
        })
    }

    pub(super) fn service_id(&mut self) -> ServiceId {
        ServiceId { namespace: self.pick(&NAMESPACES).into(), name: self.pick(&["svc", "web"]).into() }
    }

    pub(super) fn network_set(&mut self) -> Update {
        let namespace = self.chance(50).then(|| Name::new(self.pick(&NAMESPACES)));
        Update::NetworkSet(NetworkSet {
            id: NetworkSetId { namespace, name: self.pick(&["n1", "n2"]).into() },
            labels: self.labels(),
            nets: self.nets(),
        })
    }

    pub(super) fn tier(&mut self) -> Update {
        Update::Tier(Tier {
            name: self.pick(&TIERS[..3]).into(),
            order: self.chance(80).then(|| Order::from(self.below(3) as u32)),
            default_action: self.pick(&[DefaultAction::Deny, DefaultAction::Pass]),
        })
    }

    pub(super) fn profile(&mut self) -> Update {
        Update::Profile(Profile {
            name: self.pick(&["open", "shut"]).into(),
            ingress: self.some(2, Self::rule),
            egress: self.some(2, Self::rule),
            labels: self.labels(),
            origin: self.pick(&[ProfileOrigin::Implicit, ProfileOrigin::Declared]),
        })
    }

    pub(super) fn labels(&mut self) -> Labels {
        let mut labels = Labels::new();
        for key in ["app", "env", "uid"] {
            if self.chance(50) {
                labels.insert(key, self.pick(&["x", "y"]));
            }
        }
        labels
    }
}
