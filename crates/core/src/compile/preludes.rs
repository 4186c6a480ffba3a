//! What stands before every program: exemptions that no policy can take away.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::compile::policies::Unit;
use crate::compile::rules::Questions;
use crate::model::{Action, EntityMatch, IcmpMatch, L4Match, PortMatch, PortRange, Rule};
use crate::packet::Protocol;
use crate::reference::Settings;
use crate::verdict::{Cause, Hook};

/// The exemptions of each hook, with the cause they give.
#[derive(Debug)]
pub(super) struct Preludes(BTreeMap<Hook, [(Unit, Cause); 2]>);

impl Preludes {
    pub(super) fn new(settings: &Settings, questions: &mut Questions) -> Self {
        let of_hook = |hook: Hook| {
            let mut unit = |rules: &[Rule]| {
                let mut unit = Unit::default();
                unit.acquire(rules, hook.direction(), questions);
                unit
            };
            let (discovery, failsafe) = (unit(&[discovery_rule()]), unit(&failsafe_rules(settings, hook)));
            (hook, [(discovery, Cause::NeighbourDiscovery), (failsafe, Cause::Failsafe)])
        };
        Self(Hook::ALL.into_iter().map(of_hook).collect())
    }

    pub(super) fn of(&self, hook: Hook) -> impl Iterator<Item = &(Unit, Cause)> {
        self.0.get(&hook).into_iter().flatten()
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

/// See [`crate::reference::Failsafes::exempt`].
fn failsafe_rules(settings: &Settings, hook: Hook) -> Vec<Rule> {
    let failsafes = &settings.failsafes;
    let (requests, replies) = match hook {
        Hook::HostIngress | Hook::PreDnat => (&failsafes.inbound[..], &[][..]),
        Hook::HostEgress => (&failsafes.outbound[..], &[][..]),
        Hook::UntrackedIngress => (&failsafes.inbound[..], &failsafes.outbound[..]),
        Hook::UntrackedEgress => (&failsafes.outbound[..], &failsafes.inbound[..]),
        Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::ForwardIngress | Hook::ForwardEgress => {
            return Vec::new();
        }
    };
    let rule = |failsafe: &crate::reference::Failsafe, reply: bool| {
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
