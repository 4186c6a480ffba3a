//! The program in force: loaded, attached, updated, taken over by the next process, removed.

use alloc::collections::BTreeMap;

use portcullis_core::backend::{
    Applied, DataplaneError, DataplaneErrorKind, DesiredState, Health, LowerError, TrackedAt, TrackedFlow,
    Usage,
};
use portcullis_core::ir::Delta;

use crate::error::{Context as _, LoadError};
use crate::load::pins::Pins;
use crate::load::reason::Reason;
use crate::load::running::Running;
use crate::options::{AttachMode, Capacity, Options};

/// Enforces snapshots on interfaces of the network namespace of the thread that made it; drive it as a
/// [`Dataplane`](portcullis_core::backend::Dataplane). Calls that would reach another namespace are refused.
///
/// When the process ends, also by a signal, the program stays in force with the policy it has: links of TCX are pinned, and
/// filters of clsact stay by themselves. The next load makes fresh maps, fills them, and then replaces the
/// program of each interface by one that looks into them; both enforce a whole policy, and both look into the same table of
/// flows. An upgrade is the same, also one from TCX to clsact or back. Where the table of flows has another size or layout,
/// its entries are copied: before the programs are replaced, and once more after that, for what happened in between.
///
/// An update writes what changed into the maps. When the kernel refuses a part of it, the next update is a load: so an update
/// that returns without an error always has the whole state in force.
///
/// There is to be one enforcer in a network namespace. Other programs may be on the same interfaces: ours goes before those
/// that were there, and what it passes is shown to them. What a program before ours accepts (`TC_ACT_OK`), ours never sees;
/// all of TCX is before all of clsact.
///
/// Decisions that are not used any more keep their number, so that events and counts of them still mean them, until their room
/// is needed: as many as [`Capacity::decisions`](crate::Capacity::decisions) says, used ones included. Before a number gets
/// another decision, its last count is kept for the next [`counters`](portcullis_core::backend::Dataplane::counters) (65,536
/// of them at most), and the events that wait are resolved (as many as fit the ring buffer).
#[derive(Debug)]
pub struct Enforcer {
    options: Options,
    namespace: [u64; 2],
    pins: Option<Pins>,
    running: Option<Box<Running>>,
}

impl Enforcer {
    /// A dataplane that has loaded nothing yet, in the network namespace of this thread. Nothing is touched.
    ///
    /// # Errors
    /// When the name in `options` is none, or the machine does not tell the namespace.
    pub fn open(options: Options) -> Result<Self, DataplaneError> {
        let name = options.dataplane.name.as_str();
        let follows = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(follows) {
            let reason = format!(
                "`{}` is no name of a dataplane: a letter, then letters, digits, `_` or `-`",
                name.escape_debug()
            );
            return Err(LowerError::unsupported(None, reason).into());
        }
        Ok(Self { options, namespace: namespace()?, pins: None, running: None })
    }

    /// The choices it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The bytes of each map, as the kernel accounts them now. The kernel before Linux 6.4 tells an estimate.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or nothing was loaded yet.
    pub fn memory(&self) -> Result<BTreeMap<String, u64>, DataplaneError> {
        Ok(self.loaded()?.memory.bytes()?)
    }

    /// How many packets there were since the load that policy had no decision for.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or nothing was loaded yet.
    pub fn reasons(&self) -> Result<BTreeMap<Reason, u64>, DataplaneError> {
        Ok(self.loaded()?.reasons()?)
    }

    /// How the programs got onto the interfaces: [`AttachMode::Tcx`] or [`AttachMode::Clsact`]. `None` before the load.
    #[must_use]
    pub fn attach_mode(&self) -> Option<AttachMode> {
        Some(self.running.as_ref()?.mode)
    }

    pub(crate) fn loaded(&self) -> Result<&Running, DataplaneError> {
        self.running.as_deref().ok_or_else(DataplaneError::not_loaded)
    }

    pub(crate) fn loaded_mut(&mut self) -> Result<&mut Running, DataplaneError> {
        self.running.as_deref_mut().ok_or_else(DataplaneError::not_loaded)
    }

    pub(crate) fn start(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        self.check_namespace()?;
        let capacity = self.options.capacity;
        let mut refused: Option<DataplaneError> = None;
        loop {
            let error = match self.start_once(desired) {
                Err(error) => error,
                started => return started,
            };
            if let Some(larger) = self.grown(&error) {
                self.options.capacity = larger;
                refused.get_or_insert(error);
            } else {
                self.options.capacity = capacity;
                // The larger maps may have been refused for a reason of their own, such as memory: what counts is that policy does
                // not fit.
                return Err(refused.unwrap_or(error));
            }
        }
    }

    fn start_once(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        // What others did to the folder in between is seen here, and nowhere else.
        let pins = self.pins.insert(Pins::open(&self.options.pins())?);
        let (running, unreached) = Running::start(&self.options, pins, desired, self.running.as_deref_mut())?;
        self.running = Some(Box::new(running));
        Ok(Applied::but_for(unreached))
    }

    /// The capacity with which what did not fit may.
    fn grown(&self, error: &DataplaneError) -> Option<Capacity> {
        let mut capacity = self.options.capacity;
        let grows = capacity.grow_up_to(self.options.growth.as_ref()?, error.lower()?);
        grows.then_some(capacity)
    }

    pub(crate) fn follow(
        &mut self,
        desired: DesiredState<'_>,
        delta: &Delta,
    ) -> Result<Applied, DataplaneError> {
        self.check_namespace()?;
        let leads_on = self.loaded()?.generation() == delta.from && desired.snapshot.generation == delta.to;
        match (&mut self.running, &mut self.pins) {
            (Some(running), Some(pins)) if leads_on && !running.is_behind => {
                match running.update(pins, desired, delta) {
                    Err(error) if self.grown(&error).is_some() => self.start(desired),
                    result => Ok(Applied::but_for(result?)),
                }
            }
            _ => self.start(desired),
        }
    }

    pub(crate) fn look_after(&mut self, desired: DesiredState<'_>) -> Result<Health, DataplaneError> {
        self.check_namespace()?;
        let is_in_force = self.loaded()?.generation() == desired.snapshot.generation;
        match (&mut self.running, &mut self.pins) {
            (Some(running), Some(pins)) if is_in_force && !running.is_behind => {
                running.maintain(pins, desired)
            }
            _ => {
                let mut health = Health::default();
                health.applied = self.start(desired)?;
                Ok(health)
            }
        }
    }

    pub(crate) fn end_flows(
        &mut self,
        is_denied: &dyn Fn(&TrackedFlow) -> bool,
    ) -> Result<usize, DataplaneError> {
        let running = self.loaded_mut()?;
        // A packet in flight may still be allowed by the policy before, and begin a flow.
        running.wait_for_grace_period()?;
        let ended = running.flows.end(|flow| {
            let at = TrackedAt::Interface { index: flow.interface, from_endpoint: flow.began_local };
            let (packet, arrived) = (flow.packet.clone(), flow.packet.clone());
            flow.is_known && is_denied(&TrackedFlow { packet, arrived, at })
        });
        Ok(ended?)
    }

    pub(crate) fn used(&self) -> Result<Vec<Usage>, DataplaneError> {
        let running = self.loaded()?;
        let mut usage = running.lowering.usage();
        let capacity = self.options.capacity();
        let limits = [("flows_v4", capacity.flows_v4), ("flows_v6", capacity.flows_v6)];
        for ((name, limit), used) in limits.into_iter().zip(running.flows.lengths()?) {
            let used = u64::try_from(used).unwrap_or(u64::MAX);
            usage.push(Usage { name, used, limit: Some(limit.into()) });
        }
        usage.sort();
        Ok(usage)
    }

    pub(crate) fn take_away(&mut self) -> Result<(), DataplaneError> {
        self.check_namespace()?;
        let mut left = Pins::left_in(&self.options.pins())?;
        if left.is_none() && self.running.is_some() {
            let folder = self.options.pins();
            let reason =
                format!("`{}` is gone, so what this process has in force cannot be found", folder.display());
            return Err(LoadError::plain(reason).of_environment().into());
        }
        if let Some(Err(error)) = left.as_mut().map(Pins::remove) {
            // Some interfaces have no program any more.
            self.running.iter_mut().for_each(|running| running.is_behind = true);
            return Err(error.into());
        }
        (self.running, self.pins) = (None, None);
        Ok(())
    }

    fn check_namespace(&self) -> Result<(), DataplaneError> {
        if namespace()? == self.namespace {
            return Ok(());
        }
        let reason = "this thread is in another network namespace than the one that made the dataplane";
        Err(DataplaneError::new(DataplaneErrorKind::Environment, reason))
    }
}

/// What the network namespace of this thread is known by.
fn namespace() -> Result<[u64; 2], LoadError> {
    const PATH: &str = "/proc/thread-self/ns/net";
    let found = nix::sys::stat::stat(PATH).context(format!("`{PATH}`")).map_err(LoadError::of_environment)?;
    Ok([found.st_dev, found.st_ino])
}

#[cfg(test)]
mod tests;
