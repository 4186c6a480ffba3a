//! L4 tables as rules.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use portcullis_core::ir::{DecisionId, L4Table, PortMap, SourceInterval};
use portcullis_core::label::Name;
use portcullis_core::packet::Protocol;

use crate::command::{Field, Part, Target, Value};

/// Rules of one chain, without comments.
pub(crate) type Rules = Vec<Vec<Part>>;

/// Gives chains to rules and to decisions.
pub(crate) trait Chains {
    /// The chain that carries out a decision; `None` when there is no such decision.
    fn decision(&mut self, id: DecisionId) -> Option<Name>;
    /// A chain with these rules.
    fn chain(&mut self, rules: Rules) -> Name;
}

/// The chain for `table`. `None` when the table has a gap or names a decision that does not exist.
///
/// Each protocol leaves by the decision that covers most of its ports, so rules name the other ports only. A packet
/// too short to have ports takes that way too; connection tracking calls it invalid before it comes here.
pub(crate) fn chain(table: &L4Table, chains: &mut impl Chains) -> Option<Name> {
    let other = chains.decision(table.other)?;
    let mut rules = Rules::new();
    for (protocol, sources) in &table.protocols {
        let is = Part::Is(Field::Protocol, Value::Number(u16::from(protocol.0)));
        let usual = if has_keys(*protocol) { usual(sources)? } else { sources.first()?.keys.decision(0)? };
        if has_keys(*protocol) {
            match &sources[..] {
                [only] => keys(*protocol, &only.keys, usual, &is, chains, &mut rules)?,
                _ => by_source(*protocol, sources, usual, &is, chains, &mut rules)?,
            }
        }
        let usual = chains.decision(usual)?;
        // Where it leads to where others go, it only saves asking about them.
        if usual != other || rules.iter().any(|rule| rule.first() == Some(&is)) {
            rules.push(vec![is, Part::Go(Target::Goto(usual))]);
        }
    }
    while rules
        .last()
        .is_some_and(|rule| matches!(&rule[..], [_, Part::Go(Target::Goto(to))] if *to == other))
    {
        rules.pop();
    }
    if rules.is_empty() {
        return Some(other);
    }
    rules.push(vec![Part::Go(Target::Goto(other))]);
    Some(chains.chain(rules))
}

const fn has_keys(protocol: Protocol) -> bool {
    protocol.has_ports() || is_icmp(protocol)
}

const fn is_icmp(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::ICMP | Protocol::ICMPV6)
}

/// Rules for the source ports at which not every key has the decision `usual`. Each map has one chain, however many
/// source ports lead to it; of several spans of source ports, a map decides.
fn by_source(
    protocol: Protocol,
    sources: &[SourceInterval],
    usual: DecisionId,
    is: &Part,
    chains: &mut impl Chains,
    rules: &mut Rules,
) -> Option<()> {
    let mut known: BTreeMap<&PortMap, Option<Target>> = BTreeMap::new();
    let mut cases = Vec::new();
    let mut low = 0_u16;
    for source in sources {
        let ports = span(low, source.last);
        low = source.last.saturating_add(1);
        if !known.contains_key(&source.keys) {
            let mut inner = Rules::new();
            keys(protocol, &source.keys, usual, is, chains, &mut inner)?;
            let target = if inner.is_empty() {
                None
            } else {
                inner.push(vec![Part::Go(Target::Goto(chains.decision(usual)?))]);
                Some(Target::Goto(chains.chain(inner)))
            };
            known.insert(&source.keys, target);
        }
        if let Some(Some(to)) = known.get(&source.keys) {
            cases.push((ports, to.clone()));
        }
    }
    push_cases(Field::SourcePort, cases, is, rules);
    Some(())
}

/// The rule that goes where the port says.
fn push_cases(field: Field, mut cases: Vec<(Value, Target)>, is: &Part, rules: &mut Rules) {
    match cases.len() {
        0 => {}
        1 => {
            if let Some((ports, to)) = cases.pop() {
                rules.push(vec![is.clone(), Part::Is(field, ports), Part::Go(to)]);
            }
        }
        _ => rules.push(vec![is.clone(), Part::Switch(field, cases)]),
    }
}

/// The decision for most pairs of source port and key.
fn usual(sources: &[SourceInterval]) -> Option<DecisionId> {
    let mut heights: BTreeMap<&PortMap, u64> = BTreeMap::new();
    let mut low = 0_u16;
    for source in sources {
        let height = heights.entry(&source.keys).or_default();
        *height = height.saturating_add(width(low, source.last));
        low = source.last.saturating_add(1);
    }
    let mut areas: BTreeMap<DecisionId, u64> = BTreeMap::new();
    for (keys, height) in heights {
        for (first, last, decision) in intervals(keys) {
            let area = areas.entry(decision).or_default();
            *area = area.saturating_add(height.saturating_mul(width(first, last)));
        }
    }
    areas.into_iter().max_by_key(|(decision, area)| (*area, Reverse(*decision))).map(|(decision, _)| decision)
}

fn width(first: u16, last: u16) -> u64 {
    u64::from(last).saturating_sub(u64::from(first)).saturating_add(1)
}

fn intervals(keys: &PortMap) -> impl Iterator<Item = (u16, u16, DecisionId)> {
    let mut low = 0_u16;
    keys.intervals().iter().map(move |interval| {
        let first = low;
        low = interval.last.saturating_add(1);
        (first, interval.last, interval.decision)
    })
}

fn span(first: u16, last: u16) -> Value {
    if first == last { Value::Number(first) } else { Value::Numbers(first, last) }
}

/// Rules for the keys whose decision is not `usual`. Of ports, a map decides when there are several spans; ICMP types
/// and codes are two fields, and rules name few of them.
fn keys(
    protocol: Protocol,
    keys: &PortMap,
    usual: DecisionId,
    is: &Part,
    chains: &mut impl Chains,
    rules: &mut Rules,
) -> Option<()> {
    let mut cases = Vec::new();
    for (first, last, decision) in intervals(keys).filter(|(_, _, decision)| *decision != usual) {
        let to = Target::Goto(chains.decision(decision)?);
        if is_icmp(protocol) {
            for mut conditions in messages(first, last) {
                conditions.insert(0, is.clone());
                conditions.push(Part::Go(to.clone()));
                rules.push(conditions);
            }
        } else {
            cases.push((span(first, last), to));
        }
    }
    push_cases(Field::DestinationPort, cases, is, rules);
    Some(())
}

/// Conditions that together hold for the keys from `first` to `last`, which are `type << 8 | code`.
fn messages(first: u16, last: u16) -> Vec<Vec<Part>> {
    let ([kind, code], [last_kind, last_code]) = (first.to_be_bytes(), last.to_be_bytes());
    let mut found = Vec::new();
    // Types whose codes all match, and around them at most one type at each end of which only some do.
    let (mut whole, mut whole_last) = (u16::from(kind), u16::from(last_kind));
    let mut partial = |kind: u8, low: u8, high: u8| {
        found.push(vec![
            Part::Is(Field::IcmpType, Value::Number(kind.into())),
            Part::Is(Field::IcmpCode, span(low.into(), high.into())),
        ]);
    };
    if kind == last_kind && (code, last_code) != (0, u8::MAX) {
        partial(kind, code, last_code);
        return found;
    }
    if code != 0 {
        partial(kind, code, u8::MAX);
        whole = whole.saturating_add(1);
    }
    if last_code != u8::MAX {
        partial(last_kind, 0, last_code);
        whole_last = whole_last.saturating_sub(1);
    }
    if whole <= whole_last {
        found.push(vec![Part::Is(Field::IcmpType, span(whole, whole_last))]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(conditions: &[Part], kind: u8, code: u8) -> bool {
        conditions.iter().all(|part| {
            let (value, range) = match part {
                Part::Is(Field::IcmpType, range) => (u16::from(kind), range),
                Part::Is(Field::IcmpCode, range) => (u16::from(code), range),
                _ => panic!("{part:?}"),
            };
            match range {
                Value::Number(one) => value == *one,
                Value::Numbers(low, high) => (*low..=*high).contains(&value),
                _ => panic!("{range:?}"),
            }
        })
    }

    #[test]
    fn icmp_spans_match_what_they_cover_and_nothing_else() {
        let spans =
            [(0, 0), (0, 255), (256, 511), (0x0803, 0x0803), (0x0080, 0x0410), (0, 65535), (0xff01, 0xffff)];
        for (first, last) in spans {
            let rules = messages(first, last);
            for key in 0..=u16::MAX {
                let [kind, code] = key.to_be_bytes();
                let matches = rules.iter().filter(|rule| holds(rule, kind, code)).count();
                assert_eq!(
                    matches,
                    usize::from((first..=last).contains(&key)),
                    "{key:#x} in {first:#x}-{last:#x}"
                );
            }
        }
    }
}
