//! Sets of peers: hash sets and maps of single addresses that follow the classes they stand for.
//!
//! A set that several bodies use exists once. It changes in place as long as all of them want the same change; a body
//! that wants something else gets another set, and chains of its own that name it.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::ir::ClassId;
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{Element, Field, SetKind, Target, Value};
use crate::names::Names;
use crate::plan::Classes;
use crate::pool::Used;

/// What a set of peers holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Want {
    /// The addresses of these classes.
    Members(Classes),
    /// The addresses of these classes, each with the chain for its class.
    Targets(BTreeMap<ClassId, Name>),
    /// All single addresses that have a class: they are not what the networks around them are.
    Known,
}

/// What a set says of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Nothing,
    Member,
    Leads(Name),
}

impl Want {
    pub(crate) fn of(&self, class: Option<ClassId>) -> Holding {
        let Some(class) = class else { return Holding::Nothing };
        match self {
            Self::Known => Holding::Member,
            Self::Members(classes) if classes.contains(&class) => Holding::Member,
            Self::Targets(targets) => {
                targets.get(&class).map_or(Holding::Nothing, |to| Holding::Leads(to.clone()))
            }
            Self::Members(_) => Holding::Nothing,
        }
    }

    /// The classes it names one by one.
    pub(crate) fn classes(&self) -> Vec<ClassId> {
        match self {
            Self::Known => Vec::new(),
            Self::Members(classes) => classes.iter().copied().collect(),
            Self::Targets(targets) => targets.keys().copied().collect(),
        }
    }

    pub(crate) const fn kind(&self) -> SetKind {
        match self {
            Self::Members(_) | Self::Known => SetKind::Values,
            Self::Targets(_) => SetKind::Verdicts,
        }
    }

    /// Classes that the two say different things of.
    pub(crate) fn differing(&self, other: &Self) -> BTreeSet<ClassId> {
        let all = self.classes().into_iter().chain(other.classes());
        all.filter(|class| self.of(Some(*class)) != other.of(Some(*class))).collect()
    }
}

/// One set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) version: IpVersion,
    pub(crate) want: Want,
}

/// What changed in the sets of peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerChanges {
    /// New sets, complete from the start.
    pub(crate) created: BTreeSet<Name>,
    /// Sets that change in place, with what they held.
    pub(crate) changed: BTreeMap<Name, Want>,
}

/// All sets of peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<Name, Peer>,
    by_class: BTreeMap<ClassId, BTreeSet<Name>>,
    /// Those that say something of every class.
    known: BTreeSet<Name>,
}

impl Peers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Peer)> {
        self.peers.iter()
    }

    pub(crate) fn find(&self, name: &Name) -> Option<&Peer> {
        self.peers.get(name)
    }

    /// The sets that may say something else of an address that leaves one class for the other.
    pub(crate) fn between(&self, old: Option<ClassId>, new: Option<ClassId>) -> impl Iterator<Item = &Name> {
        let of =
            |class: Option<ClassId>| class.and_then(|class| self.by_class.get(&class)).into_iter().flatten();
        let comes_or_goes = old.is_some() != new.is_some();
        of(old).chain(of(new)).chain(comes_or_goes.then_some(&self.known).into_iter().flatten())
    }

    pub(crate) fn create(&mut self, version: IpVersion, want: Want, names: &Names) -> Name {
        let family = match version {
            IpVersion::V4 => "v4",
            IpVersion::V6 => "v6",
        };
        let name = match want {
            Want::Known => names.fresh(&format!("known_{family}_")),
            Want::Members(_) | Want::Targets(_) => names.fresh(&format!("peers_{family}_")),
        };
        if want == Want::Known {
            self.known.insert(name.clone());
        }
        for class in want.classes() {
            self.by_class.entry(class).or_default().insert(name.clone());
        }
        self.peers.insert(name.clone(), Peer { version, want });
        name
    }

    /// Changes what a set holds; what it held before.
    pub(crate) fn change(&mut self, name: &Name, want: Want) -> Option<Want> {
        let peer = self.peers.get_mut(name)?;
        for class in peer.want.differing(&want) {
            let of_class = self.by_class.entry(class).or_default();
            if want.of(Some(class)) == Holding::Nothing {
                of_class.remove(name);
            } else {
                of_class.insert(name.clone());
            }
        }
        Some(core::mem::replace(&mut peer.want, want))
    }

    /// Takes back what an update that failed changed.
    pub(crate) fn go_back(&mut self, changes: PeerChanges) {
        for name in &changes.created {
            self.remove(name);
        }
        for (name, want) in changes.changed {
            self.change(&name, want);
        }
    }

    /// Drops what is not in `kept`.
    pub(crate) fn keep(&mut self, kept: &Used) {
        let gone: Vec<Name> = self.peers.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
    }

    /// Drops a set.
    pub(crate) fn remove(&mut self, name: &Name) {
        self.known.remove(name);
        if let Some(peer) = self.peers.remove(name) {
            for class in peer.want.classes() {
                if let Some(names) = self.by_class.get_mut(&class) {
                    names.remove(name);
                }
            }
        }
    }
}

impl Peer {
    pub(crate) fn key(&self) -> Vec<Field> {
        vec![Field::Source(self.version)]
    }
}

/// The element of `address` in a set that holds this of it.
pub(crate) fn element(address: IpAddr, holding: Holding) -> Option<Element> {
    let target = match holding {
        Holding::Nothing => return None,
        Holding::Member => None,
        Holding::Leads(chain) => Some(Target::Goto(chain)),
    };
    Some(Element { key: vec![Value::Address(address)], target })
}
