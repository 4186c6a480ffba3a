//! A watch that runs.

use std::sync::mpsc as std_mpsc;
use std::thread;

use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::change::Change;
use crate::client::Client;
use crate::options::Options;
use crate::source::{ConnectError, Source};
use crate::supervise::supervise;

/// A watch of a server: a thread of its own, and the channel that its changes come out of. The thread ends soon after the
/// watch is dropped.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Change>,
}

impl Watch {
    /// Starts to watch. Waits until the configuration of the source is read, not for the server.
    ///
    /// # Errors
    /// When the configuration cannot be read or used, or the thread cannot be started.
    pub fn start(source: Source, options: Options) -> Result<Self, ConnectError> {
        let (sender, changes) = mpsc::channel(options.capacity.get());
        let (told, tell) = std_mpsc::sync_channel(1);
        let run = move || {
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(told.send(Err(ConnectError::new(&error)))),
            };
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async move {
                match Client::connect(source).await {
                    Err(error) => drop(told.send(Err(error))),
                    Ok(client) => {
                        drop(told.send(Ok(())));
                        let closed = sender.clone();
                        tokio::task::spawn_local(supervise(client, options, sender));
                        closed.closed().await;
                    }
                }
            });
        };
        let thread = thread::Builder::new().name("portcullis-kube".into()).spawn(run);
        thread.map_err(|error| ConnectError::new(&error))?;
        tell.recv().map_err(|error| ConnectError::new(&error))??;
        Ok(Self { changes })
    }

    /// The next change, waited for without blocking, in a task of any runtime. Nothing comes any more when the thread of
    /// the watch failed.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }

    /// The next change, waited for on this thread, which must not be one that runs tasks of `tokio`. Nothing as with
    /// [`Watch::next`].
    pub fn blocking_next(&mut self) -> Option<Change> {
        self.changes.blocking_recv()
    }

    /// The next change if there is one now, so that all that wait are taken before the model is compiled.
    pub fn try_next(&mut self) -> Option<Change> {
        self.changes.try_recv().ok()
    }
}
