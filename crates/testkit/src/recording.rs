//! A backend that needs no kernel: it records what it is given, and decides packets by looking them up in that. The
//! shortest that keeps the [contract](portcullis::backend).

mod recorder;

use alloc::sync::Arc;
use core::ffi::c_int;

use portcullis::backend::{
    Applied, Bindings, Counter, Dataplane, DataplaneError, DataplaneOptions, DesiredState, Event, Health,
    Lower, LowerError, TrackedAt, TrackedFlow, Usage,
};
use portcullis::ir::{DecisionEntry, Delta, Snapshot};
use portcullis::packet::Packet;

pub use recorder::Recorder;

/// What is to be in force.
#[derive(Clone, Debug)]
pub struct Update {
    pub(super) snapshot: Snapshot,
    pub(super) bindings: Bindings,
}

/// Lowers to a copy: it notes the generation and checks what every backend checks.
#[derive(Clone, Copy, Debug)]
pub struct Lowering(u64);

impl Lower for Lowering {
    type Options = ();
    type Existing = ();
    type Update = Update;

    fn load((): (), desired: DesiredState<'_>, (): &()) -> Result<(Self, Update), LowerError> {
        desired.bindings.check()?;
        desired.snapshot.verify().map_err(|_| LowerError::invalid())?;
        let update = Update { snapshot: desired.snapshot.clone(), bindings: desired.bindings.clone() };
        Ok((Self(desired.snapshot.generation), update))
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Update, LowerError> {
        if delta.from != self.0 {
            return Err(LowerError::generation(self.0, delta.from));
        }
        let (next, update) = Self::load((), desired, &())?;
        *self = next;
        Ok(update)
    }

    fn generation(&self) -> u64 {
        self.0
    }
}

/// One process that writes to a [`Recorder`].
struct Recording {
    recorder: Recorder,
    options: DataplaneOptions,
    /// What this process has in force.
    lowering: Option<Lowering>,
}

impl Recording {
    const fn new(recorder: Recorder, options: DataplaneOptions) -> Self {
        Self { recorder, options, lowering: None }
    }
}

impl Dataplane for Recording {
    fn name(&self) -> &'static str {
        "recording"
    }

    fn options(&self) -> &DataplaneOptions {
        &self.options
    }

    fn load(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        let mut recorded = self.recorder.lock();
        recorded.check_room(desired.snapshot)?;
        let (lowering, update) = Lowering::load((), desired, &())?;
        let applied = recorded.write(update)?;
        recorded.options = self.options.clone();
        self.lowering = Some(lowering);
        Ok(applied)
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Applied, DataplaneError> {
        let mut lowering = self.lowering.ok_or_else(DataplaneError::not_loaded)?;
        if delta.from != lowering.generation() {
            return self.load(desired);
        }
        let mut recorded = self.recorder.lock();
        recorded.check_room(desired.snapshot)?;
        let update = lowering.update(desired, delta)?;
        let applied = recorded.write(update)?;
        self.lowering = Some(lowering);
        Ok(applied)
    }

    fn maintain(&mut self, desired: DesiredState<'_>) -> Result<Health, DataplaneError> {
        let kept = self.recorder.lock().in_force.is_some();
        let mut health = Health::default();
        health.applied = self.load(desired)?;
        health.repaired.extend((!kept).then(|| "the policy".to_owned()));
        Ok(health)
    }

    fn counters(&mut self) -> Result<Vec<(Arc<DecisionEntry>, Counter)>, DataplaneError> {
        self.lowering.ok_or_else(DataplaneError::not_loaded)?;
        Ok(self.recorder.lock().read_counters())
    }

    fn next_event(&mut self) -> Result<Option<Event>, DataplaneError> {
        Ok(self.recorder.lock().events.pop_front())
    }

    fn lost_events(&mut self) -> u64 {
        0
    }

    fn event_fd(&self) -> Option<c_int> {
        None
    }

    fn terminate(&mut self, is_denied: &dyn Fn(&TrackedFlow) -> bool) -> Result<usize, DataplaneError> {
        let mut recorded = self.recorder.lock();
        let (before, at) = (recorded.flows.len(), recorded.tracked_at.unwrap_or(TrackedAt::Node));
        let tracked = |packet: &Packet| TrackedFlow { packet: packet.clone(), arrived: packet.clone(), at };
        recorded.flows.retain(|packet| !is_denied(&tracked(packet)));
        Ok(before.saturating_sub(recorded.flows.len()))
    }

    fn usage(&mut self) -> Result<Vec<Usage>, DataplaneError> {
        let recorded = self.recorder.lock();
        let used = u64::try_from(recorded.flows.len()).unwrap_or(u64::MAX);
        Ok(vec![Usage { name: "flows", used, limit: None }, recorded.class_usage()])
    }

    fn remove(&mut self) -> Result<(), DataplaneError> {
        self.recorder.lock().clear();
        self.lowering = None;
        Ok(())
    }
}
