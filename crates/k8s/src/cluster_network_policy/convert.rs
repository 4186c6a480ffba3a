//! From a ClusterNetworkPolicy to a policy of the model.
//!
//! Sources: network-policy-api `apis/v1alpha2/clusternetworkpolicy_types.go` and `config/crd/experimental`.

use alloc::format;
use alloc::vec::Vec;

use portcullis_core::model::{
    Directions, EntitySelector, L4Match, Order, Policy, PolicyId, PortMatch, PortRange, Rule, TieBreak,
};
use portcullis_core::packet;
use portcullis_core::quote::quoted;

use crate::cluster_network_policy::peer::{PeerReading, check_count, complete};
use crate::cluster_network_policy::{
    ClusterNetworkPolicy, ClusterNetworkPolicySpec, EgressRule, Generation, IngressRule, Port, Protocol,
    Range, RuleParts, subject,
};
use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::meta::Placing;
use crate::names::Names;
use crate::network_policy::port_number;
use crate::path::Path;
use crate::tier;
use crate::validate;

const GENERATION: Generation = Generation::Cluster;

impl ClusterNetworkPolicy {
    /// The policy in the model: tier `Admin` becomes `kube-admin` and `Baseline` becomes `kube-baseline`, the
    /// priority the order, and policies of equal priority are told apart by name (decision D2). It takes part only
    /// in directions it has rules for.
    ///
    /// # Errors
    /// Everything that an API server with the experimental definition would refuse, and selectors with an unknown
    /// operator, which that server stores; all of it, not only the first.
    pub fn convert(&self) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        self.convert_with(&mut Names::default())
    }

    pub(crate) fn convert_with(&self, names: &mut Names) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        const KIND: &str = "ClusterNetworkPolicy";
        let mut cx = Context::new(names, self.metadata.reference(KIND, Placing::Cluster));
        let identity = self.metadata.identify_strict(Placing::Cluster, validate::dns_subdomain, &mut cx);
        let root = Path::root("spec");
        let Some(spec) = &self.spec else {
            cx.error(&root, "is required");
            return cx.finish(None);
        };
        let parts = spec.convert(&root, &mut cx);
        let policy = identity
            .zip(parts)
            .map(|(identity, parts)| parts.into_policy(PolicyId::new(cx.name(KIND), None, identity.name)));
        cx.finish(policy)
    }
}

/// A converted specification, of any version of the API.
pub(crate) struct Parts {
    pub(crate) tier: &'static str,
    pub(crate) order: u32,
    pub(crate) subject: EntitySelector,
    pub(crate) ingress: Vec<Rule>,
    pub(crate) egress: Vec<Rule>,
}

impl Parts {
    pub(crate) fn into_policy(self, id: PolicyId) -> Policy {
        let tie_key = TieBreak::Name.key(&id);
        let directions = Directions { ingress: !self.ingress.is_empty(), egress: !self.egress.is_empty() };
        let mut policy = Policy::new(id, self.tier, self.subject, directions);
        policy.tie_key = tie_key;
        policy.order = Some(Order::from(self.order));
        policy.ingress = self.ingress;
        policy.egress = self.egress;
        policy
    }
}

/// `priority` as an order; notes an error when it is missing or outside 0 to 1000.
pub(crate) fn read_priority(priority: Option<i64>, path: &Path<'_>, cx: &mut Context<'_>) -> Option<u32> {
    const MAX: u32 = 1000;
    let field = path.field("priority");
    let Some(priority) = priority else {
        cx.error(&field, "is required");
        return None;
    };
    let order = u32::try_from(priority).ok().filter(|order| *order <= MAX);
    if order.is_none() {
        cx.error(&field, format!("{priority} is not between 0 and {MAX}"));
    }
    order
}

impl ClusterNetworkPolicySpec {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Parts> {
        let tier = match self.tier.as_deref().unwrap_or_default() {
            "Admin" => Some(tier::ADMIN),
            "Baseline" => Some(tier::BASELINE),
            other => {
                cx.error(&path.field("tier"), format!("{} is not one of `Admin`, `Baseline`", quoted(other)));
                None
            }
        };
        let order = read_priority(self.priority, path, cx);
        let subject = subject(self.subject.as_ref(), GENERATION, &path.field("subject"), cx);
        let list = path.field("ingress");
        check_count(self.ingress.as_ref().map(Vec::len), 0, GENERATION, &list, cx);
        let ingress = (self.ingress.iter().flatten().enumerate())
            .filter_map(|(i, rule)| rule.convert(&list.index(i), cx))
            .collect();
        let list = path.field("egress");
        check_count(self.egress.as_ref().map(Vec::len), 0, GENERATION, &list, cx);
        let egress = (self.egress.iter().flatten().enumerate())
            .filter_map(|(i, rule)| rule.convert(&list.index(i), cx))
            .collect();
        Some(Parts { tier: tier?, order: order?, subject: subject?, ingress, egress })
    }
}

impl IngressRule {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Rule> {
        let parts =
            RuleParts { generation: GENERATION, name: self.name.as_deref(), action: self.action.as_deref() };
        let rule = parts.read(path, cx);
        let list = path.field("from");
        check_count(self.from.as_ref().map(Vec::len), 1, GENERATION, &list, cx);
        let peers: Vec<PeerReading> = (self.from.iter().flatten().enumerate())
            .filter_map(|(i, peer)| peer.read(GENERATION, &list.index(i), cx))
            .collect();
        let l4 = convert_protocols(self.protocols.as_deref(), path, cx);
        Some(complete(rule?, peers, l4, path, cx))
    }
}

impl EgressRule {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Rule> {
        let parts =
            RuleParts { generation: GENERATION, name: self.name.as_deref(), action: self.action.as_deref() };
        let rule = parts.read(path, cx);
        let list = path.field("to");
        check_count(self.to.as_ref().map(Vec::len), 1, GENERATION, &list, cx);
        let peers: Vec<PeerReading> = (self.to.iter().flatten().enumerate())
            .filter_map(|(i, peer)| peer.read(GENERATION, &list.index(i), cx))
            .collect();
        let named = self.protocols.iter().flatten().any(|p| p.destination_named_port.is_some());
        if named && self.to.iter().flatten().any(|peer| peer.lacks_named_ports()) {
            cx.error(
                path,
                "`destinationNamedPort` cannot be used with a peer of `networks`, `nodes` or `domainNames`, which have no named ports",
            );
        }
        let l4 = convert_protocols(self.protocols.as_deref(), path, cx);
        Some(complete(rule?, peers, l4, path, cx))
    }
}

fn convert_protocols(protocols: Option<&[Protocol]>, path: &Path<'_>, cx: &mut Context<'_>) -> Vec<L4Match> {
    let list = path.field("protocols");
    if protocols.is_some() {
        check_count(protocols.map(<[Protocol]>::len), 1, GENERATION, &list, cx);
    }
    (protocols.unwrap_or_default().iter().enumerate())
        .filter_map(|(i, protocol)| protocol.convert(&list.index(i), cx))
        .collect()
}

impl Protocol {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<L4Match> {
        let numbered = [
            ("tcp", &self.tcp, packet::Protocol::TCP),
            ("udp", &self.udp, packet::Protocol::UDP),
            ("sctp", &self.sctp, packet::Protocol::SCTP),
        ];
        let mut present = numbered
            .into_iter()
            .filter_map(|(field, ports, protocol)| Some((field, ports.as_ref()?, protocol)));
        let first = present.next();
        match (first, present.next(), &self.destination_named_port) {
            (Some((field, ports, protocol)), None, None) => {
                let path = path.field(field);
                let path = path.field("destinationPort");
                let Some(port) = &ports.destination_port else {
                    cx.error(&path, "is required; for every port write the range 1 to 65535");
                    return None;
                };
                let range = port.convert(&path, cx)?;
                Some(L4Match {
                    protocol: Some(protocol),
                    destination_ports: alloc::vec![PortMatch::Range(range)],
                    ..L4Match::default()
                })
            }
            (None, _, Some(name)) => Some(named_port(name, &path.field("destinationNamedPort"), cx)),
            _ => {
                cx.error(path, "exactly one of `tcp`, `udp`, `sctp`, `destinationNamedPort` is required");
                None
            }
        }
    }
}

/// A port by name, of whatever protocol a pod gives it. The server does not check the spelling.
pub(crate) fn named_port(name: &str, path: &Path<'_>, cx: &mut Context<'_>) -> L4Match {
    if let Err(reason) = validate::port_name(name) {
        cx.warn(path, format!("no port can be called {}: {reason}", quoted(name)));
    }
    L4Match { destination_ports: alloc::vec![PortMatch::Named(cx.name(name))], ..L4Match::default() }
}

impl Port {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<PortRange> {
        match (self.number, &self.range) {
            (Some(number), None) => port_number(number, &path.field("number"), cx).map(PortRange::single),
            (None, Some(range)) => range.convert(&path.field("range"), cx),
            _ => {
                cx.error(path, "exactly one of `number`, `range` is required");
                None
            }
        }
    }
}

impl Range {
    /// A range of one port is refused: the API wants `start` below `end`.
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<PortRange> {
        let mut end = |field: &str, value: Option<i64>| {
            let path = path.field(field);
            let Some(value) = value else {
                cx.error(&path, "is required");
                return None;
            };
            port_number(value, &path, cx)
        };
        let (first, last) = (end("start", self.start), end("end", self.end));
        let (first, last) = first.zip(last)?;
        if first >= last {
            cx.error(path, format!("`start` {first} must be below `end` {last}"));
            return None;
        }
        PortRange::new(first, last)
    }
}
