//! All kinds: each is followed from when the server has it.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::time::Duration;
use std::time::Instant;

use portcullis_k8s::{Kind, ObjectKey, Observed, Unidentified};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use crate::backoff::{Backoff, spread};
use crate::change::{Change, Event, State};
use crate::client::{Client, JSON};
use crate::definitions::{Board, Definitions, States, send};
use crate::discovery::{Discovery, Served, discover};
use crate::follow::Follower;
use crate::options::Options;
use crate::sink::{Closed, Listed, Sink};

/// Follows every kind of a server until nobody takes the changes. Its tasks end with the set that it runs in.
pub(crate) async fn supervise(
    client: Client,
    options: Options,
    sender: mpsc::Sender<Change>,
) -> Result<(), Closed> {
    let mut supervisor = Supervisor {
        client: Rc::new(client),
        options: Rc::new(options),
        board: Rc::new(Board::default()),
        server: States::new(None, sender.clone()),
        unsupported: BTreeMap::new(),
        running: BTreeMap::new(),
        is_synced: false,
        sender,
    };
    supervisor.follow_definitions();
    supervisor.run().await
}

#[derive(Debug)]
struct Supervisor {
    client: Rc<Client>,
    options: Rc<Options>,
    sender: mpsc::Sender<Change>,
    board: Rc<Board>,
    server: States,
    unsupported: BTreeMap<String, States>,
    running: BTreeMap<&'static str, (Served, JoinHandle<()>)>,
    is_synced: bool,
}

impl Supervisor {
    async fn run(&mut self) -> Result<(), Closed> {
        let mut backoff = Backoff::new();
        // How often the kinds are looked up soon after there was news: a new kind is served a while after its definition.
        let mut soon = 0_u32;
        loop {
            let mut pause = spread(LATER);
            match discover(&self.client, &self.options, &self.board).await {
                Ok(found) => {
                    backoff.reset();
                    let is_whole = found.unknown.is_empty();
                    match found.unknown.first() {
                        Some((_, failure)) => self.server.tell(failure.state()).await?,
                        None => self.server.tell(State::Following).await?,
                    }
                    if !is_whole {
                        pause = RETRY;
                    }
                    self.adjust(found).await?;
                    self.wait(pause, is_whole, &mut soon).await?;
                }
                Err(failure) => {
                    self.server.tell(failure.state()).await?;
                    backoff.wait(failure.retry_after()).await;
                }
            }
        }
    }

    /// Until the kinds are to be looked up again.
    async fn wait(&mut self, pause: Duration, is_whole: bool, soon: &mut u32) -> Result<(), Closed> {
        let until = Instant::now();
        loop {
            if is_whole {
                self.tell_synced().await?;
            }
            if self.board.has_news.take() {
                *soon = LOOKS;
            }
            let pause = match *soon {
                0 => pause,
                left => FIRST_LOOK.saturating_mul(1 << LOOKS.saturating_sub(left)),
            };
            let left = pause.saturating_sub(until.elapsed());
            if left.is_zero() || timeout(left, self.board.wake.notified()).await.is_err() {
                *soon = soon.saturating_sub(1);
                return Ok(());
            }
        }
    }

    async fn tell_synced(&mut self) -> Result<(), Closed> {
        let is_listed = |kind: &&'static str| self.board.listed.borrow().contains(kind);
        if !self.is_synced && self.running.keys().all(is_listed) {
            self.is_synced = true;
            send(&self.sender, Instant::now(), Event::Synced).await?;
        }
        Ok(())
    }

    /// Follows the kinds that were found, and gives up those that are gone.
    async fn adjust(&mut self, found: Discovery) -> Result<(), Closed> {
        let Discovery { mut kinds, unsupported, unknown } = found;
        for (kind, reason) in unsupported {
            let states = self.unsupported.entry(kind.clone());
            let states = states.or_insert_with(|| States::new(Some(kind), self.sender.clone()));
            states.tell(State::Unsupported(reason)).await?;
        }
        let is_unknown = |version: &str| unknown.iter().any(|(unknown, _)| unknown == version);
        let running = core::mem::take(&mut self.running);
        for (name, (served, task)) in running {
            let stays = match kinds.get(name) {
                Some(found) if found.is(&served) && !task.is_finished() => true,
                // What is followed may be better than what was found, and only not be seen now.
                Some(_) => is_unknown(&served.version),
                None => is_unknown(&served.version) || !self.board.is_gone(&served.definition()),
            };
            if stays {
                kinds.remove(name);
                self.running.insert(name, (served, task));
                continue;
            }
            // What it holds stays until the kind is listed in its other version.
            task.abort();
            if !kinds.contains_key(name) {
                self.board.listed.borrow_mut().remove(name);
                let gone = Event::Replace { kind: served.kind, objects: Vec::new() };
                send(&self.sender, Instant::now(), gone).await?;
                let state = Event::State { kind: Some(name.into()), state: State::Absent };
                send(&self.sender, Instant::now(), state).await?;
            }
        }
        for (name, served) in kinds {
            let task = self.follow(&served);
            self.running.insert(name, (served, task));
        }
        Ok(())
    }

    fn follow(&self, served: &Served) -> JoinHandle<()> {
        let sink = Objects {
            kind: served.kind,
            sender: self.sender.clone(),
            board: Rc::clone(&self.board),
            states: States::new(Some(served.kind.name().into()), self.sender.clone()),
        };
        self.spawn(served.path(), sink)
    }

    fn follow_definitions(&self) {
        let states = States::new(Some("CustomResourceDefinition".into()), self.sender.clone());
        let sink = Definitions { board: Rc::clone(&self.board), states };
        drop(self.spawn(DEFINITIONS.into(), sink));
    }

    fn spawn<S: Sink + 'static>(&self, path: String, sink: S) -> JoinHandle<()> {
        let (client, options) = (Rc::clone(&self.client), Rc::clone(&self.options));
        let follower = Follower { client, options, path, sink };
        spawn_local(async move {
            // It ends when nobody takes changes, and then there is nobody to be told.
            let _closed = follower.run().await;
        })
    }
}

/// Sends the objects of a kind.
#[derive(Debug)]
struct Objects {
    kind: Kind,
    sender: mpsc::Sender<Change>,
    board: Rc<Board>,
    states: States,
}

impl Sink for Objects {
    type Item = Result<Observed, Unidentified>;
    const ACCEPT: &'static str = JSON;
    const ACCEPT_LIST: &'static str = JSON;

    fn read(&self, json: &[u8]) -> Self::Item {
        Observed::from_json(self.kind, json)
    }

    fn unreadable(&self) -> Self::Item {
        Observed::from_json(self.kind, b"")
    }

    async fn replace(&mut self, listed: Listed<Self::Item>) -> Result<(), Closed> {
        let event = Event::Replace { kind: self.kind, objects: listed.items };
        send(&self.sender, listed.received, event).await?;
        self.board.listed.borrow_mut().insert(self.kind.name());
        self.board.wake.notify_one();
        Ok(())
    }

    async fn put(&mut self, received: Instant, item: Self::Item) -> Result<bool, Closed> {
        let is_clear = item.is_ok();
        let event = match item {
            Ok(object) => Event::Put(Box::new(object)),
            Err(error) => Event::Unidentified(error),
        };
        send(&self.sender, received, event).await?;
        Ok(is_clear)
    }

    async fn remove(&mut self, received: Instant, json: &[u8]) -> Result<bool, Closed> {
        let key = ObjectKey::of_json(self.kind, json);
        let is_clear = key.is_ok();
        let event = match key {
            Ok(key) => Event::Remove(key),
            Err(error) => Event::Unidentified(error),
        };
        send(&self.sender, received, event).await?;
        Ok(is_clear)
    }

    async fn state(&mut self, state: State) -> Result<(), Closed> {
        if state == State::Absent {
            self.board.tell_news();
        }
        self.states.tell(state).await
    }
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Time between two looks at the kinds without news, and after one that was not whole.
const LATER: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(5);
/// Looks after news: the first after this time, each next one after twice the time.
const LOOKS: u32 = 5;
const FIRST_LOOK: Duration = Duration::from_millis(250);
