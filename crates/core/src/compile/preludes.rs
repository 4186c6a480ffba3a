//! What stands before every program: preludes that no policy can take away.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::compile::ids::PreludeIx;
use crate::compile::policies::RuleList;
use crate::compile::rules::Predicates;
use crate::ir::Id;
use crate::label::Name;
use crate::model::{Action, EntityMatch, IcmpMatch, L4Match, PortMatch, PortRange, Rule};
use crate::packet::Protocol;
use crate::settings::{Failsafe, Failsafes, Settings};
use crate::verdict::{Cause, Hook};

/// The preludes of each hook, with the cause they give.
#[derive(Debug)]
pub(super) struct Preludes {
    rule_lists: BTreeMap<(PreludeIx, Hook), [(RuleList, Cause); 2]>,
    /// Nodes with failsafe ports of their own.
    nodes: BTreeMap<Name, PreludeIx>,
}

impl Preludes {
    pub(super) fn new(settings: &Settings, predicates: &mut Predicates) -> Self {
        let mut lists = vec![&settings.every_node.failsafes];
        let mut nodes = BTreeMap::new();
        for (node, settings) in &settings.nodes {
            let known = lists.iter().position(|list| **list == settings.failsafes);
            let index = known.unwrap_or_else(|| {
                lists.push(&settings.failsafes);
                lists.len().saturating_sub(1)
            });
            nodes.insert(node.clone(), PreludeIx::new(u32::try_from(index).unwrap_or(u32::MAX)));
        }
        let mut rule_lists = BTreeMap::new();
        for (number, failsafes) in (0_u32..).zip(lists) {
            for hook in Hook::ALL.into_iter().filter(|hook| number == 0 || is_of_node(*hook)) {
                let mut list = |rules: &[Rule]| {
                    let mut list = RuleList::default();
                    list.acquire(rules, hook.direction(), predicates);
                    list
                };
                let (discovery, failsafe) =
                    (list(&[discovery_rule()]), list(&failsafe_rules(failsafes, hook)));
                let of_hook = [(discovery, Cause::NeighbourDiscovery), (failsafe, Cause::Failsafe)];
                rule_lists.insert((PreludeIx::new(number), hook), of_hook);
            }
        }
        Self { rule_lists, nodes }
    }

    pub(super) fn of(&self, failsafes: PreludeIx, hook: Hook) -> impl Iterator<Item = &(RuleList, Cause)> {
        let failsafes = if is_of_node(hook) { failsafes } else { PreludeIx::EVERY_NODE };
        self.rule_lists.get(&(failsafes, hook)).into_iter().flatten()
    }

    pub(super) fn of_node(&self, node: Option<&Name>) -> PreludeIx {
        node.and_then(|node| self.nodes.get(node)).copied().unwrap_or(PreludeIx::EVERY_NODE)
    }
}

/// Whether failsafe ports are exempt at `hook`.
pub(super) const fn is_of_node(hook: Hook) -> bool {
    match hook {
        Hook::HostIngress
        | Hook::HostEgress
        | Hook::PreDnat
        | Hook::UntrackedIngress
        | Hook::UntrackedEgress => true,
        Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::ForwardIngress | Hook::ForwardEgress => false,
    }
}

/// See [`crate::reference::is_neighbour_discovery`].
fn discovery_rule() -> Rule {
    let l4 = [130, 131, 132, 133, 135, 136].map(|kind| L4Match {
        protocol: Some(Protocol::ICMPV6),
        icmp: Some(IcmpMatch { kind: Some(kind), code: None }),
        ..L4Match::default()
    });
    Rule { l4: l4.to_vec(), ..Rule::new(Action::Allow) }
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
