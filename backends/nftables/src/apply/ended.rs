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
    written: BTreeSet<Direction>,
    /// The same in the order in which they were written, with the time at which the kernel forgets them.
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
/// An element that the kernel forgets within this time is not deleted, because it may be gone by then.
const MARGIN: Duration = Duration::from_secs(10);

impl EndedFlows {
    /// The commands that keep `flows` ended for so many seconds.
    ///
    /// Answers are kept from beginning a flow of their own. What the first end sends is for policy to decide, which denies it
    /// until it changes; only where TCP is reset, that end learns of it, too.
    pub(crate) fn note(&mut self, flows: &[Flow], ended: Ended, seconds: u32) -> Vec<Command> {
        let mut adding: BTreeMap<Name, Elements> = BTreeMap::new();
        let mut deleting: BTreeMap<Name, Elements> = BTreeMap::new();
        let now = Instant::now();
        let until = now + Duration::from_secs(seconds.into());
        for flow in flows {
            let resets = ended == Ended::Reset && flow.first.protocol == Protocol::TCP;
            for tuple in [Some(flow.answer), Some(flow.first).filter(|_| resets)].into_iter().flatten() {
                let Some(direction) = direction(&tuple.packet()) else { continue };
                if self.written.insert(direction.clone()) {
                    self.order.push_back((until, direction.clone()));
                    put(&mut adding, direction, SetKind::Timed(seconds));
                }
            }
        }
        while let Some((until, _)) = self.order.front() {
            let is_gone = *until < now + MARGIN;
            if !is_gone && self.order.len() <= MOST {
                break;
            }
            let Some((_, direction)) = self.order.pop_front() else { break };
            self.written.remove(&direction);
            if is_gone {
                continue;
            }
            put(&mut deleting, direction, SetKind::Timed(seconds));
        }
        let adding = adding.into_values().map(Command::AddElements);
        adding.chain(deleting.into_values().map(Command::DeleteElements)).collect()
    }

    /// Forgets what was written, because the table is gone or somebody changed it.
    pub(crate) fn forget(&mut self) {
        self.written.clear();
        self.order.clear();
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
