//! A sign of life on standard error while something takes long: only on a terminal, and only after a second.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows that work goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    /// Dropped first, so that the thread ends.
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins. `doing` says what, such as `reading manifests`; `noun` what is counted, or nothing.
    pub(crate) fn start(doing: &'static str, noun: &'static str) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let running = io::stderr().is_terminal().then(|| {
            let (sender, ended) = mpsc::channel();
            let count = Arc::clone(&done);
            let show = move || {
                if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let bar =
                    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_elapsed(PATIENCE);
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                    bar.set_style(style);
                }
                while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    match count.load(Ordering::Relaxed) {
                        0 => bar.set_message(doing),
                        count => bar.set_message(format!("{doing}: {count} {noun}")),
                    }
                    bar.tick();
                }
                bar.finish_and_clear();
            };
            (sender, thread::spawn(show))
        });
        Self { done, running }
    }

    /// Counts `more` that are done.
    pub(crate) fn add(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.running.take() {
            drop(sender);
            // What it showed is gone before anything else is written.
            let _ = thread.join();
        }
    }
}

/// What is done sooner needs no sign.
const PATIENCE: Duration = Duration::from_secs(1);

const TICK: Duration = Duration::from_millis(100);
