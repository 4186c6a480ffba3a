//! Few endpoints, many rules.

use core::net::{IpAddr, Ipv4Addr};

use portcullis::model::{Action, Directions, EntityMatch, Update};
use portcullis::net::Cidr;
use portcullis::selector::Expr;

use super::build::{Names, Random, namespace, pod, policy, rule, tiers};

/// Networks of this many in all, spread over this many rules of one policy.
const W5_RULES: u32 = 1_000;
const W5_NETS: u32 = 44_596;

/// Cilium's CIDR benchmark: different networks of 20 to 32 bits; a few lie inside others.
pub(super) fn w5(sink: &mut dyn FnMut(Update)) {
    let (mut names, mut random) = (Names::default(), Random::new(5));
    tiers(sink);
    namespace(&mut names, "ns", &[("app", "ns")], sink);
    sink(Update::Endpoint(pod(&mut names, "ns", 0, &[("app", "web")])));
    let mut seen = std::collections::HashSet::new();
    let mut nets: Vec<Vec<Cidr>> = vec![Vec::new(); usize::try_from(W5_RULES).unwrap_or_default()];
    while seen.len() < usize::try_from(W5_NETS).unwrap_or_default() {
        let net = cidr(0x2000_0000 + random.below(0x6000_0000), 20 + random.below(13));
        if let Some(net) = net.filter(|net| seen.insert(*net)) {
            let count = nets.len();
            if let Some(list) = nets.get_mut(seen.len() % count) {
                list.push(net);
            }
        }
    }
    let mut policy = policy(&mut names, "ns", "cidrs", Expr::All, Directions::EGRESS);
    for (number, nets) in (0_u16..).zip(nets) {
        let port = 1_000 + number % 50;
        policy.egress.push(rule(Action::Allow, vec![EntityMatch::nets(nets)], &[(port, port)]));
    }
    sink(Update::Policy(policy));
}

/// Calico's expanded cases: a long tier that decides little, then the policy that does.
pub(super) fn w6(sink: &mut dyn FnMut(Update)) {
    let (mut names, mut random) = (Names::default(), Random::new(6));
    tiers(sink);
    namespace(&mut names, "ns", &[("app", "ns")], sink);
    for number in 0..10 {
        sink(Update::Endpoint(pod(&mut names, "ns", number, &[("app", "web")])));
    }
    let mut long = policy(&mut names, "ns", "long", Expr::All, Directions::INGRESS);
    long.tier = names.name("kube-admin");
    for _ in 0..12_500 {
        let net = cidr(0xac10_0000 + random.below(0x0010_0000), 24 + random.below(9));
        let port = 1 + u16::try_from(random.below(1_000)).unwrap_or_default();
        let peers = net.into_iter().map(|net| EntityMatch::nets(vec![net])).collect();
        long.ingress.push(rule(Action::Deny, peers, &[(port, port)]));
    }
    sink(Update::Policy(long));
    let mut base = policy(&mut names, "ns", "base", Expr::All, Directions::INGRESS);
    base.ingress = vec![rule(Action::Allow, Vec::new(), &[(80, 80), (443, 443)])];
    sink(Update::Policy(base));
}

/// The network of `prefix` bits that holds an address.
pub(super) fn cidr(address: u32, prefix: u32) -> Option<Cidr> {
    Cidr::new(IpAddr::V4(Ipv4Addr::from(address)), u8::try_from(prefix).ok()?).ok()
}
