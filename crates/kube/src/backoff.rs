//! Time between two attempts.

use core::hash::{BuildHasher, Hasher};
use core::time::Duration;
use std::hash::RandomState;

/// A time that doubles with every failure in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// After a success.
    pub(crate) const fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits, for at least `least` where the server asked for it, and never for more than [`MOST`].
    pub(crate) async fn wait(&mut self, least: Option<Duration>) {
        tokio::time::sleep(self.take(least)).await;
    }

    /// Between a half of the time and all of it, so that nodes do not ask in step.
    fn take(&mut self, least: Option<Duration>) -> Duration {
        let time = self.next.max(least.unwrap_or_default()).min(MOST);
        self.next = self.next.saturating_mul(2).min(MOST);
        spread(time)
    }
}

/// A time between a half of `time` and all of it.
pub(crate) fn spread(time: Duration) -> Duration {
    // A hasher of the standard library is keyed at random.
    let random = RandomState::new().build_hasher().finish() % PARTS;
    let part = u32::try_from(random).unwrap_or_default();
    let half = time / 2;
    half.saturating_add(half.saturating_mul(part) / u32::try_from(PARTS).unwrap_or(1))
}

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(10);
const PARTS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_ten_seconds_and_is_spread() {
        let mut backoff = Backoff::new();
        let times: Vec<Duration> = (0..12).map(|_| backoff.take(None)).collect();
        assert!(times[0] <= FIRST && times[0] >= FIRST / 2);
        assert!(times.iter().all(|time| *time <= MOST));
        assert!(times[11] >= MOST / 2);
        backoff.reset();
        assert!(backoff.take(None) <= FIRST);
        let asked = backoff.take(Some(Duration::from_secs(3600)));
        assert!(asked <= MOST && asked >= MOST / 2);
        let several: Vec<Duration> = (0..20).map(|_| spread(MOST)).collect();
        assert!(several.iter().any(|time| *time != several[0]), "not spread: {several:?}");
    }
}
