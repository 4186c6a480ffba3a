//! One kind: listed, and then followed from where the list stood.

use alloc::rc::Rc;
use core::time::Duration;
use std::time::Instant;

use crate::backoff::{Backoff, spread};
use crate::change::State;
use crate::client::{Client, Failure, Refused};
use crate::lines::{Cut, Lines};
use crate::list::{self, ANSWER, Way, escaped, refusal};
use crate::options::Options;
use crate::sink::{Closed, Sink};
use crate::wire::{Bookmark, Head, Line};

/// A kind that is followed.
#[derive(Debug)]
pub(crate) struct Follower<S> {
    pub(crate) client: Rc<Client>,
    pub(crate) options: Rc<Options>,
    pub(crate) path: String,
    pub(crate) sink: S,
}

/// Where a watch stands.
#[derive(Debug)]
struct Position {
    version: String,
    /// An object came that cannot be told from others, so that a list has to say how things are.
    is_doubtful: bool,
    /// Something came since the last failure.
    has_moved: bool,
}

impl<S: Sink> Follower<S> {
    /// Follows the kind until nobody takes its changes.
    pub(crate) async fn run(mut self) -> Result<(), Closed> {
        let mut backoff = Backoff::new();
        let mut way = Way::Stream;
        loop {
            match list::list(&self.client, &self.path, &self.sink, &mut way).await {
                Ok(listed) => {
                    let position =
                        Position { version: listed.version.clone(), is_doubtful: false, has_moved: false };
                    self.sink.replace(listed).await?;
                    self.sink.state(State::Following).await?;
                    self.watch(position, &mut backoff).await?;
                }
                Err(failure) => self.failed(&failure, &mut backoff).await?,
            }
        }
    }

    async fn failed(&mut self, failure: &Failure, backoff: &mut Backoff) -> Result<(), Closed> {
        let state = match failure.status() {
            Some(404) => State::Absent,
            _ => failure.state(),
        };
        self.sink.state(state).await?;
        backoff.wait(failure.retry_after()).await;
        Ok(())
    }

    /// Watches from a position, window after window, until only a list can say how things are.
    async fn watch(&mut self, mut position: Position, backoff: &mut Backoff) -> Result<(), Closed> {
        let mut refused_versions = 0_u32;
        while !position.version.is_empty() {
            let began = Instant::now();
            let ended = self.window(&mut position).await?;
            let has_moved = core::mem::take(&mut position.has_moved);
            if has_moved || (ended.is_ok() && began.elapsed() >= QUICK) {
                backoff.reset();
                refused_versions = 0;
            }
            match ended {
                Ok(()) if position.is_doubtful => return Ok(()),
                Ok(()) if began.elapsed() >= QUICK => {}
                Ok(()) => backoff.wait(None).await,
                // A version that is too old is no trouble: a list follows.
                Err(failure) if failure.is_expired() => {
                    backoff.wait(None).await;
                    return Ok(());
                }
                Err(failure) => {
                    self.failed(&failure, backoff).await?;
                    refused_versions = refused_versions.saturating_add(u32::from(failure.is_of_version()));
                    let is_invalid = matches!(failure.status(), Some(400 | 422));
                    if is_invalid || refused_versions >= TRIES {
                        return Ok(());
                    }
                }
            }
        }
        // A server that gives no version can only be listed.
        backoff.wait(None).await;
        Ok(())
    }

    /// One request for changes.
    async fn window(&mut self, position: &mut Position) -> Result<Result<(), Failure>, Closed> {
        let longest = Duration::from_secs(self.options.window_seconds());
        // Not all kinds and nodes at the same time.
        let seconds = longest.as_secs().midpoint(spread(longest).as_secs()).max(1);
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.path,
            escaped(&position.version)
        );
        let mut content = match self.client.get(&path, S::ACCEPT, ANSWER).await {
            Ok(content) => content,
            Err(failure) => return Ok(Err(failure)),
        };
        self.sink.state(State::Following).await?;
        let mut lines = Lines::default();
        loop {
            let bytes = match content.next(self.options.silence()).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(Ok(())),
                Err(failure) => return Ok(Err(failure)),
            };
            let received = Instant::now();
            let mut cuts = Vec::new();
            lines.take(bytes.as_ref(), |cut| cuts.push(cut));
            for cut in cuts {
                if let Err(failure) = self.line(&cut, received, position).await? {
                    return Ok(Err(failure));
                }
            }
        }
    }

    async fn line(
        &mut self,
        cut: &Cut,
        received: Instant,
        position: &mut Position,
    ) -> Result<Result<(), Failure>, Closed> {
        let line = match cut {
            Cut::Line(line) => serde_json::from_slice::<Line<'_>>(line).ok(),
            Cut::TooLong => None,
        };
        let is_clear = match line.as_ref().map(|line| (&*line.kind, line.object)) {
            Some(("ADDED" | "MODIFIED", object)) => {
                let item = self.sink.read(object.get().as_bytes());
                self.sink.put(received, item).await?
            }
            Some(("DELETED", object)) => self.sink.remove(received, object.get().as_bytes()).await?,
            Some(("BOOKMARK", object)) => {
                let bookmark = serde_json::from_str::<Bookmark>(object.get()).unwrap_or_default();
                if let Some(version) = bookmark.version() {
                    if is_before(&version, &position.version) {
                        return Ok(Err(went_back()));
                    }
                    position.version = version;
                    position.has_moved = true;
                }
                true
            }
            Some(("ERROR", object)) => return Ok(Err(refusal(object))),
            Some(_) | None => {
                let item = self.sink.unreadable();
                self.sink.put(received, item).await?
            }
        };
        position.is_doubtful |= !is_clear;
        if let Some(line) = line.filter(|line| line.kind != "BOOKMARK")
            && let Ok(head) = serde_json::from_str::<Head>(line.object.get())
            && let Some(version) = head.metadata.resource_version.filter(|version| !version.is_empty())
        {
            position.version = version;
            position.has_moved = true;
        }
        Ok(Ok(()))
    }
}

/// Whether the server stands at an earlier version than this watch does, as after its store was restored from a copy.
/// Versions are numbers that grow. Source: kubernetes enhancement 5504, comparable resource version.
fn is_before(version: &str, known: &str) -> bool {
    matches!((version.parse::<u128>(), known.parse::<u128>()), (Ok(version), Ok(known)) if version < known)
}

fn went_back() -> Failure {
    let message = "the server went back to an earlier version".into();
    Failure::Refused(Refused { status: 410, cause: "Expired".into(), message, retry_after: None })
}

/// A window that ends sooner, and without a change, was cut off.
const QUICK: Duration = Duration::from_millis(900);
/// Attempts at a version that the server has not come to.
const TRIES: u32 = 3;
