//! Verdicts of Portcullis beside those of general policy engines, and address look-ups beside those of LPM tables.
//!
//! Every engine gets the same policies and the same flows, takes its turns in the same run, and must give the expected
//! verdicts: a wrong one ends the run. Figures are nanoseconds a verdict, best and median of the turns.

mod address;
mod engines;
mod flows;

use std::time::{Duration, Instant};

fn main() {
    let most: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    println!("verdict ns by number of policies, one endpoint, 1,000 peers, half of the flows allowed");
    for policies in [1, 10, 100, 1_000, 10_000, 100_000] {
        if policies <= most {
            engines::run(policies);
        }
    }
    println!("address to class ns, 100,000 addresses and 2,000 prefixes");
    address::run();
}

/// The times of one contestant.
struct Lane {
    name: String,
    times: Vec<f64>,
}

impl Lane {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), times: Vec::new() }
    }

    /// Times one turn of `count` operations.
    fn turn(&mut self, count: usize, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.times.push(start.elapsed().as_nanos() as f64 / count as f64);
    }

    fn report(mut self, what: &str) {
        self.times.sort_by(f64::total_cmp);
        let (best, median) = (self.times[0], self.times[self.times.len() / 2]);
        println!("  {what:>12} {:<24} best {best:>12.1} median {median:>12.1}", self.name);
    }
}

/// How long all turns of one comparison may take.
const BUDGET: Duration = Duration::from_secs(4);

/// Runs turns of all lanes, one after the other, until the budget is used up; at least three of each.
fn interleave(lanes: &mut [(Lane, Box<dyn FnMut() + '_>, usize)]) {
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || (start.elapsed() < BUDGET && rounds < 200) {
        for (lane, work, count) in lanes.iter_mut() {
            lane.turn(*count, work);
        }
        rounds += 1;
    }
}

/// A seeded generator: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % n
    }
}
