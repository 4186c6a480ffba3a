//! Sets of peers: hash sets and maps of single addresses that follow the classes they stand for.
//!
//! A set that several programs use exists once. It changes in place as long as all of them want the same change; a body
//! that wants something else gets another set, and chains of its own that name it.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::ir::ClassId;
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{Element, Field, SetKind, Target, Value};
use crate::lower::decision_tree::Classes;
use crate::lower::interned::Used;
use crate::lower::names::Names;

/// What a set of peers holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetContent {
    /// The addresses of these classes.
    Members(Classes),
    /// The addresses of these classes, each with the chain for its class.
    Targets(BTreeMap<ClassId, Name>),
    /// All single addresses that have a class of their own, which differs from that of the networks around them.
    Known,
}

/// What a set says of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Nothing,
    Member,
    Leads(Name),
}

impl SetContent {
    pub(crate) fn of(&self, class: Option<ClassId>) -> Membership {
        let Some(class) = class else { return Membership::Nothing };
        match self {
            Self::Known => Membership::Member,
            Self::Members(classes) if classes.contains(&class) => Membership::Member,
            Self::Targets(targets) => {
                targets.get(&class).map_or(Membership::Nothing, |to| Membership::Leads(to.clone()))
            }
            Self::Members(_) => Membership::Nothing,
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
pub(crate) struct PeerSet {
    pub(crate) version: IpVersion,
    pub(crate) content: SetContent,
}

/// What changed in the sets of peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetChanges {
    /// New sets, complete from the start.
    pub(crate) created: BTreeSet<Name>,
    /// Sets that change in place, with what they held.
    pub(crate) changed: BTreeMap<Name, SetContent>,
}

/// All sets of peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerSets {
    peer_sets: BTreeMap<Name, PeerSet>,
    by_class: BTreeMap<ClassId, BTreeSet<Name>>,
    /// Those that say something of every class.
    known: BTreeSet<Name>,
}

impl PeerSets {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &PeerSet)> {
        self.peer_sets.iter()
    }

    pub(crate) fn find(&self, name: &Name) -> Option<&PeerSet> {
        self.peer_sets.get(name)
    }

    /// The sets that may say something else of an address that leaves one class for the other.
    pub(crate) fn between(&self, old: Option<ClassId>, new: Option<ClassId>) -> impl Iterator<Item = &Name> {
        let of =
            |class: Option<ClassId>| class.and_then(|class| self.by_class.get(&class)).into_iter().flatten();
        let comes_or_goes = old.is_some() != new.is_some();
        of(old).chain(of(new)).chain(comes_or_goes.then_some(&self.known).into_iter().flatten())
    }

    pub(crate) fn create(&mut self, version: IpVersion, content: SetContent, names: &Names) -> Name {
        let family = match version {
            IpVersion::V4 => "v4",
            IpVersion::V6 => "v6",
        };
        let name = match content {
            SetContent::Known => names.fresh(&format!("known_{family}_")),
            SetContent::Members(_) | SetContent::Targets(_) => names.fresh(&format!("peers_{family}_")),
        };
        if content == SetContent::Known {
            self.known.insert(name.clone());
        }
        for class in content.classes() {
            self.by_class.entry(class).or_default().insert(name.clone());
        }
        self.peer_sets.insert(name.clone(), PeerSet { version, content });
        name
    }

    /// Changes what a set holds; what it held before.
    pub(crate) fn change(&mut self, name: &Name, content: SetContent) -> Option<SetContent> {
        let peer = self.peer_sets.get_mut(name)?;
        for class in peer.content.differing(&content) {
            let of_class = self.by_class.entry(class).or_default();
            if content.of(Some(class)) == Membership::Nothing {
                of_class.remove(name);
            } else {
                of_class.insert(name.clone());
            }
        }
        Some(core::mem::replace(&mut peer.content, content))
    }

    /// Takes back the changes of an update that failed.
    pub(crate) fn go_back(&mut self, changes: SetChanges) {
        for name in &changes.created {
            self.remove(name);
        }
        for (name, content) in changes.changed {
            self.change(&name, content);
        }
    }

    /// Drops every set that is not in `kept`.
    pub(crate) fn keep(&mut self, kept: &Used) {
        let gone: Vec<Name> = self.peer_sets.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
    }

    /// Drops a set.
    pub(crate) fn remove(&mut self, name: &Name) {
        self.known.remove(name);
        if let Some(peer) = self.peer_sets.remove(name) {
            for class in peer.content.classes() {
                if let Some(names) = self.by_class.get_mut(&class) {
                    names.remove(name);
                }
            }
        }
    }
}

impl PeerSet {
    pub(crate) fn key(&self) -> Vec<Field> {
        vec![Field::Source(self.version)]
    }
}

/// The element of `address` in a set that holds this of it.
pub(crate) fn element(address: IpAddr, holding: Membership) -> Option<Element> {
    let target = match holding {
        Membership::Nothing => return None,
        Membership::Member => None,
        Membership::Leads(chain) => Some(Target::Goto(chain)),
    };
    Some(Element { key: vec![Value::Address(address)], target })
}
