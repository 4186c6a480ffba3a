//! What stands before every program and no policy can take away: exemptions, and tunnels that workloads may not send.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::compile::ids::PreludeIx;
use crate::compile::policies::RuleList;
use crate::compile::rules::Predicates;
use crate::ir::Id;
use crate::label::Name;
use crate::model::{Action, EndpointKind, EntityMatch, L4Match, PortMatch, PortRange, Rule};
use crate::packet::Protocol;
use crate::settings::{Failsafe, Failsafes, NodeSettings, Settings, Tunnel};
use crate::verdict::{Cause, Hook};

/// The built-in rules of each hook, with the cause they give.
#[derive(Debug)]
pub(super) struct Preludes {
    rule_lists: BTreeMap<(PreludeIx, Hook), (RuleList, Cause)>,
    /// Nodes with failsafe ports of their own.
    failsafes: BTreeMap<Name, PreludeIx>,
    /// Nodes with tunnels of their own.
    tunnels: BTreeMap<Name, PreludeIx>,
}

impl Preludes {
    pub(super) fn new(settings: &Settings, predicates: &mut Predicates) -> Self {
        let (failsafe_lists, failsafes) = distinct(settings, |node| &node.failsafes);
        let (tunnel_lists, tunnels) = distinct(settings, |node| &node.tunnels);
        let mut rule_lists = BTreeMap::new();
        let mut add = |ix, hook: Hook, rules: &[Rule], cause: Cause| {
            let mut list = RuleList::default();
            list.acquire(rules, hook.direction(), predicates);
            rule_lists.insert((ix, hook), (list, cause));
        };
        for hook in Hook::ALL {
            match of_node(hook) {
                None => {}
                Some(OfNode::Failsafes) => {
                    for (ix, list) in &failsafe_lists {
                        add(*ix, hook, &failsafe_rules(list, hook), Cause::Failsafe);
                    }
                }
                Some(OfNode::Tunnels) => {
                    for (ix, list) in &tunnel_lists {
                        add(*ix, hook, tunnel_rule(list).as_slice(), Cause::Tunnel);
                    }
                }
            }
        }
        Self { rule_lists, failsafes, tunnels }
    }

    pub(super) fn of(&self, prelude: PreludeIx, hook: Hook) -> Option<&(RuleList, Cause)> {
        self.rule_lists.get(&(prelude, hook))
    }

    /// What the hooks of endpoints of `kind` on `node` have, those of them where it depends on the node.
    pub(super) fn of_node(&self, kind: EndpointKind, node: Option<&Name>) -> PreludeIx {
        let nodes = match kind {
            EndpointKind::Host => &self.failsafes,
            EndpointKind::Workload => &self.tunnels,
        };
        node.and_then(|node| nodes.get(node)).copied().unwrap_or(PreludeIx::EVERY_NODE)
    }
}

/// The values that a part of the settings has, that of every node first, and which of them each node with settings of its
/// own has.
fn distinct<'s, T: PartialEq>(
    settings: &'s Settings,
    part: impl Fn(&'s NodeSettings) -> &'s T,
) -> (Vec<(PreludeIx, &'s T)>, BTreeMap<Name, PreludeIx>) {
    let mut values = vec![(PreludeIx::EVERY_NODE, part(&settings.every_node))];
    let mut nodes = BTreeMap::new();
    for (node, settings) in &settings.nodes {
        let own = part(settings);
        let known = values.iter().find(|(_, value)| *value == own).map(|(ix, _)| *ix);
        let ix = known.unwrap_or_else(|| {
            let ix = PreludeIx::new(u32::try_from(values.len()).unwrap_or(u32::MAX));
            values.push((ix, own));
            ix
        });
        nodes.insert(node.clone(), ix);
    }
    (values, nodes)
}

/// The part of a node's settings that stands before the programs of a hook.
enum OfNode {
    Failsafes,
    Tunnels,
}

const fn of_node(hook: Hook) -> Option<OfNode> {
    match hook {
        Hook::HostIngress
        | Hook::HostEgress
        | Hook::PreDnat
        | Hook::UntrackedIngress
        | Hook::UntrackedEgress => Some(OfNode::Failsafes),
        Hook::WorkloadEgress => Some(OfNode::Tunnels),
        Hook::WorkloadIngress | Hook::ForwardIngress | Hook::ForwardEgress => None,
    }
}

/// Whether what stands before the programs of `hook` depends on the node.
pub(super) const fn is_of_node(hook: Hook) -> bool {
    of_node(hook).is_some()
}

/// See [`Failsafes::exempt`].
fn failsafe_rules(failsafes: &Failsafes, hook: Hook) -> Vec<Rule> {
    let (requests, replies) = match hook {
        Hook::HostIngress | Hook::PreDnat => (&failsafes.inbound[..], &[][..]),
        Hook::HostEgress => (&failsafes.outbound[..], &[][..]),
        Hook::UntrackedIngress => (&failsafes.inbound[..], &failsafes.outbound[..]),
        Hook::UntrackedEgress => (&failsafes.outbound[..], &failsafes.inbound[..]),
        Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::ForwardIngress | Hook::ForwardEgress => {
            return Vec::new();
        }
    };
    let rule = |failsafe: &Failsafe, reply: bool| {
        let port = vec![PortMatch::Range(PortRange::single(failsafe.port))];
        let mut l4 = L4Match { protocol: Some(failsafe.protocol), ..L4Match::default() };
        if reply {
            l4.source_ports = port;
        } else {
            l4.destination_ports = port;
        }
        let peers = failsafe.net.map(|net| EntityMatch::nets(vec![net])).into_iter().collect();
        Rule { l4: vec![l4], peers, ..Rule::new(Action::Allow) }
    };
    let requests = requests.iter().map(|failsafe| rule(failsafe, false));
    requests.chain(replies.iter().map(|failsafe| rule(failsafe, true))).collect()
}

/// See [`NodeSettings::tunnels`]. `None` when there is none.
fn tunnel_rule(tunnels: &[Tunnel]) -> Option<Rule> {
    let l4 = tunnels.iter().map(|tunnel| match tunnel {
        Tunnel::Protocol(protocol) => L4Match { protocol: Some(*protocol), ..L4Match::default() },
        Tunnel::Udp(port) => L4Match {
            protocol: Some(Protocol::UDP),
            destination_ports: vec![PortMatch::Range(PortRange::single(*port))],
            ..L4Match::default()
        },
    });
    (!tunnels.is_empty()).then(|| Rule { l4: l4.collect(), ..Rule::new(Action::Deny) })
}
