//! Where the objects of a kind go.

use std::time::Instant;

use crate::change::State;

/// Nobody takes changes any more.
#[derive(Debug)]
pub(crate) struct Closed;

/// Where objects of a kind go.
pub(crate) trait Sink {
    /// An object as it was read.
    type Item;
    /// In which form objects are asked for.
    const ACCEPT: &'static str;
    /// In which form lists are asked for.
    const ACCEPT_LIST: &'static str;

    fn read(&self, json: &[u8]) -> Self::Item;
    /// An object of which nothing can be read.
    fn unreadable(&self) -> Self::Item;
    async fn replace(&mut self, listed: Listed<Self::Item>) -> Result<(), Closed>;
    /// Says whether it can be told which object it was.
    async fn put(&mut self, received: Instant, item: Self::Item) -> Result<bool, Closed>;
    /// Says whether it can be told which object it was.
    async fn remove(&mut self, received: Instant, json: &[u8]) -> Result<bool, Closed>;
    async fn state(&mut self, state: State) -> Result<(), Closed>;
}

/// A whole list.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    /// The version that changes are asked from.
    pub(crate) version: String,
    pub(crate) received: Instant,
}
