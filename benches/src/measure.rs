//! Times and memory.

use core::error::Error;
use std::fs;
use std::time::Instant;

/// Nanoseconds of one call of `work`: the best and the median of 15 rounds.
pub(crate) fn time(rounds: u32, mut work: impl FnMut()) -> (f64, f64) {
    let mut times = Times::default();
    for _ in 0..15 {
        let start = Instant::now();
        (0..rounds).for_each(|_| work());
        times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds));
    }
    (times.at(0), times.at(50_000))
}

/// Measured times, all in one unit.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, time: f64) {
        let at = self.0.partition_point(|other| *other < time);
        self.0.insert(at, time);
    }

    /// The time that this many in 100,000 do not exceed: 0 is the best, 50,000 the median, 100,000 the worst.
    pub(crate) fn at(&self, rank: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last.saturating_mul(rank) / 100_000).copied().unwrap_or_default()
    }

    /// Best, median and two percentiles, for a line of the report.
    pub(crate) fn summary(&self, unit: &str) -> String {
        let [best, median, p99, worst] = [0, 50_000, 99_000, 100_000].map(|rank| self.at(rank));
        format!("best {best:.1} median {median:.1} p99 {p99:.1} worst {worst:.1} {unit}")
    }
}

/// The most memory that this process has had, in megabytes of 1,000,000 bytes.
pub(crate) fn peak_megabytes() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024 / 1_000_000)
}
