//! Measurements in turn.

use core::time::Duration;

use crate::measure::Times;
use crate::nftables::Failure;

/// Things that are timed one after the other, round by round.
#[derive(Default)]
pub(super) struct Run<'a> {
    cases: Vec<Case<'a>>,
}

/// What a number of test runs take, as the kernel's mean of one.
type Work<'a> = Box<dyn FnMut(u32) -> Result<Duration, Failure> + 'a>;

struct Case<'a> {
    work: Work<'a>,
    repeat: u32,
    times: Times,
}

/// One of the things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index(usize);

/// How long a measurement takes: so many rounds of so long, with so many test runs at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) time: Duration,
    pub(super) least: u32,
}

/// Most test runs at once.
const MOST: u32 = 500_000;

impl<'a> Run<'a> {
    pub(super) fn add(&mut self, work: impl FnMut(u32) -> Result<Duration, Failure> + 'a) -> Index {
        let index = Index(self.cases.len());
        self.cases.push(Case { work: Box::new(work), repeat: 0, times: Times::default() });
        index
    }

    pub(super) fn measure(&mut self, effort: Effort) -> Result<(), Failure> {
        for case in &mut self.cases {
            let once = (case.work)(2_000)?.as_nanos().max(1);
            let repeat = u32::try_from(effort.time.as_nanos() / once).unwrap_or(u32::MAX);
            case.repeat = repeat.clamp(effort.least, MOST);
        }
        for _ in 0..effort.rounds {
            for case in &mut self.cases {
                let time = (case.work)(case.repeat)?;
                case.times.push(f64::from(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)));
            }
        }
        Ok(())
    }

    /// Best and median of one thing in nanoseconds, less the best of another.
    pub(super) fn over(&self, index: Index, nothing: Index) -> Cost {
        let at = |index: Index, rank| self.cases.get(index.0).map_or(0.0, |case| case.times.at(rank));
        let nothing = at(nothing, 0);
        Cost { best: at(index, 0) - nothing, median: at(index, 50_000) - nothing }
    }
}

/// Nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) best: f64,
    pub(super) median: f64,
}

impl core::fmt::Display for Cost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(&format!("{:.0}/{:.0}", self.best, self.median))
    }
}
