//! Publication: a new generation for readers that never wait.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use arc_swap::{ArcSwap, Cache};
use portcullis_core::backend::LowerError;
use portcullis_core::ir::Delta;

use crate::matcher::Matcher;

/// The owner of the current [`Matcher`]. There is one, where policy changes arrive; each thread that answers packets
/// has a [`Reader`] of it.
///
/// Once a call that publishes has returned, every [`Reader::current`] that starts after it (in the order that the
/// threads see) gives that generation or a later one.
///
/// The publisher keeps what it replaced until no reader uses it and frees it itself, in the next call that
/// publishes or in [`Publisher::reclaim`]. So a reader does not pay for freeing tables, and a reader that sleeps
/// holds one old generation, not all since.
///
/// ```
/// use portcullis_core::compile::{CompileScope, Compiler};
/// use portcullis_core::model::{Endpoint, EndpointId, Update};
/// use portcullis_core::settings::Settings;
/// use portcullis_matcher::{Matcher, Publisher};
///
/// let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
/// let _ = compiler.commit();
/// let mut publisher = Publisher::new(Matcher::lower(compiler.snapshot())?);
/// let mut reader = publisher.reader();
/// let thread = std::thread::spawn(move || reader.current().generation());
///
/// let pod = EndpointId::workload("shop", "cart");
/// compiler.apply(Update::Endpoint(Endpoint::new(pod.clone())))?;
/// publisher.apply(&compiler.commit())?;
/// assert!(publisher.reader().current().handle(&pod).is_some());
/// assert!(thread.join().unwrap() <= publisher.current().generation());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<ArcSwap<Matcher>>,
    current: Arc<Matcher>,
    retired: Vec<Arc<Matcher>>,
}

impl Publisher {
    /// Publishes `matcher` as the first generation.
    #[must_use]
    pub fn new(matcher: Matcher) -> Self {
        let current = Arc::new(matcher);
        Self { shared: Arc::new(ArcSwap::new(Arc::clone(&current))), current, retired: Vec::new() }
    }

    /// What was published last.
    #[must_use]
    pub const fn current(&self) -> &Arc<Matcher> {
        &self.current
    }

    /// A reader, for one thread. Readers may outlive the publisher and then stay at its last generation.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { cache: Cache::new(Arc::clone(&self.shared)) }
    }

    /// Publishes what follows from the current matcher by `delta`. Handles of endpoints stay good. An empty delta
    /// publishes nothing.
    ///
    /// # Errors
    /// As [`Matcher::apply`]; readers then keep what they have.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), LowerError> {
        let next = self.current.apply(delta)?;
        if next.generation() != self.current.generation() {
            self.replace(next);
        }
        Ok(())
    }

    /// Publishes `matcher`, which need not follow from the current one. If it does not,
    /// [handles](crate::EndpointHandle) have to be looked up anew.
    ///
    /// # Errors
    /// When its generation is not a later one; readers then keep what they have.
    pub fn publish(&mut self, matcher: Matcher) -> Result<(), PublishError> {
        let (refused, published) = (matcher.generation(), self.current.generation());
        if refused <= published {
            return Err(PublishError { refused, published });
        }
        self.replace(matcher);
        Ok(())
    }

    /// Frees the replaced matchers that no reader uses any more, and tells how many are still in use.
    pub fn reclaim(&mut self) -> usize {
        // INVARIANT: a retired matcher is not in `shared`, and `swap` counted every reader that was loading it, so
        // a count of one is ours and stays one.
        self.retired.retain(|matcher| Arc::strong_count(matcher) > 1);
        self.retired.len()
    }

    fn replace(&mut self, matcher: Matcher) {
        let next = Arc::new(matcher);
        drop(self.shared.swap(Arc::clone(&next)));
        self.retired.push(core::mem::replace(&mut self.current, next));
        self.reclaim();
    }
}

/// One thread's view of what a [`Publisher`] published. A clone is good for another thread.
///
/// Generations never go back.
#[derive(Clone, Debug)]
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Matcher>>, Arc<Matcher>>,
}

impl Reader {
    /// The matcher as published last. Ask once a packet or batch, and take everything about it from one answer.
    ///
    /// Without news this is one relaxed load of a word that only the publisher writes, and a comparison: wait-free,
    /// nothing is allocated. After a publication, the next call of each reader also takes a share of the new matcher
    /// and gives back that of the old: some ten atomic operations, still without lock or loop that a publisher could
    /// prolong. `arc-swap`, which does that, calls itself wait-free but for a wait once in `usize::MAX / 4` loads, and
    /// allocates a small record in the first such call of a thread.
    #[inline]
    pub fn current(&mut self) -> &Matcher {
        self.cache.load()
    }
}

/// Why a matcher was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishError {
    refused: u64,
    published: u64,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} does not come after generation {}", self.refused, self.published)
    }
}

impl core::error::Error for PublishError {}

const _: () = {
    const fn sent<T: Send>() {}
    const fn shared<T: Send + Sync>() {}
    sent::<Reader>();
    shared::<Publisher>();
};
