//! Endpoints: handles, and the programs behind them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use portcullis_core::ir::{EndpointEntry, HookPrograms, Id, View};
use portcullis_core::model::EndpointId;
use portcullis_core::verdict::Hook;

use crate::cow_vec::{CowVec, index};

/// A short name for an endpoint of one matcher and of those that follow from it by
/// [`Matcher::apply`](crate::Matcher::apply), as long as the endpoint exists. Once it is gone the handle is denied
/// everything, also when its number serves another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointHandle {
    number: u32,
    turn: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    slots: CowVec<Slot, 256>,
    entries: CowVec<Option<Arc<(EndpointId, EndpointEntry)>>, 64>,
    /// Buckets of handle numbers by a hash of the id.
    buckets: CowVec<Arc<[u32]>, 64>,
    free: Arc<Vec<u32>>,
    next: u32,
}

/// What the verdict path of a workload reads: four of them in a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Slot {
    turn: u32,
    ingress: u32,
    egress: u32,
}

impl Default for Slot {
    fn default() -> Self {
        Self { turn: 0, ingress: NONE, egress: NONE }
    }
}

impl Endpoints {
    pub(crate) fn new() -> Self {
        Self {
            slots: CowVec::new(),
            entries: CowVec::new(),
            buckets: CowVec::new(),
            free: Arc::new(Vec::new()),
            next: 0,
        }
    }

    pub(crate) fn handle(&self, id: &EndpointId) -> Option<EndpointHandle> {
        self.buckets.get(bucket(id))?.iter().find_map(|number| {
            let (found, _) = self.entries.get(index(*number))?.as_deref()?;
            let turn = self.slots.get(index(*number))?.turn;
            (found == id).then_some(EndpointHandle { number: *number, turn })
        })
    }

    /// The number of the program, which may be that of none.
    #[inline]
    pub(crate) fn program(&self, handle: EndpointHandle, hook: Hook, view: View) -> Option<u32> {
        let slot = self.slots.get(index(handle.number)).filter(|slot| slot.turn == handle.turn)?;
        match (view, hook) {
            (View::Enforced, Hook::WorkloadIngress) => Some(slot.ingress),
            (View::Enforced, Hook::WorkloadEgress) => Some(slot.egress),
            _ => self.other_program(handle, hook, view),
        }
    }

    #[inline(never)]
    fn other_program(&self, handle: EndpointHandle, hook: Hook, view: View) -> Option<u32> {
        let (_, entry) = self.entries.get(index(handle.number))?.as_deref()?;
        let programs = match (view, &entry.staged) {
            (View::Staged, Some(staged)) => staged,
            _ => &entry.enforced,
        };
        of(programs, hook)
    }

    pub(crate) fn set(&mut self, id: &EndpointId, entry: Option<&EndpointEntry>) {
        let known = self.handle(id);
        let Some(entry) = entry else {
            if let Some(known) = known {
                self.remove(id, known);
            }
            return;
        };
        let (number, turn) = match known {
            Some(known) => (known.number, known.turn),
            None => self.allocate(id),
        };
        let enforced = |hook| of(&entry.enforced, hook).unwrap_or(NONE);
        let (ingress, egress) = (enforced(Hook::WorkloadIngress), enforced(Hook::WorkloadEgress));
        self.slots.set(index(number), Slot { turn, ingress, egress });
        self.entries.set(index(number), Some(Arc::new((id.clone(), entry.clone()))));
    }

    fn allocate(&mut self, id: &EndpointId) -> (u32, u32) {
        let reused = if self.free.is_empty() { None } else { Arc::make_mut(&mut self.free).pop() };
        let number = reused.unwrap_or_else(|| {
            let number = self.next;
            self.next = self.next.saturating_add(1);
            number
        });
        if let Some(bucket) = self.buckets.entry(bucket(id)) {
            *bucket = bucket.iter().copied().chain([number]).collect();
        }
        (number, self.slots.get(index(number)).map_or(0, |slot| slot.turn))
    }

    fn remove(&mut self, id: &EndpointId, handle: EndpointHandle) {
        self.slots.set(index(handle.number), Slot { turn: handle.turn.wrapping_add(1), ..Slot::default() });
        self.entries.set(index(handle.number), None);
        if let Some(bucket) = self.buckets.entry(bucket(id)) {
            *bucket = bucket.iter().copied().filter(|number| *number != handle.number).collect();
        }
        Arc::make_mut(&mut self.free).push(handle.number);
    }
}

fn of(programs: &HookPrograms, hook: Hook) -> Option<u32> {
    programs.0.get(&hook).map(|program| program.number())
}

/// FNV-1a over namespace and name, folded to [`BUCKETS`].
fn bucket(id: &EndpointId) -> usize {
    let namespace = id.namespace.as_deref().unwrap_or_default();
    let bytes = namespace.bytes().chain([0]).chain(id.name.bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    usize::try_from((hash ^ hash.wrapping_shr(32)) & BUCKETS).unwrap_or(0)
}

/// No program has this number: an arena never gets that large.
const NONE: u32 = u32::MAX;

/// Number of buckets, less one: about 12 endpoints a bucket with 100,000 of them.
const BUCKETS: u64 = 0x1FFF;
