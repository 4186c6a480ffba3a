//! The table of attacks: what is sent, and who must or must not get it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use regex::Regex;

use crate::KNOWN;
use crate::node::patience;
use crate::taps::mark;
use crate::world::Who;

/// Where frames are sent and heard.
pub(crate) trait Wire {
    fn send(&self, from: Who, frame: &[u8]);

    /// Adds to each what it has heard since the last call.
    fn hear(&self, heard: &mut BTreeMap<Who, BTreeSet<usize>>);
}

/// What has to become of the frames of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nobody gets any of them.
    Dropped,
    /// This one gets it.
    Reaches(Who),
}

/// What becomes of them where nothing is enforced. An attack that does not arrive then says nothing of policy, but of
/// the kernel, and is kept because another kernel, or another setting of it, may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unguarded {
    Arrives,
    /// The kernel drops it by itself.
    KernelDrops,
    /// It depends on the kernel and its modules.
    Depends,
}

/// One attack, or one thing that has to work beside them.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// In its marks.
    number: usize,
    pub(crate) name: String,
    pub(crate) from: Who,
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) expected: Expected,
    pub(crate) unguarded: Unguarded,
}

/// The number of the next row.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The rows.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds an attack whose frames carry the mark that `frames` is given. Nobody may get it.
    pub(crate) fn attack(&mut self, name: String, from: Who, frames: impl FnOnce(&[u8]) -> Vec<Vec<u8>>) {
        self.add(name, from, Expected::Dropped, Unguarded::Arrives, frames);
    }

    /// Adds one that the kernel drops, too.
    pub(crate) fn dropped_anyway(
        &mut self,
        name: String,
        from: Who,
        frames: impl FnOnce(&[u8]) -> Vec<Vec<u8>>,
    ) {
        self.add(name, from, Expected::Dropped, Unguarded::KernelDrops, frames);
    }

    /// Adds what has to arrive.
    pub(crate) fn passes(
        &mut self,
        name: String,
        from: Who,
        to: Who,
        frames: impl FnOnce(&[u8]) -> Vec<Vec<u8>>,
    ) {
        self.add(name, from, Expected::Reaches(to), Unguarded::Arrives, frames);
    }

    pub(crate) fn add(
        &mut self,
        name: String,
        from: Who,
        expected: Expected,
        unguarded: Unguarded,
        frames: impl FnOnce(&[u8]) -> Vec<Vec<u8>>,
    ) {
        // No row of another table has it: a packet may be late.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let frames = frames(&mark(number));
        self.rows.push(Row { number, name, from, frames, expected, unguarded });
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Sends everything. For each row, who got it besides its sender.
    pub(crate) fn run(&self, wire: &impl Wire) -> Vec<BTreeSet<Who>> {
        let mut heard = BTreeMap::new();
        // What an earlier run left behind is not of this one.
        wire.hear(&mut heard);
        heard.clear();
        for row in &self.rows {
            row.frames.iter().for_each(|frame| wire.send(row.from, frame));
            wire.hear(&mut heard);
        }
        let end = Instant::now() + patience().min(Duration::from_millis(400));
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            wire.hear(&mut heard);
        }
        let got = |row: &Row| {
            let by = heard.iter().filter(|(_, rows)| rows.contains(&row.number)).map(|(who, _)| *who);
            // What those behind the second node send passes it.
            by.filter(|who| *who != row.from && !(passes_second(row.from) && *who == Who::Second)).collect()
        };
        self.rows.iter().map(got).collect()
    }
}

const fn passes_second(who: Who) -> bool {
    matches!(who, Who::Far | Who::Outside | Who::Stranger)
}

/// What was found of one row, or of one scenario: its name, and what is wrong, if anything.
pub(crate) type Finding = (String, Option<String>);

/// Compares what a table should do with what it did.
pub(crate) fn findings(table: &Table, got: &[BTreeSet<Who>]) -> Vec<Finding> {
    let judge = |(row, got): (&Row, &BTreeSet<Who>)| {
        let wrong = match row.expected {
            Expected::Dropped if got.is_empty() => None,
            Expected::Dropped => Some(format!("{got:?} got it")),
            Expected::Reaches(who) if got.contains(&who) => None,
            Expected::Reaches(who) => Some(format!("{who} did not get it, {got:?} did")),
        };
        (row.name.clone(), wrong)
    };
    table.rows.iter().zip(got).map(judge).collect()
}

/// Sends all of `table`, which is that of a scenario, and fails for what is wrong.
pub(crate) fn check(dataplane: &str, table: &Table, wire: &impl Wire) {
    holds(dataplane, &findings(table, &table.run(wire)));
}

/// Fails for what is wrong of these findings.
pub(crate) fn holds(dataplane: &str, findings: &[Finding]) {
    let wrong = wrong(dataplane, findings, KNOWN);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Fails when attacks do not arrive that arrive where nothing is enforced: the test of the test.
pub(crate) fn arrives_unguarded(table: &Table, wire: &impl Wire) {
    // Neighbours have to be found the first time.
    let runs: Vec<_> = (0..3).map(|_| table.run(wire)).collect();
    let (mut harmless, mut stopped) = (Vec::new(), Vec::new());
    for (number, row) in table.rows.iter().enumerate() {
        let arrived = runs.iter().any(|got| !got[number].is_empty());
        match row.unguarded {
            Unguarded::Arrives if !arrived => harmless.push(&row.name),
            Unguarded::KernelDrops if arrived => stopped.push(&row.name),
            _ => {}
        }
    }
    assert!(harmless.is_empty(), "nobody gets these, though nothing is enforced: {harmless:#?}");
    assert!(stopped.is_empty(), "the kernel does not drop these: {stopped:#?}");
}

/// How the reason begins where a row holds sometimes.
const BY_CHANCE: &str = "by chance: ";

/// What is wrong: rows that are not known to fail and do, and rows that are known to and hold.
pub(crate) fn wrong(dataplane: &str, findings: &[Finding], known: &[(&str, &str, &str)]) -> Vec<String> {
    let names: BTreeSet<&str> = findings.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), findings.len(), "two rows of one name");
    let known = known.iter().filter(|(of, _, _)| *of == dataplane);
    let known: Vec<_> =
        known.map(|(_, rows, reason)| (Regex::new(&format!("^{rows}$")).unwrap(), *reason)).collect();
    let reason = |name: &str| known.iter().find(|(rows, _)| rows.is_match(name)).map(|(_, reason)| *reason);
    let mut wrong = Vec::new();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (name, found) in findings {
        match (found, reason(name)) {
            (Some(found), None) => wrong.push(format!("{dataplane}: {name}: {found}")),
            (Some(_), Some(reason)) => *counts.entry(reason).or_default() += 1,
            (None, Some(reason)) if reason.starts_with(BY_CHANCE) => {}
            (None, Some(_)) => {
                wrong.push(format!("{dataplane}: {name}: holds now, so it is not KNOWN any more"))
            }
            (None, None) => {}
        }
    }
    for (reason, count) in counts {
        eprintln!("KNOWN on {dataplane}: {count} rows: {reason}");
    }
    wrong
}
