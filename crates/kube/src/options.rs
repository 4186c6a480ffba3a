//! How a server is watched.

use core::num::NonZeroUsize;
use core::time::Duration;

/// How a server is watched, where there is a choice.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) window: Duration,
    pub(crate) capacity: NonZeroUsize,
    pub(crate) without: Vec<String>,
}

impl Options {
    /// The usual choices.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: WINDOW, capacity: CAPACITY, without: Vec::new() }
    }

    /// How long one request for changes lasts, after which it is asked again from where it stood. A connection that is
    /// silently dead is found at the end of it, so it is the time for which changes can be missing. The usual 24 seconds
    /// cost the server a request for each kind and node in that time; a minute may be better in a cluster of thousands of
    /// nodes. Whole seconds count, and at least one.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How many changes may wait to be taken. When there are as many, no more are read from the server. The usual number is
    /// 1,024; a whole list is one change.
    #[must_use]
    pub const fn capacity(mut self, capacity: NonZeroUsize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Leaves a kind out, by its [name](portcullis_k8s::Kind::name). Without its objects, policies that name them do not
    /// mean what they say, so leave out only what no policy uses, such as `Service`.
    #[must_use]
    pub fn without(mut self, kind: &str) -> Self {
        self.without.push(kind.into());
        self
    }

    pub(crate) fn window_seconds(&self) -> u64 {
        self.window.as_secs().max(1)
    }

    /// After this time without a byte, a watch is dead: the server ends each one before.
    pub(crate) fn silence(&self) -> Duration {
        let window = Duration::from_secs(self.window_seconds());
        window.saturating_add((window / 6).clamp(Duration::from_secs(1), Duration::from_secs(5)))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

const WINDOW: Duration = Duration::from_secs(24);
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_023);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_found_in_thirty_seconds_and_after_the_server_ended_the_window() {
        assert!(Options::new().silence() < Duration::from_secs(30));
        for seconds in [0, 1, 24, 300] {
            let options = Options::new().window(Duration::from_secs(seconds));
            assert!(options.silence() >= Duration::from_secs(options.window_seconds() + 1));
        }
    }
}
