//! From prefixes to classes.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use smallvec::SmallVec;

use crate::compile::groups::Groups;
use crate::compile::ids::{GroupId, PortPredicateId, PredicateId};
use crate::compile::intern::{Fresh, Interner};
use crate::compile::net_set::Membership;
use crate::compile::signature::{Ports, Signature};
use crate::ir::ClassId;
use crate::net::{Cidr, IpVersion};

/// Every prefix that has an owner or that a rule names, with its class.
#[derive(Debug)]
pub(super) struct Addresses {
    prefixes: HashMap<Cidr, Prefix>,
    /// Settled prefixes that are no single address, in order: one comes before those that lie in it.
    nets: Vec<Cidr>,
    /// Number of nets of each length: IPv4, then IPv6.
    lengths: [Vec<usize>; 2],
    pub(super) classes: Interner<ClassId, Signature>,
    /// Prefixes to be settled, each once.
    dirty: Vec<Cidr>,
    /// Those among them that are no single address and have not been settled before.
    new_nets: Vec<Cidr>,
    /// Number of prefixes that were found without a reason to be here.
    vacated: usize,
    /// Predicates of all classes together, and how many there may be.
    predicates: u64,
    most_predicates: u64,
    /// Those of classes that are new since prefixes began to be settled.
    new_predicates: u64,
    /// Whether these were too many, so that prefixes have other classes than they should.
    unsettled: bool,
    /// While prefixes are settled: the class of those with one reason below a class with many predicates.
    known: HashMap<(ClassId, Reason), ClassId>,
}

#[derive(Debug, Default)]
struct Prefix {
    /// Why it is here, sorted, each with the number of times it was given; most have one reason.
    reasons: SmallVec<[(Reason, u32); 1]>,
    /// Ports of services at the address; few have any.
    ports: Option<Box<ServicePorts>>,
    class: Option<ClassId>,
    /// The entries of the table. It leaves out prefixes that have the class of the prefix above.
    listed: Option<ClassId>,
    dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Reason {
    /// It has an owner in the group.
    Owned(GroupId),
    /// The predicate holds for the prefix as such, or does not although it holds for a prefix above.
    Says(PredicateId, Membership),
}

/// Sorted by predicate.
#[derive(Clone, Debug, Default)]
struct ServicePorts(Vec<(PortPredicateId, Ports)>);

impl Prefix {
    fn is_vacant(&self) -> bool {
        self.reasons.is_empty() && self.ports.is_none()
    }

    fn add(&mut self, reason: Reason) {
        match self.find(reason) {
            Ok(at) => {
                if let Some((_, count)) = self.reasons.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => self.reasons.insert(at, (reason, 1)),
        }
    }

    /// Takes the reason away as often as it was given, or once.
    fn remove(&mut self, reason: Reason, times: u32) {
        if let Ok(at) = self.find(reason)
            && let Some((_, count)) = self.reasons.get_mut(at)
        {
            *count = count.saturating_sub(times);
            if *count == 0 {
                self.reasons.remove(at);
            }
        }
    }

    /// Where the reason is, or would be.
    fn find(&self, reason: Reason) -> Result<usize, usize> {
        self.reasons.binary_search_by_key(&reason, |(other, _)| *other)
    }

    fn reasons(&self) -> impl Iterator<Item = Reason> + '_ {
        self.reasons.iter().map(|(reason, _)| *reason)
    }
}

impl Addresses {
    pub(super) fn new() -> Self {
        let mut classes = Interner::new();
        // Takes number 0 for the class of addresses that nothing selects, for ever.
        classes.acquire(Signature::default());
        Self {
            prefixes: HashMap::new(),
            nets: Vec::new(),
            lengths: [alloc::vec![0; 33], alloc::vec![0; 129]],
            classes,
            dirty: Vec::new(),
            new_nets: Vec::new(),
            vacated: 0,
            predicates: 0,
            most_predicates: u64::MAX,
            new_predicates: 0,
            unsettled: false,
            known: HashMap::new(),
        }
    }

    /// Before the first prefix.
    pub(super) const fn set_most_predicates(&mut self, most: u64) {
        self.most_predicates = most;
    }

    /// Whether classes have more predicates than they may, to be asked after [`Addresses::sweep_classes`]. Those of prefixes
    /// may not be true then.
    pub(super) const fn has_too_many_predicates(&self) -> bool {
        self.unsettled || self.predicates > self.most_predicates
    }

    /// Takes out the classes that no prefix has any more.
    pub(super) fn sweep_classes(&mut self) -> Vec<(ClassId, Signature)> {
        let gone = self.classes.sweep();
        let freed = gone.iter().fold(0_u64, |sum, (_, signature)| sum.saturating_add(signature.size()));
        self.predicates = self.predicates.saturating_sub(freed);
        gone
    }

    pub(super) fn prefix_count(&self) -> usize {
        self.prefixes.len()
    }

    pub(super) fn add_owner(&mut self, net: Cidr, group: GroupId) {
        self.touch(net).add(Reason::Owned(group));
    }

    pub(super) fn remove_owner(&mut self, net: Cidr, group: GroupId) {
        self.touch(net).remove(Reason::Owned(group), 1);
    }

    /// Notes what a predicate says of a prefix.
    pub(super) fn add_predicate(&mut self, net: Cidr, predicate: PredicateId, membership: Membership) {
        self.touch(net).add(Reason::Says(predicate, membership));
    }

    /// Takes back what [`Addresses::add_predicate`] noted.
    pub(super) fn remove_predicate(&mut self, net: Cidr, predicate: PredicateId, membership: Membership) {
        self.touch(net).remove(Reason::Says(predicate, membership), 1);
    }

    /// Removes every reason for the predicate to hold.
    pub(super) fn clear_predicate(&mut self, net: Cidr, predicate: PredicateId) {
        self.touch(net).remove(Reason::Says(predicate, Membership::In), u32::MAX);
    }

    /// Sets the ports of a service at an address; none removes them.
    pub(super) fn set_ports(&mut self, net: Cidr, service: PortPredicateId, ports: Ports) {
        let prefix = self.touch(net);
        let mut all = prefix.ports.take().unwrap_or_default();
        match all.0.binary_search_by_key(&service, |(id, _)| *id) {
            Ok(at) if ports.is_empty() => {
                all.0.remove(at);
            }
            Ok(at) => {
                if let Some((_, own)) = all.0.get_mut(at) {
                    *own = ports;
                }
            }
            Err(_) if ports.is_empty() => {}
            Err(at) => all.0.insert(at, (service, ports)),
        }
        prefix.ports = Some(all).filter(|all| !all.0.is_empty());
    }

    pub(super) fn mark(&mut self, net: Cidr) {
        if let Some(prefix) = self.prefixes.get_mut(&net)
            && !prefix.dirty
        {
            prefix.dirty = true;
            self.dirty.push(net);
        }
    }

    fn touch(&mut self, net: Cidr) -> &mut Prefix {
        let prefix = match self.prefixes.entry(net) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if !net.is_host() {
                    self.new_nets.push(net);
                }
                entry.insert(Prefix::default())
            }
        };
        if !prefix.dirty {
            prefix.dirty = true;
            self.dirty.push(net);
        }
        prefix
    }

    /// The class of the longest settled prefix above `net`.
    fn class_above(&self, net: Cidr) -> ClassId {
        let [v4, v6] = &self.lengths;
        let lengths = match net.version() {
            IpVersion::V4 => v4,
            IpVersion::V6 => v6,
        };
        let shorter = (0..net.prefix()).zip(lengths).rev().filter(|(_, count)| **count > 0);
        shorter
            .filter_map(|(prefix, _)| self.prefixes.get(&Cidr::new(net.address(), prefix).ok()?)?.class)
            .next()
            .unwrap_or(ClassId::UNKNOWN)
    }

    /// Brings the classes of all marked prefixes, and of those below them where it matters, up to date. Returns the
    /// changes of the table, sorted.
    pub(super) fn settle(&mut self, groups: &Groups) -> Vec<(Cidr, Option<ClassId>)> {
        if core::mem::take(&mut self.unsettled) {
            // What is above a prefix may be new to it.
            self.dirty = self.prefixes.keys().copied().collect();
            self.prefixes.values_mut().for_each(|prefix| prefix.dirty = true);
        }
        let mut listed = Vec::with_capacity(self.dirty.len());
        let dirty = core::mem::take(&mut self.dirty);
        let (mut hosts, mut nets): (Vec<Cidr>, Vec<Cidr>) = dirty.into_iter().partition(Cidr::is_host);
        if !nets.is_empty() {
            nets.sort_unstable();
            let changed = self.settle_nets(nets, groups, &mut listed);
            self.mark_below(&changed);
            hosts.append(&mut self.dirty);
        }
        hosts.sort_unstable();
        let mut around = Around::default();
        let many = hosts.len() > self.nets.len() / 16;
        for host in hosts {
            let above = match (self.nets.is_empty(), many) {
                (true, _) => ClassId::UNKNOWN,
                (false, true) => around.class(host, self),
                (false, false) => self.class_above(host),
            };
            if self.settle_one(host, above, true, groups, &mut listed).0.is_none() {
                self.remove_vacant(host);
            }
        }
        self.vacated = 0;
        self.known = HashMap::new();
        self.new_predicates = 0;
        // Two sorted runs at most.
        listed.sort_by_key(|(net, _)| *net);
        listed
    }

    /// Settles marked nets and those below them. Returns those whose class changed, each before what lies in it.
    fn settle_nets(
        &mut self,
        dirty: Vec<Cidr>,
        groups: &Groups,
        listed: &mut Vec<(Cidr, Option<ClassId>)>,
    ) -> Vec<Cidr> {
        let mut new = core::mem::take(&mut self.new_nets);
        new.sort_unstable();
        self.add_nets(&new);
        let mut changed = Vec::new();
        if dirty.len() > self.nets.len() / 16 {
            self.sweep_nets(groups, listed, &mut changed);
        } else {
            self.visit_nets(&dirty, groups, listed, &mut changed);
        }
        let gone = |net: &Cidr| self.prefixes.get(net).is_some_and(Prefix::is_vacant);
        let vacant: Vec<Cidr> =
            if self.vacated == 0 { Vec::new() } else { dirty.into_iter().filter(gone).collect() };
        self.vacated = 0;
        for net in &vacant {
            self.remove_vacant(*net);
            self.count(*net, false);
        }
        if vacant.len() > 16 {
            self.nets.retain(|net| self.prefixes.contains_key(net));
        } else {
            for net in vacant {
                if let Ok(at) = self.nets.binary_search(&net) {
                    self.nets.remove(at);
                }
            }
        }
        changed
    }

    fn add_nets(&mut self, new: &[Cidr]) {
        new.iter().for_each(|net| self.count(*net, true));
        if new.len() > 16 {
            self.nets.extend_from_slice(new);
            // Two sorted runs.
            self.nets.sort();
        } else {
            for net in new {
                if let Err(at) = self.nets.binary_search(net) {
                    self.nets.insert(at, *net);
                }
            }
        }
    }

    /// Walks over all nets; cheaper than [`Addresses::visit_nets`] when many are marked.
    fn sweep_nets(
        &mut self,
        groups: &Groups,
        listed: &mut Vec<(Cidr, Option<ClassId>)>,
        changed: &mut Vec<Cidr>,
    ) {
        // The nets around the current one, with their classes and whether these changed.
        let mut around: Vec<(Cidr, ClassId, bool)> = Vec::new();
        let nets = core::mem::take(&mut self.nets);
        for net in &nets {
            while around.last().is_some_and(|(outer, ..)| !outer.covers(net)) {
                around.pop();
            }
            let (above, above_changed) =
                around.last().map_or((ClassId::UNKNOWN, false), |(_, class, changed)| (*class, *changed));
            let (class, has_changed) = self.settle_one(*net, above, above_changed, groups, listed);
            if has_changed {
                changed.push(*net);
            }
            around.push((*net, class.unwrap_or(above), has_changed));
        }
        self.nets = nets;
    }

    /// Visits the marked nets, and those below a net whose class changed.
    fn visit_nets(
        &mut self,
        dirty: &[Cidr],
        groups: &Groups,
        listed: &mut Vec<(Cidr, Option<ClassId>)>,
        changed: &mut Vec<Cidr>,
    ) {
        // What is above a net is visited before it.
        let mut queue: BTreeSet<Cidr> = dirty.iter().copied().collect();
        while let Some(net) = queue.pop_first() {
            let above = self.class_above(net);
            if self.settle_one(net, above, true, groups, listed).1 {
                changed.push(net);
                let start = self.nets.partition_point(|other| *other <= net);
                let below = self.nets.get(start..).unwrap_or_default();
                queue.extend(below.iter().take_while(|below| net.covers(below)));
            }
        }
    }

    /// Marks the single addresses in these nets.
    fn mark_below(&mut self, changed: &[Cidr]) {
        let mut outer: Vec<Cidr> = Vec::new();
        for net in changed {
            if outer.last().is_none_or(|last| !last.covers(net)) {
                outer.push(*net);
            }
        }
        let mut marked: Vec<Cidr> = Vec::new();
        let hosts = self.prefixes.len().saturating_sub(self.nets.len());
        if hosts == 0 {
            return;
        }
        for (net, prefix) in &mut self.prefixes {
            if prefix.dirty || !net.is_host() {
                continue;
            }
            let at = outer.partition_point(|other| other <= net);
            if at.checked_sub(1).and_then(|at| outer.get(at)).is_some_and(|outer| outer.covers(net)) {
                prefix.dirty = true;
                marked.push(*net);
            }
        }
        self.dirty.append(&mut marked);
    }

    /// Gives one prefix its class, if it is marked or `anyway`. Returns it, and whether it is another one than before.
    fn settle_one(
        &mut self,
        net: Cidr,
        above: ClassId,
        anyway: bool,
        groups: &Groups,
        list: &mut Vec<(Cidr, Option<ClassId>)>,
    ) -> (Option<ClassId>, bool) {
        let Some(prefix) = self.prefixes.get_mut(&net) else { return (None, false) };
        if !prefix.dirty && !anyway {
            return (prefix.class, false);
        }
        prefix.dirty = false;
        let old = prefix.class;
        if self.unsettled {
            return (old, false);
        }
        let (class, fresh) = match (prefix.reasons.as_slice(), &prefix.ports) {
            ([], None) => {
                self.vacated = self.vacated.saturating_add(1);
                (None, Fresh::No)
            }
            ([(Reason::Owned(group), _)], None) if above == ClassId::UNKNOWN => {
                let signature = groups.lookup(*group).map(|group| &group.signature);
                let class = signature.map(|signature| self.classes.acquire_ref(signature));
                class.map_or((None, Fresh::No), |(class, fresh)| (Some(class), fresh))
            }
            (reasons, ports) => {
                let signature_above = self.classes.lookup(above);
                let many = signature_above.is_some_and(|above| above.holds.len() > MANY);
                let only = match (reasons, ports) {
                    ([(only, _)], None) if many => Some((above, *only)),
                    _ => None,
                };
                if let Some(class) = only.and_then(|only| self.known.get(&only)).copied() {
                    self.classes.retain(class);
                    (Some(class), Fresh::No)
                } else {
                    let signature = signature(prefix, signature_above.cloned().unwrap_or_default(), groups);
                    let (class, fresh) = self.classes.acquire(signature);
                    if let Some(only) = only {
                        self.known.insert(only, class);
                    }
                    (Some(class), fresh)
                }
            }
        };
        if fresh == Fresh::Yes {
            let size = class.and_then(|class| self.classes.lookup(class)).map_or(0, Signature::size);
            self.predicates = self.predicates.saturating_add(size);
            self.new_predicates = self.new_predicates.saturating_add(size);
            // Classes that go are still there. New ones stay, so these alone are too many.
            self.unsettled = self.new_predicates > self.most_predicates;
        }
        if let Some(old) = old {
            self.classes.release(old);
        }
        let listed = class.filter(|class| *class != above);
        if prefix.listed != listed {
            list.push((net, listed));
        }
        (prefix.class, prefix.listed) = (class, listed);
        (class, class != old)
    }

    fn remove_vacant(&mut self, net: Cidr) {
        if self.prefixes.get(&net).is_some_and(Prefix::is_vacant) {
            self.prefixes.remove(&net);
        }
    }

    fn count(&mut self, net: Cidr, more: bool) {
        let [v4, v6] = &mut self.lengths;
        let lengths = match net.version() {
            IpVersion::V4 => v4,
            IpVersion::V6 => v6,
        };
        if let Some(count) = lengths.get_mut(usize::from(net.prefix())) {
            *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
    }
}

/// A signature of more predicates takes longer to make than to look up.
const MANY: usize = 32;

/// The nets around one address after the other, in order.
#[derive(Debug, Default)]
struct Around {
    nets: Vec<(Cidr, ClassId)>,
    /// Nets that lie before the address.
    passed: usize,
}

impl Around {
    fn class(&mut self, host: Cidr, addresses: &Addresses) -> ClassId {
        while let Some(net) = addresses.nets.get(self.passed).filter(|net| **net < host) {
            self.leave(*net);
            if let Some(class) = addresses.prefixes.get(net).and_then(|prefix| prefix.class) {
                self.nets.push((*net, class));
            }
            self.passed = self.passed.saturating_add(1);
        }
        self.leave(host);
        self.nets.last().map_or(ClassId::UNKNOWN, |(_, class)| *class)
    }

    fn leave(&mut self, inner: Cidr) {
        while self.nets.last().is_some_and(|(net, _)| !net.covers(&inner)) {
            self.nets.pop();
        }
    }
}

/// What is known of a prefix: its own reasons and those of the prefixes above.
fn signature(prefix: &Prefix, above: Signature, groups: &Groups) -> Signature {
    let mut signature = above;
    let mut holds: Vec<PredicateId> = Vec::new();
    let mut lacks: Vec<PredicateId> = Vec::new();
    // Reasons are sorted, and so are these lists.
    for reason in prefix.reasons() {
        match reason {
            Reason::Says(id, Membership::In) => holds.push(id),
            Reason::Says(id, Membership::Out) => lacks.push(id),
            // No predicate is about networks and about owners, so the order does not matter.
            Reason::Owned(group) => {
                if let Some(group) = groups.lookup(group) {
                    signature.merge(&group.signature);
                }
            }
        }
    }
    if !lacks.is_empty() {
        signature.holds.retain(|id| lacks.binary_search(id).is_err());
    }
    let ports = prefix.ports.as_ref().map(|ports| ports.0.clone()).unwrap_or_default();
    signature.merge(&Signature { holds, ports });
    signature
}
