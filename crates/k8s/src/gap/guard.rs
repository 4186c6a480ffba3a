//! Rules that allow for what is not known.

use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::model::{Action, EntityKinds, EntityMatch, EntitySelector, L4Match, PortMatch, Rule};
use portcullis_core::selector::Expr;

use super::{EntityGap, Gap, is_marked};

/// Whether some gap may change what `rules` are read as.
pub(crate) fn is_guarded(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| {
        let is_named = |ports: &[PortMatch]| ports.iter().any(|port| matches!(port, PortMatch::Named(_)));
        let names = |l4: &L4Match| {
            let positive = is_named(&l4.source_ports) || is_named(&l4.destination_ports);
            let negative = is_named(&l4.not_source_ports) || is_named(&l4.not_destination_ports);
            match rule.action {
                Action::Allow => negative,
                _ => positive || negative,
            }
        };
        let asks = |side: &EntityMatch| match rule.action {
            Action::Allow => {
                side.not_selector.is_some() || side.selector.as_ref().is_some_and(|of| !is_closed(of))
            }
            _ => side.selector.is_some() || side.not_selector.is_some() || side.service.is_some(),
        };
        rule.action != Action::Log
            && (rule.peers.iter().any(asks) || asks(&rule.local) || rule.l4.iter().any(names))
    })
}

/// `rules`, so that they let nothing pass because of what is not known.
pub(crate) fn guard<'a>(rules: &mut [Rule], gaps: impl Iterator<Item = &'a Gap> + Clone) {
    for rule in rules {
        match rule.action {
            // It decides nothing.
            Action::Log => {}
            Action::Allow => narrow(rule, gaps.clone()),
            Action::Deny => widen(rule, gaps.clone()),
            Action::Pass => {
                let (mut certain, mut possible) = (rule.clone(), rule.clone());
                narrow(&mut certain, gaps.clone());
                widen(&mut possible, gaps.clone());
                if certain != *rule || possible != *rule {
                    possible.action = Action::Deny;
                    *rule = possible;
                }
            }
        }
    }
}

/// Leaves of a rule what it matches whatever fills the gaps.
fn narrow<'a>(rule: &mut Rule, gaps: impl Iterator<Item = &'a Gap> + Clone) {
    let any_peer = rule.peers.is_empty();
    rule.peers.retain_mut(|peer| narrow_side(peer, gaps.clone()));
    let is_out = (rule.peers.is_empty() && !any_peer) || !narrow_side(&mut rule.local, gaps.clone());
    let any_l4 = rule.l4.is_empty();
    if entities(gaps).any(|gap| gap.has_more_ports) {
        rule.l4.retain(|l4| !is_named(&l4.not_source_ports) && !is_named(&l4.not_destination_ports));
    }
    if is_out || (rule.l4.is_empty() && !any_l4) {
        rule.peers = vec![EntityMatch::nobody()];
        rule.l4 = Vec::new();
    }
}

/// Whether the side can match anything for certain.
fn narrow_side<'a>(side: &mut EntityMatch, gaps: impl Iterator<Item = &'a Gap> + Clone) -> bool {
    if let Some(selector) = &mut side.selector
        && !is_closed(selector)
        && entities(gaps.clone()).any(|gap| gap.is_unclear_to(selector))
    {
        except_marked(selector);
    }
    if let Some(selector) = &mut side.not_selector {
        if entities(gaps.clone())
            .any(|gap| gap.has_more_addresses && gap.selected_by(selector) != Some(false))
        {
            return false;
        }
        if entities(gaps).any(|gap| gap.is_unclear_to(selector)) {
            or_marked(selector);
        }
    }
    true
}

/// Adds to a rule all that it may match.
fn widen<'a>(rule: &mut Rule, gaps: impl Iterator<Item = &'a Gap> + Clone) {
    for side in rule.peers.iter_mut().chain([&mut rule.local]) {
        if let Some(selector) = &mut side.selector {
            if entities(gaps.clone())
                .any(|gap| gap.has_more_addresses && gap.selected_by(selector) != Some(false))
            {
                side.selector = None;
            } else if entities(gaps.clone()).any(|gap| gap.is_unclear_to(selector)) {
                or_marked(selector);
            }
        }
        if let Some(selector) = &mut side.not_selector
            && entities(gaps.clone()).any(|gap| gap.is_unclear_to(selector))
        {
            except_marked(selector);
        }
        if side.service.as_ref().is_some_and(|service| gaps.clone().any(|gap| gap.is_of(service))) {
            side.service = None;
        }
    }
    if entities(gaps).any(|gap| gap.has_more_ports) {
        for l4 in &mut rule.l4 {
            for ports in [&mut l4.source_ports, &mut l4.destination_ports] {
                if is_named(ports) {
                    ports.clear();
                }
            }
        }
    }
}

impl EntityGap {
    /// Whether labels that are not known decide whether it is selected.
    fn is_unclear_to(&self, selector: &EntitySelector) -> bool {
        self.has_more_labels && self.selected_by(selector).is_none()
    }
}

fn entities<'a>(gaps: impl Iterator<Item = &'a Gap>) -> impl Iterator<Item = &'a EntityGap> {
    gaps.filter_map(|gap| match gap {
        Gap::Entity(entity) => Some(entity),
        Gap::Service(..) => None,
    })
}

fn or_marked(selector: &mut EntitySelector) {
    let expr = core::mem::replace(&mut selector.expr, Expr::All);
    selector.expr = Expr::Or(vec![expr, is_marked()]);
}

fn except_marked(selector: &mut EntitySelector) {
    let expr = core::mem::replace(&mut selector.expr, Expr::All);
    selector.expr = Expr::And(vec![expr, Expr::Not(is_marked().into())]);
}

/// Whether it selects nothing but workloads: those of which something is not known are closed, so that nothing passes to
/// or from them whatever another endpoint allows.
fn is_closed(selector: &EntitySelector) -> bool {
    selector.kinds == EntityKinds::WORKLOAD
}

fn is_named(ports: &[PortMatch]) -> bool {
    ports.iter().any(|port| matches!(port, PortMatch::Named(_)))
}
