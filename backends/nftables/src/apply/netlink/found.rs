//! What a table holds, read back to be compared.

use alloc::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{NlaBuffer, NlasIterator};

use portcullis_core::label::Name;

use super::attr::{as_text, as_u32, find, read};
use super::expr::{self, OwnMap};
use super::value::ACCEPT;
use super::{GET_CHAIN, GET_OBJECT, GET_RULE, GET_SET, GET_TABLE, Netlink, attr, encode, hook_number, value};
use crate::apply::transport::ApplyError;
use crate::command::{BaseHook, Content, Element, Elements, Family, Field, Part, SetKind, Value};

/// The objects of a table. Elements of sets are not here: they are many, and are read set by set.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The families of the tables that are as one that was just created: not dormant.
    pub(crate) awake: BTreeSet<Family>,
    chains: BTreeMap<Name, Chain>,
    /// Named sets, by their flags and the bytes of their key.
    sets: BTreeMap<Name, (u32, u32)>,
    counters: BTreeSet<Name>,
}

#[derive(Debug, Default)]
struct Chain {
    hook: Option<Hook>,
    /// The expressions of each rule.
    rules: Vec<Vec<u8>>,
}

/// Point, priority and policy.
type Hook = (Option<u32>, Option<u32>, Option<u32>);

impl Netlink {
    /// What the table holds; nothing when there is none.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn found(&mut self, table: &Name) -> Result<Found, ApplyError> {
        let mut found = Found::default();
        let name_of = |attributes: &attr::Read, kind| {
            find(attributes, kind).map(|name| Name::from(as_text(name).as_str()))
        };
        for family in Family::ALL {
            for table in self.dump(GET_TABLE, family, table)? {
                if find(&table, 2).and_then(as_u32) == Some(0) {
                    found.awake.insert(family);
                }
            }
            for chain in self.dump(GET_CHAIN, family, table)? {
                let hook = find(&chain, 4).map(|hook| {
                    let hook = read(hook);
                    let number = |kind| find(&hook, kind).and_then(as_u32);
                    (number(1), number(2), find(&chain, 5).and_then(as_u32))
                });
                if let Some(name) = name_of(&chain, 3) {
                    found.chains.insert(name, Chain { hook, rules: Vec::new() });
                }
            }
            for set in self.dump(GET_SET, family, table)? {
                let number = |kind| find(&set, kind).and_then(as_u32).unwrap_or_default();
                // Those that belong to rules go with them.
                if let Some(name) = name_of(&set, 2).filter(|name| !name.starts_with("__")) {
                    found.sets.insert(name, (number(3), number(5)));
                }
            }
            for object in self.dump(GET_OBJECT, family, table)? {
                found.counters.extend(name_of(&object, 2));
            }
            for rule in self.dump(GET_RULE, family, table)? {
                if let Some(chain) = name_of(&rule, 2).and_then(|name| found.chains.get_mut(&name)) {
                    chain.rules.push(find(&rule, 4).unwrap_or_default().to_vec());
                }
            }
        }
        Ok(found)
    }

    /// Whether a chain is hooked in where it should be, and has these rules.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn is_chain(
        &mut self,
        table: &Name,
        found: &Found,
        name: &Name,
        (hook, rules): (Option<BaseHook>, &Content),
    ) -> Result<bool, ApplyError> {
        let Some(chain) = found.chains.get(name) else { return Ok(false) };
        let wanted = hook.map(|hook| {
            let priority = u32::from_be_bytes(hook.priority.to_be_bytes());
            (Some(hook_number(Family::of(name), hook.point)), Some(priority), Some(ACCEPT))
        });
        if chain.hook != wanted || chain.rules.len() != rules.len() {
            return Ok(false);
        }
        for (found, (parts, _)) in chain.rules.iter().zip(rules) {
            let Some(own_maps) = own_maps(found, parts) else { return Ok(false) };
            for (map_name, map) in own_maps {
                if !self.is_own_map(table, map_name, &map)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn is_own_map(&mut self, table: &Name, name: Name, map: &OwnMap) -> Result<bool, ApplyError> {
        let ranged =
            map.cases.iter().any(|(value, _)| matches!(value, Value::Numbers(..) | Value::Addresses(..)));
        let cases = map
            .cases
            .iter()
            .map(|(value, target)| Element { key: vec![value.clone()], target: Some(target.clone()) });
        let wanted = Elements {
            set: name,
            key: vec![map.field],
            kind: if ranged { SetKind::Ranges } else { SetKind::Verdicts },
            elements: cases.collect(),
        };
        self.holds(table, &wanted)
    }
}

impl Found {
    /// Whether there is a named set of this shape.
    pub(crate) fn has_set(&self, name: &Name, key: &[Field], kind: SetKind) -> bool {
        self.sets.get(name) == Some(&(encode::set_flags(kind), encode::key_length(key)))
    }

    pub(crate) fn has_counter(&self, name: &Name) -> bool {
        self.counters.contains(name)
    }

    pub(crate) fn chains(&self) -> impl Iterator<Item = &Name> {
        self.chains.keys()
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = &Name> {
        self.sets.keys()
    }
}

/// The maps of its own that a rule looks into, by name, when its expressions are those of `parts`; `None` when they are not.
fn own_maps(found: &[u8], parts: &[Part]) -> Option<Vec<(Name, OwnMap)>> {
    let (wanted, maps) = expr::expressions(parts, &mut 0);
    let found = read(found);
    if found.len() != wanted.len() {
        return None;
    }
    let mut maps = maps.into_iter();
    let mut named = Vec::new();
    for ((_, found), wanted) in found.iter().zip(&wanted) {
        let mut found = read(found);
        let mut wanted = parse(&value(wanted));
        if text_of(&wanted, LOOKUP_NAME) == Some(LOOKUP.to_owned()) {
            let data =
                |attributes: &[Attribute]| parse(&attribute(attributes, DATA).cloned().unwrap_or_default());
            let mut look_up = data(&wanted);
            if text_of(&look_up, SET_NAME).is_some_and(|name| name == expr::ANONYMOUS) {
                let inner = find(&found, DATA).map(read)?;
                named.push((as_text(find(&inner, SET_NAME)?).as_str().into(), maps.next()?));
                // The kernel gives it a name of its own.
                look_up.retain(|(kind, _, _)| *kind != SET_NAME && *kind != SET_ID);
                let rest: Vec<(u16, Vec<u8>)> =
                    inner.into_iter().filter(|(kind, _)| *kind != SET_NAME).collect();
                if !covers(&rest, &look_up) {
                    return None;
                }
                found.retain(|(kind, _)| *kind != DATA);
                wanted.retain(|(kind, _, _)| *kind != DATA);
            }
        }
        if text_of(&wanted, LOOKUP_NAME).as_deref() == Some(DYNAMIC) {
            // The kernel tells what is kept of each value in a form of its own: set, operation and key are compared.
            let inner = find(&found, DATA).map(read)?;
            let written = parse(attribute(&wanted, DATA)?);
            let same = DYNAMIC_COMPARED
                .iter()
                .all(|kind| find(&inner, *kind) == attribute(&written, *kind).map(Vec::as_slice));
            if !same {
                return None;
            }
            found.retain(|(kind, _)| *kind != DATA);
            wanted.retain(|(kind, _, _)| *kind != DATA);
        }
        if !covers(&found, &wanted) {
            return None;
        }
    }
    Some(named)
}

const LOOKUP: &str = "lookup";
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`, `NFTA_LOOKUP_SET`, `NFTA_LOOKUP_SET_ID`.
const LOOKUP_NAME: u16 = 1;
const DATA: u16 = 2;
const SET_NAME: u16 = 1;
const SET_ID: u16 = 4;

const DYNAMIC: &str = "dynset";
/// `NFTA_DYNSET_SET_NAME`, `NFTA_DYNSET_OP`, `NFTA_DYNSET_SREG_KEY`.
const DYNAMIC_COMPARED: [u16; 3] = [1, 3, 4];

/// Kind, whether it holds attributes, and the value.
type Attribute = (u16, bool, Vec<u8>);

fn parse(bytes: &[u8]) -> Vec<Attribute> {
    let one = |nla: NlaBuffer<&[u8]>| (nla.kind(), nla.nested_flag(), nla.value().to_vec());
    NlasIterator::new(bytes).map_while(Result::ok).map(one).collect()
}

fn attribute(attributes: &[Attribute], kind: u16) -> Option<&Vec<u8>> {
    attributes.iter().find(|(found, _, _)| *found == kind).map(|(_, _, value)| value)
}

fn text_of(attributes: &[Attribute], kind: u16) -> Option<String> {
    attribute(attributes, kind).map(|value| as_text(value))
}

/// Whether the kernel tells every attribute as it was written, and no other that means something: what it adds by itself is zero.
/// In lists, one kind comes more than once: then the order counts.
fn covers(found: &[(u16, Vec<u8>)], wanted: &[Attribute]) -> bool {
    let is_told = |(at, (kind, nested, value)): (usize, &Attribute)| {
        let before = wanted.iter().take(at).filter(|(one, _, _)| one == kind).count();
        let found = found.iter().filter(|(one, _)| one == kind).nth(before);
        match (found, nested) {
            (Some((_, found)), true) => covers(&read(found), &parse(value)),
            (Some((_, found)), false) => found == value,
            // An expression without attributes.
            (None, nested) => *nested && value.is_empty(),
        }
    };
    let count = |kind: u16| wanted.iter().filter(|(one, _, _)| *one == kind).count();
    let is_known = |(at, (kind, value)): (usize, &(u16, Vec<u8>))| {
        let before = found.iter().take(at).filter(|(one, _)| one == kind).count();
        before < count(*kind) || value.iter().all(|byte| *byte == 0)
    };
    wanted.iter().enumerate().all(is_told) && found.iter().enumerate().all(is_known)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, NLA_F_NESTED};

    use super::*;
    use crate::command::Target;

    /// As the kernel would tell it, but for a flag of the first look-up.
    fn told(parts: &[Part], flags: u32) -> Vec<u8> {
        let (list, _) = expr::expressions(parts, &mut 0);
        let mut all = Vec::new();
        for (number, one) in list.iter().enumerate() {
            let mut inner = parse(&value(one));
            if number == list.len() - 1 {
                let more = attr::number(5, flags);
                let mut bytes =
                    vec![0; netlink_packet_core::Emitable::buffer_len(&[more.clone()].as_slice())];
                netlink_packet_core::Emitable::emit(&[more].as_slice(), &mut bytes);
                inner.iter_mut().filter(|(kind, _, _)| *kind == DATA).for_each(|one| one.2.extend(&bytes));
            }
            let inner: Vec<DefaultNla> = inner
                .into_iter()
                .map(|(kind, nested, bytes)| {
                    DefaultNla::new(kind | if nested { NLA_F_NESTED } else { 0 }, bytes)
                })
                .collect();
            all.push(attr::entry(&inner));
        }
        value(&attr::nested(4, &all))
    }

    #[test]
    fn a_rule_is_told_from_another_by_every_attribute() {
        let set = |name: &str| Part::In(vec![Field::InputInterface], name.into());
        let rule = [set("a")];
        assert!(own_maps(&told(&rule, 0), &rule).is_some());
        // A look-up that is turned around.
        assert!(own_maps(&told(&rule, 1), &rule).is_none());
        assert!(own_maps(&told(&[set("b")], 0), &rule).is_none());
        assert!(own_maps(&told(&[set("a"), Part::Go(Target::Accept)], 0), &rule).is_none());
        let go = |target| [Part::Go(target)];
        assert!(own_maps(&told(&go(Target::Drop), 0), &go(Target::Accept)).is_none());
        assert!(own_maps(&told(&go(Target::Jump("x".into())), 0), &go(Target::Jump("y".into()))).is_none());
    }
}
