//! What comes out of a watch.

use std::time::Instant;

use portcullis_k8s::{Changes, Kind, ObjectKey, Observed, Unidentified, World};

/// Something that happened, and when it was known here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Change {
    /// The time at which the last byte of it had been received.
    pub received: Instant,
    /// What it is.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An object was added or changed.
    Put(Box<Observed>),
    /// An object is gone.
    Remove(ObjectKey),
    /// All objects of a kind as they are: those that are not among them are gone.
    Replace {
        /// The kind.
        kind: Kind,
        /// The objects, with those that cannot be told from others.
        objects: Vec<Result<Observed, Unidentified>>,
    },
    /// An object changed of which it cannot be told which one it is. The kind is listed again within one
    /// [window](crate::Options::window).
    Unidentified(Unidentified),
    /// A kind is followed, or no longer is. Sent when it changes only.
    State {
        /// The kind, see [`Kind::name`]. `CustomResourceDefinition` is one of them, whose objects are not sent. Without a
        /// kind it is about the server's list of kinds.
        kind: Option<String>,
        /// How it is followed.
        state: State,
    },
    /// Every kind that the server has was listed: what was sent until now is the whole cluster. Sent once.
    Synced,
}

/// How a kind is followed. In all states but [`State::Following`], its objects stay as they were last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It was listed, and its changes come in.
    Following,
    /// The server cannot be reached or does not answer as one. Holds the reason, one line.
    Unreachable(String),
    /// The server answers, and refuses.
    Refused {
        /// The HTTP status, such as 403.
        status: u16,
        /// What the server says, one line.
        reason: String,
    },
    /// The server no longer has the kind. When that is because the definition of its custom resource is gone, so are its
    /// objects, as an [`Event::Replace`] says; else they stay.
    Absent,
    /// The server has the kind in versions only that are not known here, so its objects are not seen. Holds the reason,
    /// one line.
    Unsupported(String),
}

impl Event {
    /// Gives the world what it is about, if anything: states and [`Event::Synced`] change nothing.
    pub fn apply_to(self, world: &mut World) -> Changes {
        match self {
            Self::Put(object) => world.put(*object),
            Self::Remove(key) => world.remove(&key),
            Self::Replace { kind, objects } => world.replace(kind, objects),
            Self::Unidentified(_) | Self::State { .. } | Self::Synced => Changes::default(),
        }
    }
}

impl State {
    /// Whether it is the same state for whoever is told, other words of the server aside.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused { status, .. }, Self::Refused { status: known, .. }) => status == known,
            (Self::Unreachable(_), Self::Unreachable(_)) => true,
            _ => self == other,
        }
    }
}
