//! The kernel as judge: the real program decides real packets, one at a time, without any interface.
//!
//! [`Oracle`] loads a compiled snapshot into maps of its own and answers as any engine does, hook by hook, by
//! `BPF_PROG_TEST_RUN`. The event of a decision says which one the kernel took. What the kernel cannot see, principals
//! and HTTP requests, is decided by the decision's L7 program as in the IR. Nothing is attached, and nothing is left behind.

mod measure;
#[cfg(test)]
mod race;
mod sandbox;

use alloc::collections::BTreeMap;
use core::fmt;
use std::sync::Mutex;

use portcullis_core::evaluate::Evaluate;
use portcullis_core::ir::{Snapshot, View};
use portcullis_core::model::{EndpointId, EndpointKind};
use portcullis_core::packet::Packet;
use portcullis_core::verdict::{Cause, Decision, Hook, Verdict};
use portcullis_core::wire::craft;

use crate::binding::{Binding, Bindings};
use crate::event::Event;
use crate::layout::{EndpointWords, hook_index};
use crate::load_error::LoadError;
use crate::lowering::Lowering;
use crate::options::{LoggedEvents, Options};
use crate::write::Write;
pub use measure::{Drawing, Draws, END_WORDS, MOST_DRAWN};
pub use sandbox::Sandbox;

/// An engine that asks the kernel. Questions of several threads are answered one after the other.
pub struct Oracle {
    judge: Mutex<Box<Judge>>,
}

/// Why there is no oracle, or no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OracleError {
    kind: Kind,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Environment,
    Unaskable,
    Contradiction,
}

impl OracleError {
    fn environment(reason: impl fmt::Display) -> Self {
        Self { kind: Kind::Environment, reason: reason.to_string() }
    }

    fn contradiction(reason: impl fmt::Display) -> Self {
        Self { kind: Kind::Contradiction, reason: reason.to_string() }
    }

    /// Whether the kernel was not asked, because there is no such packet: two families, or upper-layer protocols that
    /// are extension headers of IPv6.
    #[must_use]
    pub const fn is_unaskable(&self) -> bool {
        matches!(self.kind, Kind::Unaskable)
    }

    /// Whether what the program did with the packet is not what the decision it took says. That is a fault of the
    /// backend.
    #[must_use]
    pub const fn is_contradiction(&self) -> bool {
        matches!(self.kind, Kind::Contradiction)
    }
}

impl fmt::Display for OracleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl core::error::Error for OracleError {}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Oracle")
    }
}

impl Oracle {
    /// Loads what `view` of `snapshot` says for all of its endpoints.
    ///
    /// # Errors
    /// When the machine cannot do it: no root, no bpf(2), or the verifier refuses.
    pub fn load(mut snapshot: Snapshot, view: View) -> Result<Self, OracleError> {
        // Only one view is asked, so the other need not be there.
        for entry in snapshot.endpoints.values_mut() {
            if let (View::Staged, Some(staged)) = (view, entry.staged.take()) {
                entry.enforced = staged;
            }
        }
        Ok(Self { judge: Mutex::new(Box::new(Judge::new(snapshot)?)) })
    }

    /// What the kernel does with `packet` at `hook` of `endpoint`.
    ///
    /// # Errors
    /// When there is no such packet on the wire, or the kernel cannot be asked.
    pub fn ask(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Result<Decision, OracleError> {
        let mut judge = self
            .judge
            .lock()
            .map_err(|_| OracleError::environment("an earlier question ended in a panic"))?;
        judge.decide(endpoint, hook, packet)
    }
}

/// A packet that the kernel cannot be asked about is denied, with the cause of an endpoint that is not there; use
/// [`Oracle::ask`] to tell the two apart.
impl Evaluate for Oracle {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.ask(endpoint, hook, packet).unwrap_or(Decision::new(Verdict::Deny, Cause::NoPolicy))
    }
}

struct Judge {
    snapshot: Snapshot,
    lowering: Lowering,
    sandbox: Sandbox,
    /// What each endpoint would have at its interface.
    endpoints: BTreeMap<EndpointId, EndpointWords>,
    /// Whose words the interface has.
    bound: Option<EndpointWords>,
}

/// Test runs happen at the loopback interface, which every network namespace has under this number.
const INTERFACE: u32 = 1;
/// Packets come in by another one.
const OTHER_INTERFACE: u32 = 2;

impl Judge {
    fn new(snapshot: Snapshot) -> Result<Self, OracleError> {
        let binding = |(id, interface): (&EndpointId, u32)| {
            let binding = match id.kind {
                EndpointKind::Workload => Binding::WorkloadAnyAddress { interface },
                EndpointKind::Host => Binding::Host { interfaces: vec![interface] },
            };
            (id.clone(), binding)
        };
        let bindings: Bindings = snapshot.endpoints.keys().zip(OTHER_INTERFACE..).map(binding).collect();
        let options = Options::new().with_events(LoggedEvents::All);
        let (lowering, mut update) =
            Lowering::fitting(options, &snapshot, &bindings).map_err(OracleError::environment)?;
        let mut endpoints = BTreeMap::new();
        let interfaces: BTreeMap<u32, &EndpointId> = bindings
            .iter()
            .flat_map(|(id, binding)| binding.interfaces().iter().map(move |at| (*at, id)))
            .collect();
        // They are not written: the interface of the test runs gets one at a time.
        update.writes.retain(|write| match write {
            Write::Endpoint(interface, Some(words)) => {
                if let Some(id) = interfaces.get(interface) {
                    endpoints.insert((*id).clone(), **words);
                }
                false
            }
            _ => true,
        });
        let mut sandbox = Sandbox::empty(lowering.options()).map_err(OracleError::environment)?;
        sandbox.carry_out(&update).map_err(OracleError::environment)?;
        Ok(Self { snapshot, lowering, sandbox, endpoints, bound: None })
    }

    fn decide(
        &mut self,
        endpoint: &EndpointId,
        hook: Hook,
        packet: &Packet,
    ) -> Result<Decision, OracleError> {
        let Some(words) = self.endpoints.get(endpoint) else {
            return Ok(Decision::new(Verdict::Deny, Cause::NoPolicy));
        };
        if self.bound.as_ref() != Some(words) {
            self.sandbox.maps.set_endpoint(INTERFACE, words).map_err(OracleError::environment)?;
            self.bound = Some(*words);
        }
        let Some(bytes) = craft(packet) else {
            let reason = format!("there is no such packet on the wire: protocol {}", packet.protocol);
            return Err(OracleError { kind: Kind::Unaskable, reason });
        };
        let passed = self.run(hook, &bytes).map_err(OracleError::environment)?;
        let event = self.sandbox.events.next().map(|record| Event::read(&record));
        if self.sandbox.events.next().is_some() {
            return Err(OracleError::contradiction("the program decided more than once"));
        }
        match event {
            None if !passed => Ok(Decision::new(Verdict::Deny, Cause::NoPolicy)),
            None => Err(OracleError::contradiction("the packet passed without a decision")),
            Some(None) => Err(OracleError::contradiction("the program sent something that is no event")),
            Some(Some(event)) => self.resolve(&event, hook, passed, packet),
        }
    }

    /// Whether the program for `hook` lets a packet pass.
    fn run(&mut self, hook: Hook, bytes: &[u8]) -> Result<bool, LoadError> {
        let name = match hook {
            Hook::WorkloadIngress => "to_workload",
            Hook::WorkloadEgress => "from_workload",
            _ => "probe",
        };
        let hook = u32::try_from(hook_index(hook)).unwrap_or(u32::MAX);
        let context = context(OTHER_INTERFACE, [hook, INTERFACE]);
        Ok(self.sandbox.run(name, &frame(bytes), &context, 1)?.0)
    }

    /// What the decision of `event` means, if what was seen agrees with it.
    fn resolve(
        &self,
        event: &Event,
        hook: Hook,
        passed: bool,
        packet: &Packet,
    ) -> Result<Decision, OracleError> {
        let Some(found) = self.lowering.decision(event.decision) else {
            return Err(OracleError::contradiction(format!("there is no decision {}", event.decision)));
        };
        let drops = matches!(found.verdict, Verdict::Deny | Verdict::Inspect);
        if drops == passed || drops != event.dropped || event.hook != hook {
            let what = if passed { "passed" } else { "was dropped" };
            let reason = format!("decision {} says {}, the packet {what}", event.decision, found.verdict);
            return Err(OracleError::contradiction(reason));
        }
        let attributes = packet.principal.is_some() || packet.http.is_some();
        match found.l7.and_then(|id| self.snapshot.l7.lookup(id)).filter(|_| attributes) {
            Some(program) => self
                .snapshot
                .run(program, packet)
                .ok_or_else(|| OracleError::contradiction("an L7 program breaks an invariant")),
            None => {
                Ok(Decision { verdict: found.verdict, cause: found.cause.clone(), logs: found.logs.clone() })
            }
        }
    }
}

/// What the programs answer: go on, and drop (`TC_ACT_UNSPEC`, `TC_ACT_SHOT`).
const PASSES: u32 = u32::MAX;
const DROPS: u32 = 2;

/// A `struct __sk_buff` for test runs, up to its `cb`: the interface the packet came in by, and two words for the program.
pub(crate) fn context(from: u32, words: [u32; 2]) -> [u8; 68] {
    context_at(INTERFACE, from, words)
}

/// The same at another interface.
pub(crate) fn context_at(interface: u32, from: u32, words: [u32; 2]) -> [u8; 68] {
    let mut bytes = [0; 68];
    for (at, value) in [(36, from), (40, interface), (48, words[0]), (52, words[1])] {
        for (place, byte) in bytes.iter_mut().skip(at).zip(value.to_ne_bytes()) {
            *place = byte;
        }
    }
    bytes
}

/// The packet behind an Ethernet header.
pub(crate) fn frame(packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] =
        if packet.first().is_some_and(|byte| byte >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
    [&[0; 12], &ethertype[..], packet].concat()
}
