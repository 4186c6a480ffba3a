//! One end of a rule: the `source` and `destination` of Calico's rules.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::{EntityKinds, EntityMatch, EntitySelector, IdentityMatch, PortMatch, ServiceId};
use portcullis_core::net::Cidr;
use portcullis_core::quote::quoted;
use portcullis_core::selector::Expr;

use crate::calico::families::{Families, Family};
use crate::calico::list::{self, Limit};
use crate::calico::net;
use crate::calico::scalar;
use crate::calico::selector::{self, Place};
use crate::calico::spec::{EntitySpec, ServiceAccountSpec, ServiceSpec};
use crate::context::Context;
use crate::intstr::IntOrString;
use crate::path::Path;

/// Which end of which rule an entity is.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    /// The namespace of the policy, for kinds that have one.
    pub(super) namespace: Option<&'a Name>,
    /// Whether `services` is allowed here: on the far end only.
    pub(super) services: Services,
    /// Whether a proxy can supply the identity of this end: on the source of an ingress rule only.
    pub(super) identity: Identity,
}

/// Whether and how `services` may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Services {
    /// In an ingress source: addresses only, ports may stand beside it.
    Source,
    /// In an egress destination: address, protocol and port, so ports may not.
    Destination,
    /// Nowhere else.
    Refused,
}

/// Whether a proxy-supplied principal is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// It is.
    Checked,
    /// It is not.
    Unknown,
}

/// What an entity matches.
#[derive(Clone, Debug, Default)]
pub(super) struct Entity {
    /// Everything but ports.
    pub(super) matches: EntityMatch,
    /// Its ports; empty is any.
    pub(super) ports: Vec<PortMatch>,
    /// Ports that it must not have.
    pub(super) not_ports: Vec<PortMatch>,
}

/// Converts one end of a rule. `family` tells of the networks seen in the rule so far.
///
/// Source of the rewriting: Calico `libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go` and
/// `felix/calc/rule_scanner.go`.
pub(super) fn convert(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    spec: &EntitySpec,
    end: End<'_>,
    family: &mut Family,
) -> Entity {
    let selector = selector::read(cx, &path.field("selector"), spec.selector.as_deref(), Place::Own);
    let not_selector =
        selector::read(cx, &path.field("notSelector"), spec.not_selector.as_deref(), Place::Own);
    let given_namespaces = selector::read(
        cx,
        &path.field("namespaceSelector"),
        spec.namespace_selector.as_deref(),
        Place::RuleNamespace,
    );
    let accounts = spec
        .service_accounts
        .as_ref()
        .and_then(|accounts| service_accounts(cx, &path.field("serviceAccounts"), accounts));

    // The policy's own namespace is meant as soon as a selector of any sort is used, and never for bare networks.
    let selects = selector.is_some() || not_selector.is_some() || accounts.is_some();
    let namespaces = match (&given_namespaces, end.namespace) {
        (Some(_), _) => given_namespaces.clone(),
        (None, Some(own)) if selects => Some(selector::in_namespace(own)),
        (None, _) => None,
    };

    let mut matches = EntityMatch::default();
    if end.identity == Identity::Checked && (given_namespaces.is_some() || accounts.is_some()) {
        matches.identity =
            selector::all_of([namespaces.clone(), accounts.clone()]).map(|expr| IdentityMatch { expr });
    }
    let calico = |expr| EntitySelector { kinds: EntityKinds::CALICO, expr };
    let positive = selector::all_of([namespaces, accounts, selector]);
    match (positive, not_selector) {
        (None, negative) => matches.not_selector = negative.map(calico),
        (Some(positive), negative) => {
            let negative = negative.map(|expr| Expr::Not(Box::new(expr)));
            matches.selector = selector::all_of([Some(positive), negative]).map(calico);
        }
    }

    matches.nets = nets(cx, &path.field("nets"), spec.nets.as_deref(), family);
    let not_nets_path = path.field("notNets");
    matches.not_nets = nets(cx, &not_nets_path, spec.not_nets.as_deref(), family);
    if matches.not_nets.iter().any(|net| net.prefix() == 0) {
        cx.error(&not_nets_path, "a network of prefix length 0 leaves no address to match");
    }
    if let Some(service) = &spec.services {
        matches.service = self::service(cx, path, service, spec, end);
    }
    Entity {
        matches,
        ports: ports(cx, &path.field("ports"), spec.ports.as_deref()),
        not_ports: ports(cx, &path.field("notPorts"), spec.not_ports.as_deref()),
    }
}

/// Names and labels must both hold; neither given is no condition.
fn service_accounts(cx: &mut Context<'_>, path: &Path<'_>, spec: &ServiceAccountSpec) -> Option<Expr> {
    let names = list::set(cx, &path.field("names"), spec.names.as_deref(), Limit::None);
    let named = if names.is_empty() {
        None
    } else {
        let mut names: Vec<Name> = names.iter().map(|name| cx.name(name)).collect();
        names.sort();
        names.dedup();
        Some(Expr::In(selector::service_account_name(), names))
    };
    let labelled =
        selector::read(cx, &path.field("selector"), spec.selector.as_deref(), Place::RuleServiceAccount);
    selector::all_of([named, labelled])
}

fn nets(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    texts: Option<&[alloc::string::String]>,
    family: &mut Family,
) -> Vec<Cidr> {
    let texts = list::set(cx, path, texts, Limit::Items(256));
    let mut nets = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let path = path.index(index);
        let Some(net) = net::network(cx, &path, text) else { continue };
        match family.version {
            Some(other) if other != net.version() && family.families == Families::Mixed => {
                family.is_mixed = true;
            }
            Some(other) if other != net.version() => {
                cx.error(
                    &path,
                    format!(
                        "{} is an IPv{} network and the rule is about IPv{}, write one rule for each",
                        quoted(text),
                        net.version(),
                        other
                    ),
                );
            }
            _ => family.version = Some(net.version()),
        }
        nets.push(net);
    }
    nets
}

/// Source: Calico `libcalico-go/lib/validator/v3/validator.go` and the rules in its resource definitions.
fn service(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    service: &ServiceSpec,
    entity: &EntitySpec,
    end: End<'_>,
) -> Option<ServiceId> {
    let at = path.field("services");
    if end.services == Services::Refused {
        cx.error(&at, "services are only allowed in the source of an ingress rule and the destination of an egress rule");
    }
    let filled = |text: &Option<alloc::string::String>| text.as_ref().is_some_and(|t| !t.is_empty());
    let any = |items: &Option<Vec<alloc::string::String>>| items.as_ref().is_some_and(|i| !i.is_empty());
    for (field, used) in [
        ("selector", filled(&entity.selector)),
        ("notSelector", filled(&entity.not_selector)),
        ("namespaceSelector", filled(&entity.namespace_selector)),
        ("serviceAccounts", entity.service_accounts.is_some()),
        ("nets", any(&entity.nets)),
        ("notNets", any(&entity.not_nets)),
    ] {
        if used {
            cx.error(&at, format!("cannot be combined with {field}"));
        }
    }
    if end.services == Services::Destination {
        let any = |items: &Option<Vec<IntOrString>>| items.as_ref().is_some_and(|i| !i.is_empty());
        for (field, used) in [("ports", any(&entity.ports)), ("notPorts", any(&entity.not_ports))] {
            if used {
                cx.error(&at, format!("cannot be combined with {field}, the service gives the ports"));
            }
        }
    }
    let name = list::text(cx, &at.field("name"), service.name.as_deref(), 253);
    let namespace = list::text(cx, &at.field("namespace"), service.namespace.as_deref(), 253);
    // Decision D19: without a namespace, the policy's own.
    let namespace = namespace.map(|text| cx.name(text)).or_else(|| end.namespace.cloned());
    match (name, namespace) {
        (Some(name), Some(namespace)) => Some(ServiceId { namespace, name: cx.name(name) }),
        (name, namespace) => {
            if name.is_none() {
                cx.error(&at.field("name"), "the name of a service is missing");
            }
            if namespace.is_none() {
                cx.error(
                    &at.field("namespace"),
                    "must be given, since the object has no namespace of its own",
                );
            }
            None
        }
    }
}

fn ports(cx: &mut Context<'_>, path: &Path<'_>, values: Option<&[IntOrString]>) -> Vec<PortMatch> {
    let values = values.unwrap_or_default();
    if values.len() > 50 {
        cx.error(path, "must have no more than 50 items");
    }
    let mut ports = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let path = path.index(index);
        match scalar::port(value) {
            Ok(port) => {
                if let PortMatch::Named(name) = &port
                    && !scalar::port_name_can_exist(name)
                {
                    cx.warn(
                        &path,
                        format!("no port can have the name {}, so it matches nothing", scalar::shown(value)),
                    );
                }
                ports.push(port);
            }
            Err(reason) => cx.error(&path, reason),
        }
    }
    ports
}
