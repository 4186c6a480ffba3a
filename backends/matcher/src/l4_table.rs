//! L4 tables: from protocol and ports to an answer.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::ir::{DecisionId, Interval, L4Table, PortMap, SourceInterval};
use portcullis_core::packet::Protocol;

use crate::answer::Answer;
use crate::cow_vec::index;

/// A lowered L4 table: one cache line with up to eight intervals over `protocol << 16 | key`. A larger one says
/// [`Answer::ELSEWHERE`] for everything.
///
/// The answer is the sum, by exclusive or, of the steps whose start is not behind the point: eight comparisons at
/// once, no branch and no second read.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct InlineTable {
    /// One less than the first point of each interval. Points have 24 bits; signed numbers compare faster.
    starts: [i32; INLINE],
    /// From the answer of the interval before to that of this one.
    steps: [u32; INLINE],
}

/// No table, or one that is not in one cache line.
impl Default for InlineTable {
    fn default() -> Self {
        Self::new(&[(0, Answer::ELSEWHERE)])
    }
}

/// A table with more intervals, or one that looks at source ports.
#[derive(Clone, Debug)]
pub(crate) struct OverflowTable {
    form: Form,
    /// The decisions that it names.
    decisions: Vec<DecisionId>,
}

#[derive(Clone, Debug)]
enum Form {
    Plain(Blocks),
    /// Source ports matter: intervals over `protocol << 16 | source port`, each with its place in `keys`.
    Sourced {
        lasts: Vec<u32>,
        places: Vec<u32>,
        keys: Vec<Keys>,
    },
}

#[derive(Clone, Debug)]
enum Keys {
    Inline(InlineTable),
    Blocks(Blocks),
}

/// Answers by protocol, then by the upper ten bits of the key, then by the lower six: as quick for ten thousand
/// intervals as for ten. A block with one answer for all keys exists once.
#[derive(Clone, Debug)]
struct Blocks {
    /// Which run of [`BLOCKS`] entries in `blocks` each protocol has; the first when it is not listed.
    runs: Vec<u16>,
    blocks: Vec<u32>,
    answers: Vec<[Answer; KEYS]>,
}

impl InlineTable {
    /// From the last point of each interval, in order, and its answer; the first eight. Behind the last one its
    /// answer goes on.
    fn new(intervals: &[(u32, Answer)]) -> Self {
        let mut inline = Self { starts: [i32::MAX; INLINE], steps: [0; INLINE] };
        let (mut start, mut before) = (-1, 0);
        for ((slot, step), (last, answer)) in inline.starts.iter_mut().zip(&mut inline.steps).zip(intervals) {
            (*slot, *step) = (start, before ^ answer.bits());
            (start, before) = (i32::try_from(*last).unwrap_or(i32::MAX), answer.bits());
        }
        inline
    }

    #[inline]
    pub(crate) fn answer(&self, protocol: Protocol, key: u16) -> Answer {
        let point = i32::from(protocol.0).wrapping_shl(16) | i32::from(key);
        let steps = self.starts.iter().zip(&self.steps);
        Answer::from_bits(steps.fold(0, |sum, (start, step)| sum ^ if *start < point { *step } else { 0 }))
    }

    /// The last point of each interval and its answer.
    fn intervals(&self) -> Vec<(u32, Answer)> {
        let used = self.starts.iter().zip(&self.steps).take_while(|(start, _)| **start != i32::MAX);
        let mut sum = 0;
        let answers = used.map(|(_, step)| {
            sum ^= step;
            Answer::from_bits(sum)
        });
        let lasts = self.starts.iter().skip(1).copied().chain([i32::MAX]);
        lasts.map(i32::cast_unsigned).zip(answers).collect()
    }

    /// Whether the whole table is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.steps.first() != Some(&Answer::ELSEWHERE.bits())
    }

    /// The decisions that it names, some several times.
    pub(crate) fn decisions(&self) -> impl Iterator<Item = DecisionId> {
        self.intervals().into_iter().filter_map(|(_, answer)| answer.decision())
    }

    /// Repeats the answers of altered decisions.
    pub(crate) fn repeat(&mut self, altered: &[(DecisionId, Answer)]) {
        let mut intervals = self.intervals();
        intervals.iter_mut().for_each(|(_, answer)| repeat(answer, altered));
        *self = Self::new(&intervals);
    }
}

impl OverflowTable {
    #[inline(never)]
    pub(crate) fn answer(&self, protocol: Protocol, source_port: u16, key: u16) -> Option<Answer> {
        match &self.form {
            Form::Plain(blocks) => blocks.answer(protocol, key),
            Form::Sourced { lasts, places, keys } => {
                let at = point(protocol.0, source_port);
                match keys.get(index(*places.get(lasts.partition_point(|last| *last < at))?))? {
                    Keys::Inline(inline) => Some(inline.answer(protocol, key)),
                    Keys::Blocks(blocks) => blocks.answer(protocol, key),
                }
            }
        }
    }

    /// The decisions that the table names.
    pub(crate) fn decisions(&self) -> impl Iterator<Item = DecisionId> {
        self.decisions.iter().copied()
    }

    /// Repeats the answers of altered decisions.
    pub(crate) fn repeat(&mut self, altered: &[(DecisionId, Answer)]) {
        let keys = match &mut self.form {
            Form::Plain(blocks) => return blocks.repeat(altered),
            Form::Sourced { keys, .. } => keys,
        };
        for keys in keys {
            match keys {
                Keys::Inline(inline) => inline.repeat(altered),
                Keys::Blocks(blocks) => blocks.repeat(altered),
            }
        }
    }
}

fn repeat(answer: &mut Answer, altered: &[(DecisionId, Answer)]) {
    if let Some((_, now)) = altered.iter().find(|(id, _)| answer.decision() == Some(*id)) {
        *answer = *now;
    }
}

impl Blocks {
    fn repeat(&mut self, altered: &[(DecisionId, Answer)]) {
        self.answers.iter_mut().flatten().for_each(|answer| repeat(answer, altered));
    }

    fn answer(&self, protocol: Protocol, key: u16) -> Option<Answer> {
        let run = self.runs.get(usize::from(protocol.0)).map_or(0, |run| usize::from(*run));
        let upper = usize::from(key.wrapping_shr(KEY_BITS));
        let block = *self.blocks.get(run.wrapping_mul(BLOCKS).wrapping_add(upper))?;
        self.answers.get(index(block))?.get(usize::from(key) & KEYS.wrapping_sub(1)).copied()
    }
}

/// What gives the answer that carries a decision; `None` when there is no such decision.
pub(crate) trait Answers: Fn(DecisionId) -> Option<Answer> {}
impl<F: Fn(DecisionId) -> Option<Answer>> Answers for F {}

/// The inline table, and the overflow when it does not fit. `None` when a map of the table does not cover every key, or
/// names a decision that does not exist.
pub(crate) fn lower(
    table: &L4Table,
    answers: &impl Answers,
) -> Option<(InlineTable, Option<Arc<OverflowTable>>)> {
    let other = answers(table.other)?;
    for map in table.port_maps().into_iter().map(PortMap::intervals) {
        if map.last()?.last != u16::MAX || map.iter().any(|interval| answers(interval.decision).is_none()) {
            return None;
        }
    }
    let large = |form| {
        let mut decisions: Vec<_> = table.decisions().collect();
        decisions.sort_unstable();
        decisions.dedup();
        Some((InlineTable::default(), Some(Arc::new(OverflowTable { form, decisions }))))
    };
    if table.protocols.iter().any(|(_, sources)| sources.len() != 1) {
        return large(sourced(table, other, answers)?);
    }
    let mut flat = Intervals::default();
    for protocol in 0..=u8::MAX {
        match sources(table, protocol).and_then(<[_]>::first) {
            Some(source) => flat.push_map(protocol, &source.keys, answers)?,
            None => flat.push(point(protocol, u16::MAX), other),
        }
    }
    if let Some(inline) = flat.inline() {
        return Some((inline, None));
    }
    let mut blocks = Blocks { runs: vec![0; 256], blocks: Vec::new(), answers: Vec::new() };
    let mut constants = BTreeMap::new();
    blocks.add_run(&[], other, &mut constants, answers)?;
    for (run, (protocol, sources)) in (1..).zip(&table.protocols) {
        blocks.add_run(sources.first()?.keys.intervals(), other, &mut constants, answers)?;
        *blocks.runs.get_mut(usize::from(protocol.0))? = run;
    }
    large(Form::Plain(blocks))
}

fn sources(table: &L4Table, protocol: u8) -> Option<&[SourceInterval]> {
    let at = table.protocols.binary_search_by_key(&Protocol(protocol), |(p, _)| *p).ok()?;
    table.protocols.get(at).map(|(_, sources)| &**sources)
}

fn sourced(table: &L4Table, other: Answer, answers: &impl Answers) -> Option<Form> {
    let (mut lasts, mut places) = (Vec::new(), Vec::new());
    // The first is for protocols without a map of their own.
    let mut keys = vec![Keys::Inline(InlineTable::new(&[(0, other)]))];
    for protocol in 0..=u8::MAX {
        let Some(sources) = sources(table, protocol) else {
            lasts.push(point(protocol, u16::MAX));
            places.push(0);
            continue;
        };
        if sources.last()?.last != u16::MAX {
            return None;
        }
        // An inline table has the protocol in it.
        let mut known: BTreeMap<&PortMap, u32> = BTreeMap::new();
        for source in sources {
            let place = match known.get(&source.keys) {
                Some(place) => *place,
                None => {
                    let place = u32::try_from(keys.len()).ok()?;
                    let mut flat = Intervals::default();
                    flat.push_map(protocol, &source.keys, answers)?;
                    keys.push(match flat.inline() {
                        Some(inline) => Keys::Inline(inline),
                        None => Keys::Blocks(Blocks::for_one(&source.keys, answers)?),
                    });
                    known.insert(&source.keys, place);
                    place
                }
            };
            lasts.push(point(protocol, source.last));
            places.push(place);
        }
    }
    Some(Form::Sourced { lasts, places, keys })
}

/// The last point of each interval, and what holds there.
#[derive(Default)]
struct Intervals(Vec<(u32, Answer)>);

impl Intervals {
    fn push(&mut self, last: u32, answer: Answer) {
        match self.0.last_mut() {
            Some((open, same)) if *same == answer => *open = last,
            _ => self.0.push((last, answer)),
        }
    }

    fn push_map(&mut self, protocol: u8, map: &PortMap, answers: &impl Answers) -> Option<()> {
        for interval in map.intervals() {
            self.push(point(protocol, interval.last), answers(interval.decision)?);
        }
        Some(())
    }

    /// The inline table, when eight intervals are enough.
    fn inline(&self) -> Option<InlineTable> {
        (self.0.len() <= INLINE).then(|| InlineTable::new(&self.0))
    }
}

impl Blocks {
    /// The same map for every protocol.
    fn for_one(map: &PortMap, answers: &impl Answers) -> Option<Self> {
        let mut blocks = Self { runs: Vec::new(), blocks: Vec::new(), answers: Vec::new() };
        blocks.add_run(map.intervals(), Answer::MISSING, &mut BTreeMap::new(), answers)?;
        Some(blocks)
    }

    /// A run of blocks with what `map` says; `other` behind the last interval of the map.
    fn add_run(
        &mut self,
        map: &[Interval],
        other: Answer,
        constants: &mut BTreeMap<Answer, u32>,
        answers: &impl Answers,
    ) -> Option<()> {
        let mut intervals = map.iter().peekable();
        for upper in 0..u16::try_from(BLOCKS).ok()? {
            let first = upper.wrapping_shl(KEY_BITS);
            let last = first | u16::try_from(KEYS).ok()?.wrapping_sub(1);
            while intervals.next_if(|interval| interval.last < first).is_some() {}
            let answer = |interval: Option<&&Interval>| interval.map_or(Some(other), |i| answers(i.decision));
            let (whole, start) = (intervals.peek().is_none_or(|i| i.last >= last), answer(intervals.peek())?);
            let next = u32::try_from(self.answers.len()).ok()?;
            if whole {
                let block = *constants.entry(start).or_insert(next);
                if block == next {
                    self.answers.push([start; KEYS]);
                }
                self.blocks.push(block);
                continue;
            }
            let mut block = [start; KEYS];
            for (key, slot) in (first..=last).zip(&mut block) {
                while intervals.next_if(|interval| interval.last < key).is_some() {}
                *slot = answer(intervals.peek())?;
            }
            self.blocks.push(next);
            self.answers.push(block);
        }
        Some(())
    }
}

fn point(protocol: u8, low: u16) -> u32 {
    u32::from(protocol).wrapping_shl(16) | u32::from(low)
}

/// Intervals of an inline table.
const INLINE: usize = 8;
/// Bits of the key within a block.
const KEY_BITS: u32 = 6;
/// Keys in a block.
const KEYS: usize = 64;
/// Blocks in a run.
const BLOCKS: usize = 1024;
