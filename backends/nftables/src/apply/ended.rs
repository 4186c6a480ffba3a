//! Flows that were ended: what the table has to know so that they stay ended.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::time::Duration;
use std::time::Instant;

use portcullis_conntrack::Flow;
use portcullis_core::backend::Ended;
use portcullis_core::label::Name;
use portcullis_core::packet::{Packet, Protocol};

use crate::command::{Command, Element, Elements, Field, SetKind, Value};
use crate::lower::base_chains::WITH_PORTS;
use crate::lower::base_names::{BaseNames, Ports};

/// The directions that this process wrote into the table. Those of an earlier process go with their time.
#[derive(Debug, Default)]
pub(crate) struct EndedFlows {
    /// With the time at which the kernel forgets them.
    written: BTreeMap<Direction, Instant>,
    /// The same in the order in which they were written last. One that was written again is here twice: the time tells which
    /// counts.
    order: VecDeque<(Instant, Direction)>,
}

/// An element of a set of [`BaseNames::ended`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Direction {
    set: Name,
    fields: Vec<Field>,
    key: Vec<Value>,
}

/// Most directions that are kept: the oldest go when there are more.
const MOST: usize = 65_536;
/// Whether an element is there is not certain for so long before and after its time.
const MARGIN: Duration = Duration::from_secs(10);
/// Entries that may be kept for nothing.
const SPARE: usize = 64;

/// What keeps flows ended.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// For the directions that were not written, or are gone.
    pub(crate) commands: Vec<Command>,
    /// For those that may be there still, each by itself: the kernel keeps the time of an element that is added once more (Linux
    /// before 6.12), so it is deleted first, which the kernel refuses when its time is over.
    pub(crate) renewals: Vec<[Command; 2]>,
}

impl EndedFlows {
    /// The commands that keep `flows` ended for so many seconds from now.
    ///
    /// Answers are kept from beginning a flow of their own. What the first end sends is for policy to decide, which denies it
    /// until it changes; only where TCP is reset, that end learns of it, too.
    pub(crate) fn note(&mut self, flows: &[Flow], ended: Ended, seconds: u32, now: Instant) -> Noted {
        let packets = flows.iter().map(|flow| [flow.first.packet(), flow.answer.packet()]);
        self.note_packets(packets, ended, seconds, now)
    }

    /// The same by a packet of each direction, as it arrives.
    fn note_packets(
        &mut self,
        flows: impl IntoIterator<Item = [Packet; 2]>,
        ended: Ended,
        seconds: u32,
        now: Instant,
    ) -> Noted {
        let mut adding: BTreeMap<Name, Elements> = BTreeMap::new();
        let mut deleting: BTreeMap<Name, Elements> = BTreeMap::new();
        let mut renewals = Vec::new();
        let kind = SetKind::Timed(seconds);
        let until = now + Duration::from_secs(seconds.into());
        let mut noted = BTreeSet::new();
        for [first, answer] in flows {
            let resets = ended == Ended::Reset && first.protocol == Protocol::TCP;
            for packet in [Some(answer), Some(first).filter(|_| resets)].into_iter().flatten() {
                let Some(direction) = direction(&packet) else { continue };
                if !noted.insert(direction.clone()) {
                    continue;
                }
                let before = self.written.insert(direction.clone(), until);
                self.order.push_back((until, direction.clone()));
                match before {
                    Some(before) if now < before + MARGIN => {
                        let one = direction.with(kind);
                        renewals.push([Command::DeleteElements(one.clone()), Command::AddElements(one)]);
                    }
                    _ => put(&mut adding, direction, kind),
                }
            }
        }
        while let Some((until, direction)) = self.order.front() {
            let counts = self.written.get(direction) == Some(until);
            let (is_gone, is_there) = (*until + MARGIN < now, *until > now + MARGIN);
            if counts && !is_gone && self.written.len() <= MOST {
                break;
            }
            let Some((_, direction)) = self.order.pop_front() else { break };
            if counts {
                self.written.remove(&direction);
                if is_there {
                    put(&mut deleting, direction, kind);
                }
            }
        }
        // Those that were written again stand behind one that has much time left.
        if self.order.len() > self.written.len().saturating_mul(2).saturating_add(SPARE) {
            self.order.retain(|(until, direction)| self.written.get(direction) == Some(until));
        }
        let adding = adding.into_values().map(Command::AddElements);
        let commands = adding.chain(deleting.into_values().map(Command::DeleteElements)).collect();
        Noted { commands, renewals }
    }

    /// What brings back all directions whose time is not over, for so many seconds from now: for sets that may have lost some.
    pub(crate) fn again(&mut self, seconds: u32, now: Instant) -> Vec<Command> {
        self.written.retain(|_, until| *until > now);
        let until = now + Duration::from_secs(seconds.into());
        self.written.values_mut().for_each(|time| *time = until);
        self.order = self.written.keys().map(|direction| (until, direction.clone())).collect();
        let mut adding: BTreeMap<Name, Elements> = BTreeMap::new();
        for direction in self.written.keys() {
            put(&mut adding, direction.clone(), SetKind::Timed(seconds));
        }
        adding.into_values().map(Command::AddElements).collect()
    }

    /// Those that a set certainly holds.
    pub(crate) fn certain(&self, set: &Name, key: &[Field], now: Instant) -> Elements {
        let there = self.written.iter().filter(|(one, until)| one.set == *set && **until > now + MARGIN);
        let elements = there.map(|(one, _)| Element { key: one.key.clone(), target: None }).collect();
        Elements { set: set.clone(), key: key.to_vec(), kind: SetKind::Timed(0), elements }
    }

    /// Forgets what was written, because the table was taken away.
    pub(crate) fn forget(&mut self) {
        self.written.clear();
        self.order.clear();
    }
}

impl Direction {
    fn with(self, kind: SetKind) -> Elements {
        let Self { set, fields, key } = self;
        Elements { set, key: fields, kind, elements: vec![Element { key, target: None }] }
    }
}

fn put(into: &mut BTreeMap<Name, Elements>, direction: Direction, kind: SetKind) {
    let Direction { set, fields, key } = direction;
    let empty = || Elements { set: set.clone(), key: fields, kind, elements: Vec::new() };
    into.entry(set.clone()).or_insert_with(empty).elements.push(Element { key, target: None });
}

/// `None` for ICMP: only a request begins a flow of it, and that is policy's to decide.
fn direction(packet: &Packet) -> Option<Direction> {
    if matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6) {
        return None;
    }
    let ports = if WITH_PORTS.contains(&packet.protocol.0) { Ports::Some } else { Ports::None };
    let (set, fields) = BaseNames::ended(packet.version(), ports);
    let protocol = Value::Number(packet.protocol.0.into());
    let (source, destination) = (Value::Address(packet.source), Value::Address(packet.destination));
    let key = match ports {
        Ports::Some => vec![
            protocol,
            source,
            Value::Number(packet.source_port),
            destination,
            Value::Number(packet.destination_port),
        ],
        Ports::None => vec![protocol, source, destination],
    };
    Some(Direction { set, fields, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> [Packet; 2] {
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let first = Packet::new(one, other, Protocol::TCP).from_port(port).to_port(80);
        [first, Packet::new(other, one, Protocol::TCP).from_port(80).to_port(port)]
    }

    fn after(seconds: u64) -> Instant {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BEGIN.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    fn counts(ended: &EndedFlows, at: u64) -> [usize; 2] {
        let (set, key) = BaseNames::ended(portcullis_core::net::IpVersion::V4, Ports::Some);
        [ended.certain(&set, &key, after(at)).elements.len(), ended.order.len()]
    }

    #[test]
    fn a_direction_that_is_ended_again_gets_its_whole_time_again() {
        let mut ended = EndedFlows::default();
        let note =
            |ended: &mut EndedFlows, port, at| ended.note_packets([flow(port)], Ended::Drop, 100, after(at));
        let first = note(&mut ended, 1, 0);
        assert_eq!((first.commands.len(), first.renewals.len()), (1, 0));
        let again = note(&mut ended, 1, 60);
        assert_eq!((again.commands.len(), again.renewals.len()), (0, 1));
        assert!(matches!(again.renewals[0], [Command::DeleteElements(_), Command::AddElements(_)]));
        // It is there for as long as it was told last.
        assert_eq!(counts(&ended, 120)[0], 1);
        assert_eq!(counts(&ended, 155)[0], 0);
        // Once gone for certain, it is new; around that time it may be there.
        assert_eq!(note(&mut ended, 1, 165).renewals.len(), 1);
        assert_eq!(note(&mut ended, 1, 280).commands.len(), 1);
        // However often it is ended, nothing grows, also behind one that was not.
        let _ = ended.note_packets([flow(2)], Ended::Drop, 100_000, after(280));
        for at in 281..2_000 {
            let _ = note(&mut ended, 1, at);
        }
        assert!(counts(&ended, 2_000)[1] < 100, "{:?}", counts(&ended, 2_000));
    }

    #[test]
    fn what_was_written_can_be_written_again() {
        let mut ended = EndedFlows::default();
        ended.note_packets([flow(1), flow(2)], Ended::Reset, 100, after(0));
        let [Command::AddElements(all)] = &ended.again(100, after(50))[..] else { panic!() };
        assert_eq!((all.elements.len(), all.kind), (4, SetKind::Timed(100)));
        assert_eq!(counts(&ended, 130), [4, 4]);
        assert!(ended.again(100, after(151)).is_empty());
    }
}
