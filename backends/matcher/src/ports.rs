//! L4 tables: from protocol and ports to a decision.

use alloc::sync::Arc;
use alloc::vec::Vec;

use portcullis_core::ir::{DecisionId, Id, L4Table, PortMap};
use portcullis_core::packet::Protocol;

/// A lowered L4 table: one cache line when eight intervals suffice, else sorted arrays.
#[derive(Clone, Debug, Default)]
pub(crate) enum Ports {
    /// No table has this id.
    #[default]
    Vacant,
    /// One decision for everything.
    One(DecisionId),
    /// Intervals over `protocol << 16 | key`: the last point of each, and what holds there.
    Few(Arc<Line>),
    /// The same, more of them.
    Many { lasts: Arc<[u32]>, decisions: Arc<[DecisionId]> },
    /// Source ports matter: intervals over `protocol << 16 | source port`, then over the key.
    Sourced { lasts: Arc<[u32]>, keys: Arc<[Ports]> },
}

#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Line {
    lasts: [u32; 8],
    decisions: [DecisionId; 8],
}

impl Ports {
    /// `None` when a map of the table does not cover every key.
    pub(crate) fn lower(table: &L4Table) -> Option<Self> {
        let sourced = table.protocols.iter().any(|(_, sources)| sources.len() != 1);
        let mut flat = Intervals::default();
        let mut keys = Vec::new();
        let mut lasts = Vec::new();
        for protocol in 0..=u8::MAX {
            let listed = table.protocols.binary_search_by_key(&Protocol(protocol), |(p, _)| *p).ok();
            let sources = listed.and_then(|at| table.protocols.get(at)).map(|(_, sources)| sources);
            match (sources, sourced) {
                (None, false) => flat.push(point(protocol, u16::MAX), table.other),
                (None, true) => {
                    lasts.push(point(protocol, u16::MAX));
                    keys.push(Self::One(table.other));
                }
                (Some(sources), false) => flat.push_map(protocol, &sources.first()?.keys)?,
                (Some(sources), true) => {
                    if sources.last()?.last != u16::MAX {
                        return None;
                    }
                    for source in sources {
                        let mut map = Intervals::default();
                        map.push_map(protocol, &source.keys)?;
                        lasts.push(point(protocol, source.last));
                        keys.push(map.lower());
                    }
                }
            }
        }
        Some(if sourced { Self::Sourced { lasts: lasts.into(), keys: keys.into() } } else { flat.lower() })
    }

    #[inline]
    pub(crate) fn decision(&self, protocol: Protocol, source_port: u16, key: u16) -> Option<DecisionId> {
        match self {
            Self::Sourced { lasts, keys } => {
                let at = point(protocol.0, source_port);
                keys.get(lasts.partition_point(|last| *last < at))?.plain(point(protocol.0, key))
            }
            _ => self.plain(point(protocol.0, key)),
        }
    }

    #[inline]
    fn plain(&self, point: u32) -> Option<DecisionId> {
        match self {
            Self::One(decision) => Some(*decision),
            Self::Few(line) => {
                let before = line.lasts.iter().map(|last| usize::from(*last < point));
                line.decisions.get(before.fold(0, usize::wrapping_add)).copied()
            }
            Self::Many { lasts, decisions } => {
                decisions.get(lasts.partition_point(|last| *last < point)).copied()
            }
            Self::Vacant | Self::Sourced { .. } => None,
        }
    }
}

#[derive(Default)]
struct Intervals {
    lasts: Vec<u32>,
    decisions: Vec<DecisionId>,
}

impl Intervals {
    fn push(&mut self, last: u32, decision: DecisionId) {
        match self.lasts.last_mut() {
            Some(open) if self.decisions.last() == Some(&decision) => *open = last,
            _ => {
                self.lasts.push(last);
                self.decisions.push(decision);
            }
        }
    }

    fn push_map(&mut self, protocol: u8, map: &PortMap) -> Option<()> {
        for interval in &map.0 {
            self.push(point(protocol, interval.last), interval.decision);
        }
        (map.0.last()?.last == u16::MAX).then_some(())
    }

    fn lower(self) -> Ports {
        let first = self.decisions.first().copied().unwrap_or(DecisionId::new(u32::MAX));
        if self.decisions.len() == 1 {
            return Ports::One(first);
        }
        if self.decisions.len() > 8 {
            return Ports::Many { lasts: self.lasts.into(), decisions: self.decisions.into() };
        }
        let mut line = Line { lasts: [u32::MAX; 8], decisions: [first; 8] };
        for (slot, last) in line.lasts.iter_mut().zip(&self.lasts) {
            *slot = *last;
        }
        for (slot, decision) in line.decisions.iter_mut().zip(&self.decisions) {
            *slot = *decision;
        }
        Ports::Few(Arc::new(line))
    }
}

fn point(protocol: u8, low: u16) -> u32 {
    u32::from(protocol).wrapping_shl(16) | u32::from(low)
}
