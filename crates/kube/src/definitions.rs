//! The definitions of custom resources, by which it can be told that a kind is gone.

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::sync::{Notify, mpsc};

use crate::change::{Change, Event, State};
use crate::sink::{Closed, Listed, Sink};
use crate::wire::Head;

/// What the parts of a watch know together.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Names of the definitions that there are; unknown until they were listed.
    definitions: RefCell<Option<BTreeSet<String>>>,
    /// Names of the definitions that were ever seen.
    seen: RefCell<BTreeSet<String>>,
    /// Something about the kinds of the server may have changed.
    pub(crate) has_news: Cell<bool>,
    /// The kinds that were listed.
    pub(crate) listed: RefCell<BTreeSet<&'static str>>,
    /// Something on this board changed.
    pub(crate) wake: Notify,
}

impl Board {
    /// Whether a definition is there, as far as is known.
    pub(crate) fn is_defined(&self, definition: &str) -> bool {
        self.definitions.borrow().as_ref().is_some_and(|known| known.contains(definition))
    }

    /// Whether a definition was seen, and then seen to be gone.
    pub(crate) fn is_gone(&self, definition: &str) -> bool {
        let known = self.definitions.borrow();
        let is_there = known.as_ref().is_none_or(|known| known.contains(definition));
        !is_there && self.seen.borrow().contains(definition)
    }

    pub(crate) fn tell_news(&self) {
        self.has_news.set(true);
        self.wake.notify_one();
    }
}

/// Keeps the names of the definitions on the board.
#[derive(Debug)]
pub(crate) struct Definitions {
    pub(crate) board: Rc<Board>,
    pub(crate) states: States,
}

impl Sink for Definitions {
    type Item = Option<String>;
    const ACCEPT: &'static str =
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    const ACCEPT_LIST: &'static str =
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

    fn read(&self, json: &[u8]) -> Self::Item {
        serde_json::from_slice::<Head>(json).ok()?.metadata.name
    }

    fn unreadable(&self) -> Self::Item {
        None
    }

    async fn replace(&mut self, listed: Listed<Self::Item>) -> Result<(), Closed> {
        let is_whole = listed.items.iter().all(Option::is_some);
        let names: BTreeSet<String> = listed.items.into_iter().flatten().collect();
        self.board.seen.borrow_mut().extend(names.iter().cloned());
        // A list with an object of which nothing is known does not say what is gone.
        *self.board.definitions.borrow_mut() = Some(names).filter(|_| is_whole);
        self.board.tell_news();
        Ok(())
    }

    async fn put(&mut self, _received: Instant, item: Self::Item) -> Result<bool, Closed> {
        let Some(name) = item else { return Ok(false) };
        self.board.seen.borrow_mut().insert(name.clone());
        if let Some(definitions) = self.board.definitions.borrow_mut().as_mut() {
            definitions.insert(name);
        }
        self.board.tell_news();
        Ok(true)
    }

    async fn remove(&mut self, _received: Instant, json: &[u8]) -> Result<bool, Closed> {
        let Some(name) = self.read(json) else { return Ok(false) };
        if let Some(definitions) = self.board.definitions.borrow_mut().as_mut() {
            definitions.remove(&name);
        }
        self.board.tell_news();
        Ok(true)
    }

    async fn state(&mut self, state: State) -> Result<(), Closed> {
        self.states.tell(state).await
    }
}

/// Tells the states of one kind, each once.
#[derive(Debug)]
pub(crate) struct States {
    kind: Option<String>,
    sender: mpsc::Sender<Change>,
    last: Option<State>,
}

impl States {
    pub(crate) const fn new(kind: Option<String>, sender: mpsc::Sender<Change>) -> Self {
        Self { kind, sender, last: None }
    }

    pub(crate) async fn tell(&mut self, state: State) -> Result<(), Closed> {
        if self.last.as_ref().is_some_and(|last| last.is_like(&state)) {
            return Ok(());
        }
        self.last = Some(state.clone());
        let event = Event::State { kind: self.kind.clone(), state };
        send(&self.sender, Instant::now(), event).await
    }
}

/// Waits for room, and sends.
pub(crate) async fn send(
    sender: &mpsc::Sender<Change>,
    received: Instant,
    event: Event,
) -> Result<(), Closed> {
    sender.send(Change { received, event }).await.map_err(|_| Closed)
}
