//! From the v1alpha1 kinds to policies of the model.
//!
//! Sources: network-policy-api v0.1.7 `apis/v1alpha1/adminnetworkpolicy_types.go`,
//! `baselineadminnetworkpolicy_types.go` and `shared_types.go`.

use alloc::format;
use alloc::vec::Vec;

use portcullis_core::model::{L4Match, Policy, PolicyId, PortMatch, PortRange, Rule};
use portcullis_core::quote::quoted;

use crate::admin_network_policy::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, EgressRule, IngressRule, Port,
};
use crate::cluster_network_policy::{
    Generation, Parts, PeerReading, RuleParts, check_count, complete, named_port, read_priority, subject,
};
use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::meta::Placing;
use crate::names::Names;
use crate::network_policy::port_number;
use crate::path::Path;
use crate::tier;
use crate::validate;
use crate::workload::protocol;

/// The order of the BaselineAdminNetworkPolicy: after every ClusterNetworkPolicy of the tier.
const BASELINE_ORDER: u32 = 1001;

impl AdminNetworkPolicy {
    /// The policy in the model, in tier `kube-admin`; see [`crate::cluster_network_policy::ClusterNetworkPolicy::convert`].
    ///
    /// # Errors
    /// Everything that an API server with the experimental definition would refuse, and selectors with an unknown
    /// operator; all of it, not only the first.
    pub fn convert(&self) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        self.convert_with(&mut Names::default())
    }

    pub(crate) fn convert_with(&self, names: &mut Names) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        const KIND: &str = "AdminNetworkPolicy";
        let mut cx = Context::new(names, self.metadata.reference(KIND, Placing::Cluster));
        let identity = self.metadata.identify_strict(Placing::Cluster, validate::dns_subdomain, &mut cx);
        let path = Path::root("spec");
        let Some(spec) = &self.spec else {
            cx.error(&path, "is required");
            return cx.finish(None);
        };
        let generation = Generation::Admin;
        let order = read_priority(spec.priority, &path, &mut cx);
        let subject = subject(spec.subject.as_ref(), generation, &path.field("subject"), &mut cx);
        let (ingress, egress) =
            convert_rules(spec.ingress.as_deref(), spec.egress.as_deref(), generation, &path, &mut cx);
        let policy = identity.zip(order).zip(subject).map(|((identity, order), subject)| {
            let parts = Parts { tier: tier::ADMIN, order, subject, ingress, egress };
            parts.into_policy(PolicyId::new(cx.name(KIND), None, identity.name))
        });
        cx.finish(policy)
    }
}

impl BaselineAdminNetworkPolicy {
    /// The policy in the model, in tier `kube-baseline` after every ClusterNetworkPolicy of that tier.
    ///
    /// # Errors
    /// Everything that an API server with the experimental definition would refuse, selectors with an unknown
    /// operator, and any name but `default`; all of it, not only the first.
    pub fn convert(&self) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        self.convert_with(&mut Names::default())
    }

    pub(crate) fn convert_with(&self, names: &mut Names) -> Result<(Policy, Vec<Warning>), ConvertErrors> {
        const KIND: &str = "BaselineAdminNetworkPolicy";
        const NAME: &str = "default";
        let mut cx = Context::new(names, self.metadata.reference(KIND, Placing::Cluster));
        let identity = self.metadata.identify_strict(Placing::Cluster, validate::dns_subdomain, &mut cx);
        if let Some(identity) = &identity
            && identity.name != *NAME
        {
            let metadata = Path::root("metadata");
            cx.error(
                &metadata.field("name"),
                format!("{} is not `{NAME}`, the only name of this kind", quoted(&identity.name)),
            );
        }
        let path = Path::root("spec");
        let Some(spec) = &self.spec else {
            cx.error(&path, "is required");
            return cx.finish(None);
        };
        let generation = Generation::BaselineAdmin;
        let subject = subject(spec.subject.as_ref(), generation, &path.field("subject"), &mut cx);
        let (ingress, egress) =
            convert_rules(spec.ingress.as_deref(), spec.egress.as_deref(), generation, &path, &mut cx);
        let policy = identity.zip(subject).map(|(identity, subject)| {
            let parts = Parts { tier: tier::BASELINE, order: BASELINE_ORDER, subject, ingress, egress };
            parts.into_policy(PolicyId::new(cx.name(KIND), None, identity.name))
        });
        cx.finish(policy)
    }
}

fn convert_rules(
    ingress: Option<&[IngressRule]>,
    egress: Option<&[EgressRule]>,
    generation: Generation,
    path: &Path<'_>,
    cx: &mut Context<'_>,
) -> (Vec<Rule>, Vec<Rule>) {
    let list = path.field("ingress");
    check_count(ingress.map(<[_]>::len), 0, generation, &list, cx);
    let ingress = (ingress.unwrap_or_default().iter().enumerate())
        .filter_map(|(i, rule)| rule.convert(generation, &list.index(i), cx))
        .collect();
    let list = path.field("egress");
    check_count(egress.map(<[_]>::len), 0, generation, &list, cx);
    let egress = (egress.unwrap_or_default().iter().enumerate())
        .filter_map(|(i, rule)| rule.convert(generation, &list.index(i), cx))
        .collect();
    (ingress, egress)
}

impl IngressRule {
    fn convert(&self, generation: Generation, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Rule> {
        let parts = RuleParts { generation, name: self.name.as_deref(), action: self.action.as_deref() };
        let rule = parts.read(path, cx);
        let list = path.field("from");
        check_count(self.from.as_ref().map(Vec::len), 1, generation, &list, cx);
        let peers: Vec<PeerReading> = (self.from.iter().flatten().enumerate())
            .filter_map(|(i, peer)| peer.read(generation, &list.index(i), cx))
            .collect();
        let l4 = convert_ports(self.ports.as_deref(), generation, path, cx);
        Some(complete(rule?, peers, l4, path, cx))
    }
}

impl EgressRule {
    fn convert(&self, generation: Generation, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Rule> {
        let parts = RuleParts { generation, name: self.name.as_deref(), action: self.action.as_deref() };
        let rule = parts.read(path, cx);
        let list = path.field("to");
        check_count(self.to.as_ref().map(Vec::len), 1, generation, &list, cx);
        let peers: Vec<PeerReading> = (self.to.iter().flatten().enumerate())
            .filter_map(|(i, peer)| peer.read(generation, &list.index(i), cx))
            .collect();
        let named = self.ports.iter().flatten().any(|p| p.named_port.is_some());
        if named && self.to.iter().flatten().any(|peer| peer.lacks_named_ports()) {
            cx.error(
                path,
                "`namedPort` cannot be used with a peer of `networks`, `nodes` or `domainNames`, which have no named ports",
            );
        }
        let l4 = convert_ports(self.ports.as_deref(), generation, path, cx);
        Some(complete(rule?, peers, l4, path, cx))
    }
}

/// Ports, as alternatives. An empty list is no condition, like a missing one.
fn convert_ports(
    ports: Option<&[Port]>,
    generation: Generation,
    path: &Path<'_>,
    cx: &mut Context<'_>,
) -> Vec<L4Match> {
    let list = path.field("ports");
    check_count(ports.map(<[_]>::len), 0, generation, &list, cx);
    (ports.unwrap_or_default().iter().enumerate())
        .filter_map(|(i, port)| port.convert(&list.index(i), cx))
        .collect()
}

impl Port {
    fn convert(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<L4Match> {
        let (protocol, range) = match (&self.port_number, &self.port_range, &self.named_port) {
            (Some(single), None, None) => {
                let path = path.field("portNumber");
                let protocol = protocol(single.protocol.as_deref(), &path.field("protocol"), cx);
                let port = required_port("port", single.port, &path, cx);
                (protocol?, PortRange::single(port?))
            }
            (None, Some(range), None) => {
                let path = path.field("portRange");
                let protocol = protocol(range.protocol.as_deref(), &path.field("protocol"), cx);
                let start = required_port("start", range.start, &path, cx);
                let end = required_port("end", range.end, &path, cx);
                let (start, end) = start.zip(end)?;
                let Some(range) = PortRange::new(start, end) else {
                    cx.error(&path, format!("`start` {start} is above `end` {end}"));
                    return None;
                };
                (protocol?, range)
            }
            (None, None, Some(name)) => return Some(named_port(name, &path.field("namedPort"), cx)),
            _ => {
                cx.error(path, "exactly one of `portNumber`, `portRange`, `namedPort` is required");
                return None;
            }
        };
        Some(L4Match {
            protocol: Some(protocol),
            destination_ports: alloc::vec![PortMatch::Range(range)],
            ..L4Match::default()
        })
    }
}

fn required_port(field: &str, value: Option<i64>, path: &Path<'_>, cx: &mut Context<'_>) -> Option<u16> {
    let path = path.field(field);
    let Some(value) = value else {
        cx.error(&path, "is required");
        return None;
    };
    port_number(value, &path, cx)
}
