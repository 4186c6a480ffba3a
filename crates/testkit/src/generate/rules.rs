//! Policies and rules.

use portcullis::label::{NAME_KEY, Name, Scope};
use portcullis::model::*;
use portcullis::net::IpVersion;
use portcullis::packet::Protocol;
use portcullis::selector::{Expr, LabelRef};

use super::{Generator, NAMESPACES, PORTS, TIERS};

impl Generator {
    pub(super) fn policy(&mut self) -> Policy {
        let kind = self.pick(&["NetworkPolicy", "GlobalNetworkPolicy"]);
        let name = self.pick(&["p", "p-q", "q", "r", "s", "t"]);
        let id = PolicyId::new(kind, Some(self.pick(&NAMESPACES).into()), name);
        let kinds = self.pick(&[EntityKinds::WORKLOAD, EntityKinds::WORKLOAD.union(EntityKinds::HOST)]);
        let subject = EntitySelector { kinds, expr: if self.chance(40) { Expr::All } else { self.expr(1) } };
        let tier = self.pick(&TIERS);
        let order = self.chance(70).then(|| Order::from(self.below(3) as u32));
        let directions =
            self.pick(&[Directions::INGRESS, Directions::EGRESS, Directions::BOTH, Directions::BOTH]);
        let mut policy = Policy::new(id, tier, subject, directions);
        policy.order = order;
        policy.ingress = self.some(3, Self::rule);
        policy.egress = self.some(3, Self::rule);
        // The compiler refuses rules of a direction that is off.
        if !directions.ingress {
            policy.ingress.clear();
        }
        if !directions.egress {
            policy.egress.clear();
        }
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

    pub(super) fn rule(&mut self) -> Rule {
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

    pub(super) fn entity(&mut self) -> EntityMatch {
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

    pub(super) fn selector(&mut self) -> EntitySelector {
        let kinds =
            self.pick(&[EntityKinds::WORKLOAD, EntityKinds::CALICO, EntityKinds::CALICO, EntityKinds::NODE]);
        EntitySelector { kinds, expr: self.expr(2) }
    }

    pub(super) fn expr(&mut self, depth: u64) -> Expr {
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

    pub(super) fn label_ref(&mut self) -> LabelRef {
        let scope = self.pick(&[Scope::Own, Scope::Own, Scope::Namespace, Scope::ServiceAccount]);
        let key = self.pick(&["app", "env", NAME_KEY]);
        LabelRef::new(scope, key)
    }

    pub(super) fn l4(&mut self) -> L4Match {
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

    pub(super) fn ports(&mut self) -> Vec<PortMatch> {
        self.some(2, |g| {
            if g.chance(30) {
                return PortMatch::Named(g.pick(&["http", "dns"]).into());
            }
            let (a, b) = (g.pick(&PORTS), g.pick(&PORTS));
            PortMatch::Range(PortRange::new(a.min(b), a.max(b)).unwrap())
        })
    }

    pub(super) fn protocol(&mut self) -> Protocol {
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

    pub(super) fn icmp(&mut self) -> IcmpMatch {
        let kind = self.chance(80).then(|| self.pick(&[0, 3, 8, 128, 135, 254]));
        IcmpMatch { kind, code: kind.and_then(|_| self.chance(40).then(|| self.pick(&[0, 1, 255]))) }
    }
}
