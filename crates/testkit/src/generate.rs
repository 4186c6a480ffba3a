//! A seeded generator of clusters, changes and packets, dense in collisions: few names, few addresses, few ports.
//!
//! Random packets rarely come near a rule, so [`Generator::hit`] looks for a packet that a chosen rule matches, and
//! [`Generator::near_misses`] for those that differ from it in one field and are not matched.

mod aim;
mod objects;
mod rules;

use core::net::IpAddr;

use portcullis::model::*;
use portcullis::net::{Cidr, IpVersion};
use portcullis::packet::{HttpRequest, Packet};

pub use aim::{Aim, Field};

/// The generator. Equal seeds give equal results.
#[derive(Clone, Debug)]
pub struct Generator(u64);

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const TIERS: [&str; 4] = ["first", "default", "last", "missing"];
const PORTS: [u16; 5] = [22, 80, 81, 443, 8080];

impl Generator {
    /// A generator for `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One object: a policy, an endpoint or anything else, equally often.
    pub fn object(&mut self) -> Update {
        match self.below(3) {
            0 => Update::Policy(self.policy()),
            1 => Update::Endpoint(self.endpoint()),
            _ => self.other(),
        }
    }

    /// The objects of a small cluster.
    pub fn cluster(&mut self) -> Vec<Update> {
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
    pub fn change(&mut self, cluster: &Cluster) -> Update {
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

    /// A packet between any two addresses that objects or nets may own.
    pub fn packet(&mut self) -> Packet {
        let source = self.address();
        let destination = loop {
            let address = self.address();
            if IpVersion::of(&address) == IpVersion::of(&source) {
                break address;
            }
        };
        let near = |g: &mut Self| g.pick(&PORTS).wrapping_add(g.pick(&[0, 0, 0, 1, u16::MAX]));
        let mut packet = Packet::new(self.mapped(source), destination, self.protocol());
        packet.source_port = near(self);
        packet.destination_port = near(self);
        if self.chance(80) {
            packet = packet.with_icmp(self.pick(&[0, 3, 8, 128, 135, 143, 254]), self.pick(&[0, 1, 255]));
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

    /// A number below `n`, which is at least 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Puts `items` into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
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

    fn address(&mut self) -> IpAddr {
        if self.chance(70) {
            IpAddr::from([10, 0, self.below(2) as u8, self.below(6) as u8])
        } else {
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, self.below(2) as u16, self.below(4) as u16])
        }
    }

    /// `address`, now and then in its IPv4-mapped form, which every engine must take for the same address.
    fn mapped(&mut self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) if self.chance(5) => IpAddr::V6(v4.to_ipv6_mapped()),
            _ => address,
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
}
