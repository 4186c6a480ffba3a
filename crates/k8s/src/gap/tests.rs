//! Rules beside gaps, one by one.

use alloc::vec;

use portcullis_core::model::{Action, EntityMatch, L4Match, PortMatch, PortRange};
use portcullis_core::selector::Selector;

use super::*;

fn selector(text: &str) -> EntitySelector {
    EntitySelector { kinds: EntityKinds::CALICO, expr: Selector::parse(text).unwrap().into_expr() }
}

fn rule(action: Action, side: EntityMatch) -> Rule {
    let mut rule = Rule::new(action);
    rule.peers = vec![side];
    rule
}

fn guarded(rule: &Rule, gap: &EntityGap) -> Rule {
    let mut rules = [rule.clone()];
    guard(&mut rules, [Gap::Entity(gap.clone())].iter());
    assert!(rules[0] == *rule || is_guarded(core::slice::from_ref(rule)), "{rule:?}");
    rules[0].clone()
}

fn any_net() -> EntityGap {
    EntityGap {
        labels: [("is", "bad")].into_iter().collect(),
        has_more_addresses: true,
        ..EntityGap::none(EntityKinds::NETWORK_SET)
    }
}

#[test]
fn a_rule_that_passes_on_and_is_not_certain_denies_what_it_may_match() {
    let selected = EntityMatch::select(selector("is == 'bad'"));
    let excluded = EntityMatch { not_selector: Some(selector("is == 'bad'")), ..EntityMatch::default() };
    let pass = guarded(&rule(Action::Pass, selected), &any_net());
    assert_eq!(pass, rule(Action::Deny, EntityMatch::default()));
    let pass = guarded(&rule(Action::Pass, excluded.clone()), &any_net());
    assert_eq!(pass, rule(Action::Deny, excluded));
    let other = rule(Action::Pass, EntityMatch::select(selector("is == 'good'")));
    assert_eq!(guarded(&other, &any_net()), other);
}

#[test]
fn a_rule_that_logs_stays() {
    let log = rule(Action::Log, EntityMatch::select(selector("is == 'bad'")));
    assert_eq!(guarded(&log, &any_net()), log);
}

#[test]
fn named_ports_of_an_endpoint_of_which_ports_are_not_known_may_be_any() {
    let gap = EntityGap { has_more_ports: true, ..EntityGap::none(EntityKinds::HOST) };
    let named = || vec![PortMatch::Named("http".into()), PortMatch::Range(PortRange::single(80))];
    let with = |action, l4: L4Match| {
        let mut rule = Rule::new(action);
        rule.l4 = vec![l4];
        rule
    };
    let positive = L4Match { destination_ports: named(), ..L4Match::default() };
    let negative = L4Match { not_destination_ports: named(), ..L4Match::default() };
    assert_eq!(guarded(&with(Action::Deny, positive.clone()), &gap), with(Action::Deny, L4Match::default()));
    let deny = with(Action::Deny, negative.clone());
    assert_eq!(guarded(&deny, &gap), deny);
    let allow = with(Action::Allow, positive);
    assert_eq!(guarded(&allow, &gap), allow);
    assert_eq!(guarded(&with(Action::Allow, negative), &gap), rule(Action::Allow, EntityMatch::nobody()));
}
