//! What stands for the kernel.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis::backend::{
    Applied, Binding, Counter, Dataplane, DataplaneError, DataplaneErrorKind, DataplaneOptions, Event,
    EventAction, Inspected, Interface, LoggedEvents, LowerError, TrackedAt, Unreached, Usage,
};
use portcullis::ir::{ClassId, DecisionEntry, Interpreter, Snapshot};
use portcullis::packet::Packet;
use portcullis::verdict::{Hook, Verdict};

use super::{Recording, Update};

/// Stands for the kernel: what recording dataplanes wrote stays here when they are gone.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) in_force: Option<Update>,
    pub(super) options: DataplaneOptions,
    /// How many writes succeed before one is refused.
    writes_until_refusal: Option<usize>,
    gone: BTreeSet<String>,
    /// How many classes there may be.
    most_classes: Option<u64>,
    /// How often a policy was refused because it has more.
    refused_for_room: usize,
    /// Where all flows are said to be tracked; `None` for once on the node.
    pub(super) tracked_at: Option<TrackedAt>,
    pub(super) flows: Vec<Packet>,
    counters: Vec<(Arc<DecisionEntry>, Counter)>,
    pub(super) events: VecDeque<Event>,
}

impl Recorder {
    /// A dataplane of a new process.
    #[must_use]
    pub fn open(&self, options: DataplaneOptions) -> Box<dyn Dataplane> {
        Box::new(Recording::new(self.clone(), options))
    }

    /// After this number of writes, one is refused.
    pub fn refuse_after(&self, writes: usize) {
        self.lock().writes_until_refusal = Some(writes);
    }

    /// From now on a policy with more classes than this is refused before anything is written.
    pub fn limit_classes(&self, most: u64) {
        self.lock().most_classes = Some(most);
    }

    /// How often that happened.
    #[must_use]
    pub fn refused_for_room(&self) -> usize {
        self.lock().refused_for_room
    }

    /// The generation of the snapshot that is in force.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.lock().in_force.as_ref().map(|update| update.snapshot.generation)
    }

    /// All flows are tracked there, and not once for the node.
    pub fn track_at(&self, at: TrackedAt) {
        self.lock().tracked_at = Some(at);
    }

    /// The interface goes.
    pub fn lose(&self, interface: &str) {
        self.lock().gone.insert(interface.to_owned());
    }

    /// Another program deletes the policy.
    pub fn tamper(&self) {
        self.lock().in_force = None;
    }

    /// Whether `packet` comes through from one interface to another.
    #[must_use]
    pub fn send(&self, from: &str, to: &str, packet: &Packet) -> bool {
        let mut recorded = self.lock();
        let Some(Update { snapshot, bindings }) = recorded.in_force.clone() else { return true };
        // Before the tracked flows: nothing passes a closed interface.
        if bindings.closed().any(|closed| [from, to].contains(&closed.name())) {
            return false;
        }
        if recorded.flows.contains(packet) {
            return true;
        }
        let ends =
            [(from, Hook::WorkloadEgress, packet.source), (to, Hook::WorkloadIngress, packet.destination)];
        for (interface, hook, address) in ends {
            let here = |binding: &Binding| binding.interfaces().iter().any(|one| one.name() == interface);
            let mut bound = bindings.endpoints().filter(|(_, binding)| here(binding)).peekable();
            if bound.peek().is_none() {
                continue;
            }
            let own = bound.find(|(_, binding)| match binding {
                Binding::Workload { addresses, .. } => addresses.contains(&address),
                _ => true,
            });
            let decision = own.and_then(|(id, _)| Interpreter::new(&snapshot).look_up(id, hook, packet));
            let decision = decision.and_then(|id| snapshot.decisions.lookup(id));
            if !decision.is_some_and(|decision| recorded.take(decision, hook, packet)) {
                return false;
            }
        }
        recorded.flows.push(packet.clone());
        true
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The classes that addresses have, and the one of those that have none.
fn classes(snapshot: &Snapshot) -> u64 {
    let classes: BTreeSet<ClassId> = snapshot.addresses.values().copied().chain([ClassId::UNKNOWN]).collect();
    u64::try_from(classes.len()).unwrap_or(u64::MAX)
}

impl Recorded {
    /// What each decision counted: those in force, and once more those that are not any longer.
    pub(super) fn read_counters(&mut self) -> Vec<(Arc<DecisionEntry>, Counter)> {
        let in_force = self.in_force.iter().flat_map(|update| update.snapshot.decisions.iter());
        let in_force: Vec<Arc<DecisionEntry>> = in_force.map(|(_, one)| Arc::new(one.clone())).collect();
        let mut told = core::mem::take(&mut self.counters);
        self.counters = told.iter().filter(|(one, _)| in_force.contains(one)).cloned().collect();
        let unseen = in_force.into_iter().filter(|one| !self.counters.iter().any(|(seen, _)| seen == one));
        told.extend(unseen.map(|one| (one, Counter::default())));
        told
    }

    /// Refuses what has too many classes.
    pub(super) fn check_room(&mut self, snapshot: &Snapshot) -> Result<(), LowerError> {
        let needed = classes(snapshot);
        match self.most_classes {
            Some(most) if needed > most => {
                self.refused_for_room = self.refused_for_room.saturating_add(1);
                Err(LowerError::limit("classes", most, needed))
            }
            _ => Ok(()),
        }
    }

    /// How many classes are in force.
    pub(super) fn class_usage(&self) -> Usage {
        let used = self.in_force.as_ref().map_or(0, |update| classes(&update.snapshot));
        Usage { name: "classes", used, limit: self.most_classes }
    }

    /// Takes everything off.
    pub(super) fn clear(&mut self) {
        *self = Self { gone: core::mem::take(&mut self.gone), ..Self::default() };
    }

    /// Counts and tells a decision. Whether the packet goes on.
    fn take(&mut self, decision: &DecisionEntry, hook: Hook, packet: &Packet) -> bool {
        let passes = match decision.verdict {
            Verdict::Allow | Verdict::Continue => true,
            Verdict::Inspect => self.options.inspected == Inspected::HandOver,
            Verdict::Deny => false,
        };
        if !self.counters.iter().any(|(known, _)| **known == *decision) {
            self.counters.push((Arc::new(decision.clone()), Counter::default()));
        }
        let Some((decision, counter)) = self.counters.iter_mut().find(|(known, _)| **known == *decision)
        else {
            return false;
        };
        counter.packets = counter.packets.saturating_add(1);
        let denied = self.options.events == LoggedEvents::Denied && !passes;
        if denied || self.options.events == LoggedEvents::All || !decision.logs.is_empty() {
            let action = if passes { EventAction::Passed } else { EventAction::Dropped };
            let mut event = Event::new(packet.clone(), Arc::clone(decision), action);
            event.hook = Some(hook);
            self.events.push_back(event);
        }
        passes
    }

    /// Puts `update` in force, or refuses it where the test says so.
    pub(super) fn write(&mut self, update: Update) -> Result<Applied, DataplaneError> {
        match &mut self.writes_until_refusal {
            Some(0) => {
                self.writes_until_refusal = None;
                return Err(DataplaneError::new(
                    DataplaneErrorKind::Refused,
                    "the recorder was told to refuse",
                ));
            }
            Some(left) => *left = left.saturating_sub(1),
            None => {}
        }
        let gone = |endpoint: Option<&_>, interface: &Interface| Unreached {
            endpoint: endpoint.cloned(),
            interface: interface.clone(),
            reason: "there is no such interface".to_owned(),
        };
        let bound = update.bindings.endpoints();
        let bound =
            bound.flat_map(|(id, binding)| binding.interfaces().iter().map(move |one| (Some(id), one)));
        let all = bound.chain(update.bindings.closed().map(|one| (None, one)));
        let lost = all.filter(|(_, one)| self.gone.contains(one.name()));
        let applied = Applied::but_for(lost.map(|(id, one)| gone(id, one)).collect());
        self.in_force = Some(update);
        Ok(applied)
    }
}
