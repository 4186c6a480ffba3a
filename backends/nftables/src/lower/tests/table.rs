//! A table in memory: takes commands as the kernel does, refuses what the kernel refuses, and decides packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::command::*;
use portcullis_core::label::Name;
use portcullis_core::net::{IpVersion, canonical};
use portcullis_core::packet::{Packet, Protocol};

/// A set with its elements.
pub(crate) type Filled = (Set, BTreeMap<Vec<Value>, Option<Target>>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    exists: bool,
    pub(crate) sets: BTreeMap<Name, Filled>,
    pub(crate) chains: BTreeMap<Name, (Chain, Vec<Rule>)>,
    pub(crate) counters: BTreeSet<Name>,
}

/// What the look-up that does not know policy routing says of a packet's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    OfThisHost(AddressKind),
    Unicast,
    /// Found in no table that is asked; another may forward it.
    NoRoute,
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub(crate) struct Way<'a> {
    pub(crate) packet: &'a Packet,
    pub(crate) input: &'a str,
    pub(crate) output: &'a str,
    pub(crate) mark: u32,
    pub(crate) tracked: bool,
    pub(crate) destination: Destination,
    /// Whether its destination was rewritten.
    pub(crate) translated: bool,
    /// Hop limit and bytes behind the header, of IPv6.
    pub(crate) hops: u8,
    pub(crate) length: u16,
    /// What connection tracking says; `None` where no test asks.
    pub(crate) state: Option<ConnectionState>,
    /// Whether it begins a TCP connection.
    pub(crate) syn: bool,
    /// The ends of the flow that it belongs to or is about.
    pub(crate) flow: Option<[IpAddr; 2]>,
    /// What a neighbour advertisement is about.
    pub(crate) target: IpAddr,
    /// What the sender of ARP says of itself; `None` in other packets.
    pub(crate) arp: Option<Ipv4Addr>,
}

impl<'a> Way<'a> {
    /// A packet that is forwarded, without a mark.
    pub(crate) const fn through(packet: &'a Packet, input: &'a str, output: &'a str) -> Self {
        Self {
            packet,
            input,
            output,
            mark: 0,
            tracked: true,
            destination: Destination::Unicast,
            translated: false,
            hops: 64,
            length: 32,
            state: None,
            syn: false,
            flow: None,
            target: packet.source,
            arp: None,
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) dropped: bool,
    pub(crate) counted: Vec<String>,
    pub(crate) logged: Vec<String>,
    /// Whether its sender gets a reset.
    pub(crate) reset: bool,
}

enum End {
    Over,
    Back,
    Dropped,
}

impl Table {
    pub(crate) fn apply(&mut self, commands: &[Command]) {
        for command in commands {
            self.one(command).unwrap_or_else(|reason| panic!("{command:?}: {reason}"));
        }
        for (name, (_, rules)) in &self.chains {
            for part in rules.iter().flat_map(|rule| &rule.parts) {
                for chain in targets(part) {
                    assert!(self.chains.contains_key(chain), "{name} leads to {chain}, which is gone");
                }
            }
        }
    }

    fn one(&mut self, command: &Command) -> Result<(), String> {
        let want = |holds: bool, reason: &str| if holds { Ok(()) } else { Err(reason.to_owned()) };
        match command {
            Command::AddTable(_) => self.exists = true,
            Command::DeleteTable(family) => {
                want(self.exists, "no table")?;
                let stays = |name: &Name| Family::of(name) != *family;
                self.sets.retain(|name, _| stays(name));
                self.chains.retain(|name, _| stays(name));
                self.counters.retain(stays);
            }
            Command::AddCounter(name) => drop(self.counters.insert(name.clone())),
            Command::DeleteCounter(name) => {
                want(!self.parts().any(|part| matches!(part, Part::Count(used) if used == name)), "in use")?;
                want(self.counters.remove(name), "no such counter")?;
            }
            Command::AddSet(set) => {
                let again = self.sets.get(&set.name);
                let lasting = matches!(set.kind, SetKind::Timed(0) | SetKind::Budgets);
                let stays = again.is_none_or(|(old, _)| old == set && lasting);
                want(self.exists && stays, "a set is made twice")?;
                self.sets.entry(set.name.clone()).or_insert((set.clone(), BTreeMap::new()));
            }
            Command::DeleteSet(name) => {
                let uses = |part: &Part| matches!(part, Part::In(_, set) | Part::NotIn(_, set) | Part::Dispatch(_, set) | Part::Budget(_, set, _) if set == name);
                want(!self.parts().any(uses), "in use")?;
                want(self.sets.remove(name).is_some(), "no such set")?;
            }
            Command::AddChain(chain) => {
                let old = self.chains.entry(chain.name.clone()).or_insert((chain.clone(), Vec::new()));
                want(old.0.hook == chain.hook, "the chain is there with another hook")?;
            }
            Command::FlushChain(name) => self.chains.get_mut(name).ok_or("no such chain")?.1.clear(),
            Command::DeleteChain(name) => {
                let leads = |target: &Option<Target>| target.as_ref().and_then(chain_of) == Some(name);
                let in_map = self.sets.values().any(|(_, elements)| elements.values().any(leads));
                want(!in_map && !self.parts().flat_map(targets).any(|to| to == name), "in use")?;
                self.chains.remove(name).ok_or("no such chain")?;
            }
            Command::AddRule(rule) => {
                for part in &rule.parts {
                    match part {
                        Part::In(key, set) | Part::NotIn(key, set) => {
                            let (set, _) = self.sets.get(set).ok_or("no such set")?;
                            want(
                                set.kind != SetKind::Verdicts && set.key.len() == key.len(),
                                "not such a set",
                            )?;
                        }
                        Part::Dispatch(key, map) => {
                            let (set, _) = self.sets.get(map).ok_or("no such map")?;
                            want(
                                set.kind == SetKind::Verdicts && set.key.len() == key.len(),
                                "not such a map",
                            )?;
                        }
                        Part::Count(name) => want(self.counters.contains(name), "no such counter")?,
                        Part::Log(_, prefix) => want(prefix.len() < 128, "long prefix")?,
                        other => {
                            want(targets(other).all(|to| self.chains.contains_key(to)), "no such chain")?
                        }
                    }
                }
                want(rule.comment.as_ref().is_none_or(|comment| comment.len() < 128), "long comment")?;
                self.chains.get_mut(&rule.chain).ok_or("no such chain")?.1.push(rule.clone());
            }
            Command::AddElements(change) => {
                for element in &change.elements {
                    let chain = element.target.as_ref().and_then(chain_of);
                    want(chain.is_none_or(|chain| self.chains.contains_key(chain)), "no such chain")?;
                }
                let (set, elements) = self.sets.get_mut(&change.set).ok_or("no such set")?;
                let timed = |kind| matches!(kind, SetKind::Timed(_));
                let same = set.kind == change.kind || timed(set.kind) && timed(change.kind);
                want(set.key == change.key && same, "another kind of set")?;
                for element in &change.elements {
                    let old = elements.insert(element.key.clone(), element.target.clone());
                    want(old.is_none_or(|old| old == element.target), "there with another target")?;
                }
            }
            Command::DeleteElements(change) => {
                let (set, elements) = self.sets.get_mut(&change.set).ok_or("no such set")?;
                want(set.kind != SetKind::Ranges, "ranges never change")?;
                for element in &change.elements {
                    let old =
                        elements.remove(&element.key).ok_or_else(|| format!("no element {element:?}"))?;
                    want(old == element.target, "has another target")?;
                }
            }
        }
        Ok(())
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.chains.values().flat_map(|(_, rules)| rules).flat_map(|rule| &rule.parts)
    }

    /// Sends a packet through a hooked chain; a chain that is not there passes everything.
    pub(crate) fn run(&self, chain: &str, way: &mut Way<'_>) -> Fate {
        let mut fate = Fate::default();
        if self.chains.contains_key(chain)
            && let End::Dropped = self.chain(&chain.into(), way, &mut fate, 0)
        {
            fate.dropped = true;
        }
        fate
    }

    fn chain(&self, name: &Name, way: &mut Way<'_>, fate: &mut Fate, depth: usize) -> End {
        assert!(depth < 16, "jumps too deep");
        let (_, rules) = &self.chains[name];
        for rule in rules {
            let target = rule.parts.iter().try_fold(None, |_, part| self.part(part, way, fate));
            match target.flatten() {
                None => {}
                Some(Target::Accept) => return End::Over,
                Some(Target::Drop) => return End::Dropped,
                Some(Target::Return) => return End::Back,
                Some(Target::Goto(to)) => return self.chain(&to, way, fate, depth),
                Some(Target::Jump(to)) => match self.chain(&to, way, fate, depth + 1) {
                    End::Back => {}
                    end => return end,
                },
            }
        }
        End::Back
    }

    /// `None` when the part does not match, else where it leads, if it does.
    fn part(&self, part: &Part, way: &mut Way<'_>, fate: &mut Fate) -> Option<Option<Target>> {
        let is = |holds: bool| holds.then_some(None);
        match part {
            Part::Is(field, value) => is(within(&value_of(*field, way)?, value)),
            Part::In(key, set) | Part::Dispatch(key, set) => {
                let values: Vec<Value> = key.iter().map(|f| value_of(*f, way)).collect::<Option<_>>()?;
                let (set, elements) = &self.sets[set];
                let found = if set.kind == SetKind::Ranges {
                    elements.iter().find(|(key, _)| within(&values[0], &key[0])).map(|(_, target)| target)
                } else {
                    elements.get(&values)
                };
                found.cloned()
            }
            Part::NotIn(key, set) => {
                let known = self.part(&Part::In(key.clone(), set.clone()), way, fate);
                // A field that the packet does not have matches nothing.
                key.iter().all(|f| value_of(*f, way).is_some()).then_some(known.is_none()).and_then(is)
            }
            Part::Switch(field, cases) => {
                let value = value_of(*field, way)?;
                cases.iter().find(|(case, _)| within(&value, case)).map(|(_, target)| Some(target.clone()))
            }
            Part::DestinationIsNot(kind) => is(way.destination != Destination::OfThisHost(*kind)),
            Part::IsTranslated => is(way.translated),
            Part::HasMark(bits) => is(way.mark & bits == *bits),
            Part::SetMark(bits) => {
                way.mark |= bits;
                Some(None)
            }
            Part::ClearMark(bits) => {
                way.mark &= !bits;
                Some(None)
            }
            Part::NoTrack => {
                way.tracked = false;
                Some(None)
            }
            Part::Count(name) => {
                // Events are those of a decision that counts, too.
                if *name != crate::lower::base_chains::EVENTS {
                    fate.counted.push(name.to_string());
                }
                Some(None)
            }
            Part::Log(_, prefix) => {
                fate.logged.push(prefix.clone());
                Some(None)
            }
            // Nobody asks often here.
            Part::Budget(..) => Some(None),
            Part::BeginsTcp => is(packet_is_syn(way)),
            Part::Reset => {
                fate.reset = true;
                Some(Some(Target::Drop))
            }
            Part::Go(target) => Some(Some(target.clone())),
        }
    }
}

fn packet_is_syn(way: &Way<'_>) -> bool {
    way.packet.protocol == Protocol::TCP && way.syn
}

fn within(value: &Value, range: &Value) -> bool {
    match (value, range) {
        (Value::Address(a), Value::Addresses(first, last)) => first <= a && a <= last,
        (Value::Number(n), Value::Numbers(first, last)) => first <= n && n <= last,
        (Value::Interface(name), Value::InterfacePrefix(prefix)) => name.starts_with(prefix.as_str()),
        (value, range) => value == range,
    }
}

fn value_of(field: Field, way: &Way<'_>) -> Option<Value> {
    let packet = way.packet;
    let of = |address: IpAddr, version| {
        let address = canonical(address);
        (IpVersion::of(&address) == version).then_some(Value::Address(address))
    };
    let icmp = || packet.icmp.filter(|_| matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6));
    Some(match field {
        Field::Family => Value::Family(packet.version()),
        Field::InputInterface => Value::Interface(way.input.into()),
        Field::OutputInterface => Value::Interface(way.output.into()),
        Field::Source(version) => of(packet.source, version)?,
        Field::Destination(version) => of(packet.destination, version)?,
        Field::Protocol => Value::Number(packet.protocol.0.into()),
        Field::SourcePort => Value::Number(packet.source_port),
        Field::DestinationPort => Value::Number(packet.destination_port),
        Field::IcmpType => Value::Number(icmp()?.kind.into()),
        Field::IcmpCode => Value::Number(icmp()?.code.into()),
        Field::HopLimit | Field::PayloadLength if packet.version() == IpVersion::V4 => return None,
        Field::HopLimit => Value::Number(way.hops.into()),
        Field::PayloadLength => Value::Number(way.length),
        Field::Initiator(version) => of(way.flow?[0], version)?,
        Field::Responder(version) => of(way.flow?[1], version)?,
        Field::NeighbourTarget => Value::Address(way.target),
        Field::ArpHardwareLength => Value::Number(way.arp.map(|_| 6)?),
        Field::ArpSender => Value::Address(way.arp?.into()),
        Field::ConnectionState => Value::State(way.state?),
    })
}

fn chain_of(target: &Target) -> Option<&Name> {
    match target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        _ => None,
    }
}

fn targets(part: &Part) -> impl Iterator<Item = &Name> {
    let targets: Vec<&Target> = match part {
        Part::Go(target) => vec![target],
        Part::Switch(_, cases) => cases.iter().map(|(_, target)| target).collect(),
        _ => Vec::new(),
    };
    targets.into_iter().filter_map(chain_of)
}
