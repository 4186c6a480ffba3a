//! Writing policies by hand.

use alloc::vec;
use alloc::vec::Vec;

use crate::label::{Labels, NAME_KEY, Name, Scope};
use crate::model::{
    Action, Directions, EntityKinds, EntityMatch, EntitySelector, HttpMatch, IcmpMatch, L4Match, Policy,
    PolicyId, PortMatch, PortRange, Profile, ProfileOrigin, Rule, ServiceId,
};
use crate::net::{Cidr, IpVersion};
use crate::packet::Protocol;
use crate::selector::{Expr, LabelRef, Selector, SelectorError};
use crate::verdict::Direction;

/// The tier of policies that name no other.
const DEFAULT_TIER: &str = "default";

/// Policies of the tier `default`, without order, enforced. Their fields can be changed afterwards.
impl Policy {
    /// A policy on traffic to `subject`. What no rule allows is denied. Traffic from `subject` is not concerned.
    #[must_use]
    pub fn ingress(
        id: PolicyId,
        subject: EntitySelector,
        rules: impl IntoIterator<Item = RuleBuilder>,
    ) -> Self {
        let policy = Self::new(id, DEFAULT_TIER, subject, Directions::NONE);
        policy.and_ingress(rules)
    }

    /// A policy on traffic from `subject`. What no rule allows is denied. Traffic to `subject` is not concerned.
    #[must_use]
    pub fn egress(
        id: PolicyId,
        subject: EntitySelector,
        rules: impl IntoIterator<Item = RuleBuilder>,
    ) -> Self {
        let policy = Self::new(id, DEFAULT_TIER, subject, Directions::NONE);
        policy.and_egress(rules)
    }

    /// The same policy, on traffic to its subject as well: `rules` come behind the ingress rules that it has.
    #[must_use]
    pub fn and_ingress(mut self, rules: impl IntoIterator<Item = RuleBuilder>) -> Self {
        self.directions.ingress = true;
        self.ingress.extend(rules.into_iter().flat_map(|rule| rule.rules(Direction::Ingress)));
        self
    }

    /// The same policy, on traffic from its subject as well: `rules` come behind the egress rules that it has.
    #[must_use]
    pub fn and_egress(mut self, rules: impl IntoIterator<Item = RuleBuilder>) -> Self {
        self.directions.egress = true;
        self.egress.extend(rules.into_iter().flat_map(|rule| rule.rules(Direction::Egress)));
        self
    }
}

impl Profile {
    /// A profile that allows everything in both directions. An endpoint that has it is open where no policy applies to
    /// it; without a profile it is closed. A verdict of it has the cause [`NoPolicy`](crate::verdict::Cause::NoPolicy).
    #[must_use]
    pub fn allow_all(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            ingress: vec![Rule::new(Action::Allow)],
            egress: vec![Rule::new(Action::Allow)],
            labels: Labels::new(),
            origin: ProfileOrigin::Implicit,
        }
    }
}

impl EntitySelector {
    /// The workloads whose labels `text` selects, in all namespaces.
    ///
    /// # Errors
    /// When `text` is not a selector, see [`Selector::parse`].
    pub fn workloads(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { kinds: EntityKinds::WORKLOAD, expr: Selector::parse(text)?.into_expr() })
    }

    /// The host endpoints whose labels `text` selects.
    ///
    /// # Errors
    /// When `text` is not a selector, see [`Selector::parse`].
    pub fn hosts(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { kinds: EntityKinds::HOST, expr: Selector::parse(text)?.into_expr() })
    }

    /// The network sets whose labels `text` selects.
    ///
    /// # Errors
    /// When `text` is not a selector, see [`Selector::parse`].
    pub fn network_sets(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { kinds: EntityKinds::NETWORK_SET, expr: Selector::parse(text)?.into_expr() })
    }

    /// Those of them that are in this namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: impl Into<Name>) -> Self {
        let label = LabelRef::new(Scope::Namespace, Name::new(NAME_KEY));
        Self { kinds: self.kinds, expr: Expr::equal(label, namespace).and(self.expr) }
    }
}

impl From<EntitySelector> for EntityMatch {
    fn from(selector: EntitySelector) -> Self {
        Self::select(selector)
    }
}

impl From<Cidr> for EntityMatch {
    fn from(net: Cidr) -> Self {
        Self::nets(vec![net])
    }
}

impl From<ServiceId> for EntityMatch {
    fn from(service: ServiceId) -> Self {
        Self { service: Some(service), ..Self::default() }
    }
}

/// Conditions with one protocol.
impl L4Match {
    /// TCP to this port: a number, a [`PortRange`], or a name that ports of the destination have.
    #[must_use]
    pub fn tcp(port: impl Into<PortMatch>) -> Self {
        Self::to_port(Protocol::TCP, port)
    }

    /// UDP to this port.
    #[must_use]
    pub fn udp(port: impl Into<PortMatch>) -> Self {
        Self::to_port(Protocol::UDP, port)
    }

    /// SCTP to this port.
    #[must_use]
    pub fn sctp(port: impl Into<PortMatch>) -> Self {
        Self::to_port(Protocol::SCTP, port)
    }

    /// Every packet of this protocol.
    #[must_use]
    pub fn protocol(protocol: Protocol) -> Self {
        Self { protocol: Some(protocol), ..Self::default() }
    }

    /// ICMP messages of this type.
    #[must_use]
    pub fn icmp(kind: u8) -> Self {
        Self::message(Protocol::ICMP, kind)
    }

    /// ICMPv6 messages of this type.
    #[must_use]
    pub fn icmpv6(kind: u8) -> Self {
        Self::message(Protocol::ICMPV6, kind)
    }

    fn to_port(protocol: Protocol, port: impl Into<PortMatch>) -> Self {
        Self { destination_ports: vec![port.into()], ..Self::protocol(protocol) }
    }

    fn message(protocol: Protocol, kind: u8) -> Self {
        Self { icmp: Some(IcmpMatch { kind: Some(kind), code: None }), ..Self::protocol(protocol) }
    }
}

impl From<u16> for PortMatch {
    fn from(port: u16) -> Self {
        Self::Range(PortRange::single(port))
    }
}

impl From<PortRange> for PortMatch {
    fn from(range: PortRange) -> Self {
        Self::Range(range)
    }
}

impl From<&str> for PortMatch {
    fn from(name: &str) -> Self {
        Self::Named(name.into())
    }
}

impl Rule {
    /// A rule that accepts; matches every packet until it is narrowed.
    pub fn allow() -> RuleBuilder {
        RuleBuilder::new(Action::Allow)
    }

    /// A rule that drops; matches every packet until it is narrowed.
    pub fn deny() -> RuleBuilder {
        RuleBuilder::new(Action::Deny)
    }

    /// A rule that leaves the tier and goes on with the next; matches every packet until it is narrowed.
    pub fn pass() -> RuleBuilder {
        RuleBuilder::new(Action::Pass)
    }

    /// A rule that notes packets and goes on with the next rule; matches every packet until it is narrowed.
    pub fn log() -> RuleBuilder {
        RuleBuilder::new(Action::Log)
    }
}

/// A rule that names source and destination, before it stands in a list of one direction.
///
/// [`from`](Self::from), [`to`](Self::to) and [`to_port`](Self::to_port) each narrow the rule; called several times,
/// they add alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct RuleBuilder {
    action: Action,
    name: Option<Name>,
    ip_version: Option<IpVersion>,
    sources: Vec<EntityMatch>,
    destinations: Vec<EntityMatch>,
    l4: Vec<L4Match>,
    http: Option<HttpMatch>,
}

impl RuleBuilder {
    const fn new(action: Action) -> Self {
        Self {
            action,
            name: None,
            ip_version: None,
            sources: Vec::new(),
            destinations: Vec::new(),
            l4: Vec::new(),
            http: None,
        }
    }

    /// Only traffic from here: a selector, a network, or an [`EntityMatch`]. A rule for which this was never called is for
    /// traffic from anyone: for a list that may be empty, use [`from_any_of`](Self::from_any_of).
    pub fn from(mut self, source: impl Into<EntityMatch>) -> Self {
        self.sources.push(source.into());
        self
    }

    /// Only traffic from one of these. An empty list is nobody, and the rule then matches no packet.
    pub fn from_any_of(mut self, sources: impl IntoIterator<Item = impl Into<EntityMatch>>) -> Self {
        add_any_of(&mut self.sources, sources);
        self
    }

    /// Only traffic to there: a selector, a network, a service, or an [`EntityMatch`]. A rule for which this was never
    /// called is for traffic to anyone: for a list that may be empty, use [`to_any_of`](Self::to_any_of).
    pub fn to(mut self, destination: impl Into<EntityMatch>) -> Self {
        self.destinations.push(destination.into());
        self
    }

    /// Only traffic to one of these. An empty list is nobody, and the rule then matches no packet.
    pub fn to_any_of(mut self, destinations: impl IntoIterator<Item = impl Into<EntityMatch>>) -> Self {
        add_any_of(&mut self.destinations, destinations);
        self
    }

    /// Only this protocol and port.
    pub fn to_port(mut self, l4: L4Match) -> Self {
        self.l4.push(l4);
        self
    }

    /// Only packets of this family.
    pub const fn ip_version(mut self, version: IpVersion) -> Self {
        self.ip_version = Some(version);
        self
    }

    /// Only these HTTP requests. Only rules that allow may have such a condition, see
    /// [`Compiler::apply`](crate::compile::Compiler::apply).
    pub fn http(mut self, http: HttpMatch) -> Self {
        self.http = Some(http);
        self
    }

    /// A name for people.
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The rule in a list of `direction`. A rule has one condition on the endpoint that owns the list, so there is one
    /// rule for each alternative at that end.
    #[must_use]
    pub fn rules(self, direction: Direction) -> Vec<Rule> {
        let (peers, mut locals) = match direction {
            Direction::Ingress => (self.sources, self.destinations),
            Direction::Egress => (self.destinations, self.sources),
        };
        if locals.is_empty() {
            locals.push(EntityMatch::default());
        }
        let rule = |local| Rule {
            action: self.action,
            name: self.name.clone(),
            ip_version: self.ip_version,
            peers: peers.clone(),
            local,
            l4: self.l4.clone(),
            http: self.http.clone(),
        };
        locals.into_iter().map(rule).collect()
    }
}

/// Adds alternatives. Without any, the one that nobody matches, because an end without alternatives is anyone.
fn add_any_of(list: &mut Vec<EntityMatch>, alternatives: impl IntoIterator<Item = impl Into<EntityMatch>>) {
    let before = list.len();
    list.extend(alternatives.into_iter().map(Into::into));
    if list.len() == before {
        list.push(EntityMatch::nobody());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> PolicyId {
        PolicyId::new("Policy", None, "p")
    }

    #[test]
    fn a_policy_takes_part_in_the_directions_that_it_was_given_rules_for() {
        let subject = EntitySelector::workloads("app == 'db'").unwrap();
        let ingress = Policy::ingress(id(), subject.clone(), [Rule::allow()]);
        assert_eq!((ingress.directions, ingress.ingress.len()), (Directions::INGRESS, 1));
        // Without rules it denies, and is not absent.
        let egress = Policy::egress(id(), subject.clone(), []);
        assert_eq!((egress.directions, egress.egress.len()), (Directions::EGRESS, 0));
        let both = Policy::egress(id(), subject, [Rule::deny()]).and_ingress([Rule::pass(), Rule::log()]);
        let actions = |rules: &[Rule]| rules.iter().map(|rule| rule.action).collect::<Vec<_>>();
        assert_eq!(both.directions, Directions::BOTH);
        assert_eq!(actions(&both.ingress), [Action::Pass, Action::Log]);
        assert_eq!(actions(&both.egress), [Action::Deny]);
    }

    #[test]
    fn source_and_destination_find_their_end() {
        let web = EntityMatch::from(EntitySelector::workloads("app == 'web'").unwrap());
        let net = EntityMatch::from("10.0.0.0/8".parse::<Cidr>().unwrap());
        let rule = || {
            let rule = Rule::deny().from(web.clone()).from(net.clone()).to(net.clone());
            rule.to_port(L4Match::tcp(80)).to_port(L4Match::udp("dns")).named("n").ip_version(IpVersion::V4)
        };
        let ingress = rule().rules(Direction::Ingress);
        let [only] = ingress.as_slice() else { panic!("{ingress:?}") };
        assert_eq!((&only.peers, &only.local), (&vec![web.clone(), net.clone()], &net));
        assert_eq!(only.l4, [L4Match::tcp(80), L4Match::udp("dns")]);
        assert_eq!((only.name.as_deref(), only.ip_version), (Some("n"), Some(IpVersion::V4)));
        // Two sources of an egress rule are two rules, each with every peer.
        let egress = rule().rules(Direction::Egress);
        assert_eq!(egress.iter().map(|rule| &rule.local).collect::<Vec<_>>(), [&web, &net]);
        assert!(egress.iter().all(|rule| rule.peers == [net.clone()] && rule.l4 == only.l4));
    }

    /// A list that happens to be empty must not open the rule to everyone.
    #[test]
    fn any_of_nothing_is_nobody() {
        let nets: [Cidr; 2] = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap());
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules = Rule::allow().from_any_of(nets).to_any_of(nets).rules(direction);
            assert_eq!(
                rules,
                Rule::allow().from(nets[0]).from(nets[1]).to(nets[0]).to(nets[1]).rules(direction)
            );
            let none: [Cidr; 0] = [];
            for rule in [Rule::allow().from_any_of(none), Rule::allow().to_any_of(none)] {
                let rules = rule.rules(direction);
                let [rule] = rules.as_slice() else { panic!("{rules:?}") };
                let is_nobody = [rule.local.clone()] == [EntityMatch::nobody()];
                assert!(is_nobody != (rule.peers == [EntityMatch::nobody()]), "{rule:?}");
            }
        }
    }

    #[test]
    fn shortcuts_say_what_the_long_form_says() {
        let range = PortRange::new(8_000, 8_080).unwrap();
        assert_eq!(
            L4Match::sctp(range),
            L4Match {
                protocol: Some(Protocol::SCTP),
                destination_ports: vec![PortMatch::Range(range)],
                ..L4Match::default()
            }
        );
        let echo = L4Match::icmpv6(128);
        assert_eq!(echo.protocol, Some(Protocol::ICMPV6));
        assert_eq!(echo.icmp, Some(IcmpMatch { kind: Some(128), code: None }));
        let here = EntitySelector::workloads("app == 'web'").unwrap().in_namespace("shop");
        let there = Expr::equal(LabelRef::new(Scope::Namespace, NAME_KEY), "shop");
        assert_eq!(here.expr, there.and(Expr::equal(LabelRef::new(Scope::Own, "app"), "web")));
        assert!(EntitySelector::hosts("app ==").is_err());
    }
}
