//! Where verdicts can change with a port.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::label::{NAME_KEY, Name, Scope};
use portcullis_core::model::{Cluster, PortMatch, Rule, ServiceId};
use portcullis_core::settings::{Settings, Tunnel};

use portcullis_core::selector::{Expr, LabelRef};

use super::ports::PortSet;

/// The ports at which something that a rule, a service or a setting says about ports begins or ends.
///
/// Every condition on a port is a condition on one of these ranges, so two ports with no cut between them are treated
/// alike by every rule. More cuts than needed cost time and change nothing.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    destination: ByNamespace,
    source: ByNamespace,
}

/// First ports of ranges, by the namespace that a policy applies to; those of policies that apply anywhere, and everything
/// else, under `None`.
type ByNamespace = BTreeMap<Option<Name>, BTreeSet<u16>>;

impl Cuts {
    pub(super) fn new(cluster: &Cluster, settings: &Settings) -> Self {
        let mut cuts = Self::default();
        let mut seen = Seen::default();
        for policy in cluster.policies().values() {
            let namespaces = namespaces(&policy.subject.expr);
            for rule in policy.ingress.iter().chain(&policy.egress) {
                for namespace in &namespaces {
                    cuts.rule(namespace.as_ref(), rule, &mut seen);
                }
            }
        }
        for profile in cluster.profiles().values() {
            for rule in profile.ingress.iter().chain(&profile.egress) {
                cuts.rule(None, rule, &mut seen);
            }
        }
        for port in cluster.endpoints().values().flat_map(|endpoint| &endpoint.ports) {
            if seen.destination.contains(&port.name) {
                cut(&mut cuts.destination, None, port.port, port.port);
            }
            if seen.source.contains(&port.name) {
                cut(&mut cuts.source, None, port.port, port.port);
            }
        }
        for service in seen.services.iter().filter_map(|id| cluster.services().get(id)) {
            for (_, port) in service.backends.iter().filter_map(|backend| backend.port) {
                cut(&mut cuts.destination, None, port, port);
            }
        }
        let every = core::iter::once(&settings.every_node).chain(settings.nodes.values());
        for node in every.clone() {
            for tunnel in &node.tunnels {
                if let Tunnel::Udp(port) = tunnel {
                    cut(&mut cuts.destination, None, *port, *port);
                }
            }
        }
        let lists = every.map(|node| &node.failsafes);
        for failsafe in lists.flat_map(|list| list.inbound.iter().chain(&list.outbound)) {
            // The replies to exempt requests are exempt by their source port.
            cut(&mut cuts.destination, None, failsafe.port, failsafe.port);
            cut(&mut cuts.source, None, failsafe.port, failsafe.port);
        }
        cuts
    }

    fn rule(&mut self, namespace: Option<&Name>, rule: &Rule, seen: &mut Seen) {
        for l4 in &rule.l4 {
            for (cuts, names, ports) in [
                (
                    &mut self.destination,
                    &mut seen.destination,
                    [&l4.destination_ports, &l4.not_destination_ports],
                ),
                (&mut self.source, &mut seen.source, [&l4.source_ports, &l4.not_source_ports]),
            ] {
                for port in ports.into_iter().flatten() {
                    match port {
                        PortMatch::Range(range) => cut(cuts, namespace, range.first(), range.last()),
                        PortMatch::Named(name) => drop(names.insert(name.clone())),
                    }
                }
            }
        }
        let sides = rule.peers.iter().chain(core::iter::once(&rule.local));
        seen.services.extend(sides.filter_map(|side| side.service.clone()));
    }

    /// The ranges of destination ports that policies of `namespaces` treat alike: all ports, in order.
    pub(super) fn destinations<'n>(&self, namespaces: impl Iterator<Item = &'n Name>) -> Vec<PortSet> {
        ranges(&self.destination, namespaces, 1, u16::MAX)
    }

    /// The ranges of ephemeral source ports that policies of `namespaces` treat alike. The ephemeral ports are those
    /// of Linux (`net.ipv4.ip_local_port_range`).
    pub(super) fn sources<'n>(&self, namespaces: impl Iterator<Item = &'n Name>) -> Vec<PortSet> {
        ranges(&self.source, namespaces, EPHEMERAL.0, EPHEMERAL.1)
    }

    /// All ephemeral ports.
    pub(super) fn ephemeral() -> PortSet {
        PortSet::of(EPHEMERAL.0, EPHEMERAL.1)
    }
}

/// The lowest and the highest ephemeral port.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

/// The namespaces that a policy with this subject can apply to; `None` stands for anywhere.
fn namespaces(subject: &Expr) -> Vec<Option<Name>> {
    let name = LabelRef::new(Scope::Namespace, NAME_KEY);
    let bound = subject.restrictions().remove(&name).filter(|bound| bound.must_be_present);
    match bound.and_then(|bound| bound.one_of) {
        Some(names) => names.into_iter().map(Some).collect(),
        None => vec![None],
    }
}

/// What rules refer to by name.
#[derive(Default)]
struct Seen {
    destination: BTreeSet<Name>,
    source: BTreeSet<Name>,
    services: BTreeSet<ServiceId>,
}

fn cut(cuts: &mut ByNamespace, namespace: Option<&Name>, first: u16, last: u16) {
    let of = cuts.entry(namespace.cloned()).or_default();
    of.insert(first);
    of.extend(last.checked_add(1));
}

fn ranges<'n>(
    cuts: &ByNamespace,
    namespaces: impl Iterator<Item = &'n Name>,
    lowest: u16,
    highest: u16,
) -> Vec<PortSet> {
    let keys = namespaces.map(|name| Some(name.clone())).chain(core::iter::once(None));
    let mut starts: BTreeSet<u16> = BTreeSet::from([lowest]);
    for of in keys.filter_map(|key| cuts.get(&key)) {
        starts.extend(of.range(lowest..=highest));
    }
    let ends = starts.iter().skip(1).map(|next| next.saturating_sub(1)).chain(core::iter::once(highest));
    starts.iter().zip(ends).map(|(first, last)| PortSet::of(*first, last)).collect()
}
