//! Which addresses are in which class.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::ir::ClassId;
use portcullis_core::net::{Cidr, IpVersion};

use crate::lower::ranges::Networks;

/// Single addresses and networks with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) single: BTreeMap<IpAddr, ClassId>,
    pub(crate) of_class: BTreeMap<ClassId, BTreeSet<IpAddr>>,
    pub(crate) nets: BTreeMap<IpVersion, Networks>,
}

/// A single address and the class it had and has.
pub(crate) type Move = (IpAddr, Option<ClassId>, Option<ClassId>);

/// Prefixes that are no single addresses, with the class they had.
pub(crate) type FormerNets = Vec<(Cidr, Option<ClassId>)>;

impl Addresses {
    /// Takes over changed prefixes: the single addresses that moved, and the networks that changed.
    pub(crate) fn follow(&mut self, changes: &[(Cidr, Option<ClassId>)]) -> (Vec<Move>, FormerNets) {
        let (mut moves, mut former) = (Vec::new(), FormerNets::new());
        for (net, class) in changes {
            if net.is_host() {
                let address = net.address();
                let old = self.single.get(&address).copied();
                if old != *class {
                    self.set_class(address, *class);
                    moves.push((address, old, *class));
                }
            } else {
                former.push((*net, self.nets.entry(net.version()).or_default().set(*net, *class)));
            }
        }
        self.rebuild(&former);
        (moves, former)
    }

    /// Takes back what [`Addresses::follow`] did.
    pub(crate) fn go_back(&mut self, moves: &[Move], former: &FormerNets) {
        for (address, old, _) in moves.iter().rev() {
            self.set_class(*address, *old);
        }
        for (net, class) in former.iter().rev() {
            self.nets.entry(net.version()).or_default().set(*net, *class);
        }
        self.rebuild(former);
    }

    fn set_class(&mut self, address: IpAddr, class: Option<ClassId>) {
        let old = match class {
            Some(class) => self.single.insert(address, class),
            None => self.single.remove(&address),
        };
        if let Some(old) = old
            && let Some(members) = self.of_class.get_mut(&old)
        {
            members.remove(&address);
            if members.is_empty() {
                self.of_class.remove(&old);
            }
        }
        if let Some(class) = class {
            self.of_class.entry(class).or_default().insert(address);
        }
    }

    fn rebuild(&mut self, changed: &FormerNets) {
        let families: BTreeSet<IpVersion> = changed.iter().map(|(net, _)| net.version()).collect();
        for version in families {
            if let Some(nets) = self.nets.get_mut(&version) {
                nets.rebuild();
            }
        }
        self.nets.retain(|_, nets| !nets.is_empty());
    }

    /// The single addresses of one family in a class.
    pub(crate) fn members(&self, class: ClassId, version: IpVersion) -> impl Iterator<Item = IpAddr> {
        let all = self.of_class.get(&class).into_iter().flatten().copied();
        all.filter(move |address| IpVersion::of(address) == version)
    }
}
