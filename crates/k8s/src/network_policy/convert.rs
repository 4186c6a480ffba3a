//! From a NetworkPolicy to a policy of the model.
//!
//! Sources: kubernetes `api/networking/v1/types.go`, `pkg/apis/networking/v1/defaults.go` and
//! `pkg/apis/networking/validation/validation.go`.

use alloc::format;
use alloc::vec::Vec;

use portcullis_core::label::{NAME_KEY, Name, Scope};
use portcullis_core::model::{
    Action, Directions, EntityKinds, EntityMatch, EntitySelector, L4Match, Order, Policy, PolicyId,
    PortMatch, PortRange, Rule, TieBreak,
};
use portcullis_core::quote::quoted;
use portcullis_core::selector::{Expr, LabelRef};

use crate::cidr;
use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::intstr::IntOrString;
use crate::meta::Placing;
use crate::names::Names;
use crate::network_policy::{IpBlock, NetworkPolicy, NetworkPolicySpec, Peer, PolicyPort};
use crate::path::Path;
use crate::selector::conjunction;
use crate::tier;
use crate::validate;
use crate::workload::protocol;

/// The order of every NetworkPolicy in its tier. NetworkPolicies only allow, so their order never matters among
/// themselves; it does beside Calico policies of the same tier.
/// Source: Calico `libcalico-go/lib/backend/k8s/conversion/conversion.go`.
const ORDER: u32 = 1000;

/// The kind by which ties are broken. Source: Calico `libcalico-go/lib/backend/model/resource.go`.
const TIE_KIND: &str = "KubernetesNetworkPolicy";

impl NetworkPolicy {
    /// The policy in the model: in tier `default`, one rule of the model for each rule, in the same order.
    ///
    /// # Errors
    /// Everything that an API server would refuse; all of it, not only the first.
    pub fn convert(&self) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        self.convert_with(&mut Names::default())
    }

    pub(crate) fn convert_with(&self, names: &mut Names) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, self.metadata.reference("NetworkPolicy", Placing::Namespaced));
        let identity = self.metadata.identify_strict(Placing::Namespaced, validate::dns_subdomain, &mut cx);
        let default = NetworkPolicySpec::default();
        let spec = self.spec.as_ref().unwrap_or(&default);
        let namespace = identity.as_ref().map_or_else(|| Name::new(""), |i| i.namespace());
        let parts = spec.convert(&namespace, &Path::root("spec"), &mut cx);
        let policy = identity.map(|identity| {
            // Calico keeps these policies apart from its own kind of the same name, also where a tie is broken.
            let tie = PolicyId::new(TIE_KIND, identity.namespace.clone(), identity.name.clone());
            let id = PolicyId::new(cx.name("NetworkPolicy"), identity.namespace, identity.name);
            let mut policy = parts.into_policy(id);
            policy.tie_key = TieBreak::Path.key(&tie);
            policy
        });
        cx.finish(policy)
    }
}

/// A converted specification.
#[derive(Debug)]
pub(crate) struct Parts {
    subject: EntitySelector,
    directions: Directions,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

impl Parts {
    /// The policy with these parts.
    pub(crate) fn into_policy(self, id: PolicyId) -> Policy {
        let mut policy = Policy::new(id, tier::DEFAULT, self.subject, self.directions);
        policy.order = Some(Order::from(ORDER));
        policy.ingress = self.ingress;
        policy.egress = self.egress;
        policy
    }
}

impl NetworkPolicySpec {
    /// Converts the specification of a policy in `namespace`.
    pub(crate) fn convert(&self, namespace: &Name, path: &Path<'_>, cx: &mut Context<'_>) -> Parts {
        let mut terms = alloc::vec![in_namespace(namespace)];
        if let Some(selector) = &self.pod_selector {
            push(&mut terms, selector.expr(Scope::Own, &path.field("podSelector"), cx));
        }
        let subject = EntitySelector { kinds: EntityKinds::WORKLOAD, expr: conjunction(terms) };
        let directions = self.directions(path, cx);
        let list = path.field("ingress");
        let ingress: Vec<Rule> = (self.ingress.iter().flatten().enumerate())
            .map(|(i, rule)| {
                let (from, ports) = (rule.from.as_deref(), rule.ports.as_deref());
                convert_rule((from, "from"), ports, namespace, &list.index(i), cx)
            })
            .collect();
        let list = path.field("egress");
        let egress: Vec<Rule> = (self.egress.iter().flatten().enumerate())
            .map(|(i, rule)| {
                let (to, ports) = (rule.to.as_deref(), rule.ports.as_deref());
                convert_rule((to, "to"), ports, namespace, &list.index(i), cx)
            })
            .collect();
        for (field, present, active) in [
            ("ingress", !ingress.is_empty(), directions.ingress),
            ("egress", !egress.is_empty(), directions.egress),
        ] {
            if present && !active {
                cx.warn(&path.field(field), "has no effect, because `policyTypes` leaves this direction out");
            }
        }
        // The model takes no rules that do nothing.
        let ingress = if directions.ingress { ingress } else { Vec::new() };
        let egress = if directions.egress { egress } else { Vec::new() };
        Parts { subject, directions, ingress, egress }
    }

    /// The directions the policy isolates. Without types: ingress always, egress when it has an egress rule.
    fn directions(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Directions {
        let types = self.policy_types.as_deref().unwrap_or_default();
        let path = path.field("policyTypes");
        if types.is_empty() {
            let egress = self.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            return if egress { Directions::BOTH } else { Directions::INGRESS };
        }
        if types.len() > 2 {
            cx.error(&path, "must not hold more than two types");
        }
        let mut directions = Directions::NONE;
        for (i, name) in types.iter().enumerate() {
            match name.as_str() {
                "Ingress" => directions.ingress = true,
                "Egress" => directions.egress = true,
                _ => cx.error(&path.index(i), format!("{} is not one of `Ingress`, `Egress`", quoted(name))),
            }
        }
        directions
    }
}

/// The object is in `namespace`.
pub(crate) fn in_namespace(namespace: &Name) -> Expr {
    Expr::Eq(LabelRef::new(Scope::Namespace, NAME_KEY), namespace.clone())
}

/// Adds `expr` to a conjunction.
pub(crate) fn push(terms: &mut Vec<Expr>, expr: Expr) {
    match expr {
        Expr::All => {}
        Expr::And(all) => terms.extend(all),
        other => terms.push(other),
    }
}

/// One rule of the model, which keeps its index. A missing or empty list of peers is anyone; a missing or empty
/// list of ports is any protocol and port.
fn convert_rule(
    (peers, field): (Option<&[Peer]>, &str),
    ports: Option<&[PolicyPort]>,
    namespace: &Name,
    path: &Path<'_>,
    cx: &mut Context<'_>,
) -> Rule {
    let mut rule = Rule::new(Action::Allow);
    let list = path.field(field);
    for (i, peer) in peers.unwrap_or_default().iter().enumerate() {
        // A peer that could not be converted has noted an error; the whole object is refused.
        rule.peers.extend(peer.convert(namespace, &list.index(i), cx));
    }
    let list = path.field("ports");
    for (i, port) in ports.unwrap_or_default().iter().enumerate() {
        rule.l4.extend(port.convert(&list.index(i), cx));
    }
    rule
}

impl Peer {
    /// Selectors select pods only, never outside addresses, hosts or host-network pods (decision D9).
    fn convert(&self, namespace: &Name, path: &Path<'_>, cx: &mut Context<'_>) -> Option<EntityMatch> {
        let selects = self.pod_selector.is_some() || self.namespace_selector.is_some();
        if let Some(block) = &self.ip_block {
            if selects {
                cx.error(path, "`ipBlock` cannot be used together with a selector");
            }
            return block.convert(&path.field("ipBlock"), cx);
        }
        if !selects {
            cx.error(path, "one of `podSelector`, `namespaceSelector`, `ipBlock` is required");
            return None;
        }
        let mut terms = Vec::new();
        match &self.namespace_selector {
            Some(selector) => {
                push(&mut terms, selector.expr(Scope::Namespace, &path.field("namespaceSelector"), cx));
            }
            None => terms.push(in_namespace(namespace)),
        }
        if let Some(selector) = &self.pod_selector {
            push(&mut terms, selector.expr(Scope::Own, &path.field("podSelector"), cx));
        }
        Some(EntityMatch::select(EntitySelector { kinds: EntityKinds::WORKLOAD, expr: conjunction(terms) }))
    }
}

impl IpBlock {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<EntityMatch> {
        let field = path.field("cidr");
        let text = self.cidr.as_deref().unwrap_or_default();
        if text.is_empty() {
            cx.error(&field, "a network is required");
            return None;
        }
        let net = cidr::parse(text, &field, cx);
        let mut block = EntityMatch::default();
        let list = path.field("except");
        for (i, text) in self.except.iter().flatten().enumerate() {
            let item = list.index(i);
            let Some(except) = cidr::parse(text, &item, cx) else { continue };
            if let Some(net) = net
                && (!net.covers(&except) || net.prefix() >= except.prefix())
            {
                cx.error(&item, format!("{} must lie inside `{net}` and be smaller", quoted(text)));
            }
            block.not_nets.push(except);
        }
        block.nets.push(net?);
        Some(block)
    }
}

impl PolicyPort {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<L4Match> {
        let protocol = protocol(self.protocol.as_deref(), &path.field("protocol"), cx);
        let end_path = path.field("endPort");
        let port_path = path.field("port");
        let port = match (&self.port, self.end_port) {
            (None, None) => Some(None),
            (None, Some(_)) => {
                cx.error(&end_path, "needs a `port` to begin with");
                None
            }
            (Some(IntOrString::Int(first)), end) => {
                let first_port = port_number(*first, &port_path, cx);
                let end_port = end.and_then(|end| port_number(end, &end_path, cx));
                if let Some(end) = end
                    && end < *first
                {
                    cx.error(&end_path, format!("{end} is below `port` {first}"));
                }
                let last_port = if end.is_some() { end_port } else { first_port };
                let range = first_port.zip(last_port).and_then(|(first, last)| PortRange::new(first, last));
                range.map(|range| Some(PortMatch::Range(range)))
            }
            (Some(IntOrString::String(name)), end) => {
                if end.is_some() {
                    cx.error(&end_path, "cannot be used with a named `port`");
                }
                if let Err(reason) = validate::port_name(name) {
                    cx.error(&port_path, format!("{}: {reason}", quoted(name)));
                }
                Some(Some(PortMatch::Named(cx.name(name))))
            }
        };
        let (protocol, port) = protocol.zip(port)?;
        Some(L4Match {
            protocol: Some(protocol),
            destination_ports: port.into_iter().collect(),
            ..L4Match::default()
        })
    }
}

/// `number` as a port; notes an error when it is not between 1 and 65535.
pub(crate) fn port_number(number: impl Into<i64>, path: &Path<'_>, cx: &mut Context<'_>) -> Option<u16> {
    let number = number.into();
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        cx.error(path, format!("{number} is not between 1 and 65535"));
    }
    port
}
