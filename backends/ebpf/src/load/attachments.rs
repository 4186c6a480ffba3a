//! The interfaces that have programs of one load.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use std::time::Instant;

use aya::Ebpf;
use portcullis_core::backend::Unreached;

use crate::error::LoadError;
use crate::load::attach::Guard;
use crate::load::direction::interface_name;
use crate::load::earlier_programs::EarlierPrograms;
use crate::load::faults::{self, Place};
use crate::load::interfaces::{Resolved, Wanted, unreached_of};
use crate::load::object;
use crate::load::pins::Pins;
use crate::options::AttachMode;

/// Which interfaces have programs, and when the kernel was last asked whether they still do.
#[derive(Debug)]
pub(crate) struct Attachments {
    on: BTreeMap<u32, Guard>,
    /// Interfaces that are not bound any more, and whose programs could not be taken off yet.
    left_on: BTreeSet<u32>,
    /// Interfaces whose programs others took away, and that did not take them again.
    broken: BTreeSet<u32>,
    pub(crate) mode: AttachMode,
    looked: Instant,
    look_takes: Duration,
    /// What was put back and not told yet.
    repaired: Vec<String>,
}

/// What has to be undone when a load or an update fails: interfaces that got other programs, and those of this load that they had.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    interfaces: Vec<(u32, Option<Guard>)>,
    /// Where another process had programs on them.
    earlier: EarlierPrograms,
}

impl Attachments {
    pub(crate) fn none_yet(mode: AttachMode) -> Self {
        let (on, left_on, broken) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self {
            on,
            left_on,
            broken,
            mode,
            looked: Instant::now(),
            look_takes: Duration::ZERO,
            repaired: Vec::new(),
        }
    }

    pub(crate) fn has(&self, interface: u32) -> bool {
        self.on.contains_key(&interface)
    }

    /// Gives interfaces the programs that they have not. Those that are gone are told, and so are those where the kernel refuses, if
    /// it does not refuse everywhere.
    pub(crate) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        pins: &mut Pins,
        resolved: &Resolved<'_>,
        touched: &mut Touched,
    ) -> Result<Vec<Unreached>, LoadError> {
        let wanted = resolved.wanted();
        // What the verifier refuses is no interface's failure.
        let guards: BTreeSet<Guard> = wanted.values().map(|wanted| wanted.guard).collect();
        for (_, name) in guards.into_iter().flat_map(Guard::programs) {
            object::program(ebpf, name)?;
        }
        faults::reach(Place::InterfacesAreKnown)?;
        let mut unreached = Vec::new();
        let mut refused = None;
        for (interface, Wanted { guard, endpoint, interface: named, is_named }) in wanted {
            let before = self.on.get(&interface).copied();
            if before == Some(guard) && !self.broken.contains(&interface) {
                continue;
            }
            if before.is_none() {
                touched.earlier.hold(pins, interface);
            }
            touched.interfaces.push((interface, before));
            let Err(error) = pins.attach(ebpf, interface, guard, self.mode) else {
                self.on.insert(interface, guard);
                self.left_on.remove(&interface);
                self.broken.remove(&interface);
                continue;
            };
            if interface_name(interface).is_ok() {
                let (endpoint, interface) = (endpoint.cloned(), named.clone());
                unreached.push(Unreached { endpoint, interface, reason: error.to_string() });
                refused.get_or_insert(error);
            } else {
                // It went in this moment.
                pins.detach(interface)?;
                self.on.remove(&interface);
                unreached.extend(is_named.then(|| unreached_of(endpoint, named)));
            }
        }
        match refused {
            Some(error) if self.on.keys().all(|at| self.broken.contains(at)) => Err(error),
            _ => Ok(unreached),
        }
    }

    /// Takes programs off interfaces that are not in `resolved`, as a load does that takes over: one at a time, so that it can be
    /// undone.
    pub(crate) fn detach_others(
        pins: &mut Pins,
        resolved: &Resolved<'_>,
        touched: &mut Touched,
    ) -> Result<(), LoadError> {
        let wanted = resolved.wanted();
        faults::reach(Place::Detach)?;
        for interface in pins.interfaces().into_iter().filter(|interface| !wanted.contains_key(interface)) {
            touched.earlier.hold(pins, interface);
            touched.interfaces.push((interface, None));
            pins.detach(interface)?;
        }
        Ok(())
    }

    /// Gives interfaces that a failed load of another process's place touched back what they had: programs of `earlier`, or those that
    /// another process left.
    pub(crate) fn put_back(
        touched: &mut Touched,
        pins: &mut Pins,
        mut earlier: Option<(&mut Self, &mut Ebpf)>,
    ) -> Result<(), LoadError> {
        let mut result = Ok(());
        for (interface, _) in &touched.interfaces {
            let done = match &mut earlier {
                Some((earlier, ebpf)) if earlier.has(*interface) => earlier.restore(ebpf, pins, *interface),
                _ => touched.earlier.put_back(pins, *interface),
            };
            result = result.and(done);
        }
        result
    }

    /// Gives interfaces that a failed update touched back what they had.
    pub(crate) fn undo(&mut self, ebpf: &mut Ebpf, pins: &mut Pins, touched: &Touched) {
        for (interface, before) in &touched.interfaces {
            match before {
                Some(guard) => drop(self.on.insert(*interface, *guard)),
                None => drop(self.on.remove(interface)),
            }
            // The error that led here is told. The next load puts the rest right.
            drop(self.restore(ebpf, pins, *interface));
        }
    }

    fn restore(&mut self, ebpf: &mut Ebpf, pins: &mut Pins, interface: u32) -> Result<(), LoadError> {
        match self.on.get(&interface) {
            Some(guard) => pins.attach(ebpf, interface, *guard, self.mode),
            None => pins.detach(interface),
        }
    }

    /// Whether it is time to ask the kernel again. Not all that can happen is told by a notification, and a look costs some
    /// microseconds for each interface: so looks take a twentieth of the time at most.
    pub(crate) fn look_is_due(&self) -> bool {
        self.looked.elapsed() >= self.look_takes.saturating_mul(20)
    }

    /// Attaches again what others took off. Interfaces that are gone are forgotten.
    pub(crate) fn repair(&mut self, ebpf: &mut Ebpf, pins: &mut Pins) -> Result<(), LoadError> {
        let begin = Instant::now();
        let attached: Vec<(u32, Guard)> = self.on.iter().map(|(at, guard)| (*at, *guard)).collect();
        for (interface, guard) in attached {
            let Ok(name) = interface_name(interface) else {
                self.on.remove(&interface);
                self.broken.remove(&interface);
                pins.detach(interface)?;
                continue;
            };
            let missing = match pins.missing(ebpf, interface, guard, self.mode) {
                Ok(missing) => missing,
                // It went meanwhile; the next look sees that.
                Err(_) if interface_name(interface).is_err() => continue,
                Err(error) => return Err(error),
            };
            if missing.is_empty() {
                continue;
            }
            if pins.attach(ebpf, interface, guard, self.mode).is_err() {
                // Tried once more where the interface is wanted, and told as unreached.
                self.broken.insert(interface);
                continue;
            }
            self.broken.remove(&interface);
            self.repaired.extend(missing.iter().map(|direction| format!("{name} {}", direction.name())));
        }
        self.looked = Instant::now();
        self.look_takes = self.looked.saturating_duration_since(begin);
        Ok(())
    }

    /// What was put back since the last call.
    pub(crate) fn take_repaired(&mut self) -> Vec<String> {
        core::mem::take(&mut self.repaired)
    }

    /// What is not in `resolved` any more loses its programs, as far as that goes.
    pub(crate) fn leave_others(&mut self, pins: &mut Pins, resolved: &Resolved<'_>) {
        let wanted = resolved.wanted();
        let others: Vec<u32> = self.on.keys().copied().filter(|at| !wanted.contains_key(at)).collect();
        for interface in others {
            self.on.remove(&interface);
            self.broken.remove(&interface);
            self.left_on.insert(interface);
        }
        // A program that stays lets nothing pass to a workload or from it, and `maintain` tells it.
        drop(self.detach_left(pins));
    }

    /// Takes programs off interfaces that are not bound any more, as far as that goes.
    pub(crate) fn detach_left(&mut self, pins: &mut Pins) -> Result<(), LoadError> {
        let mut result = Ok(());
        for interface in core::mem::take(&mut self.left_on) {
            if let Err(error) = pins.detach(interface) {
                self.left_on.insert(interface);
                result = result.and(Err(error));
            }
        }
        result
    }
}
