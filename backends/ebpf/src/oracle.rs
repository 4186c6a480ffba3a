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

use portcullis_core::backend::{
    self, Binding, Bindings, DataplaneOptions, DesiredState, Interface, LoggedEvents, OracleError,
    OracleErrorKind,
};
use portcullis_core::ir::{Snapshot, View};
use portcullis_core::model::{EndpointId, EndpointKind};
use portcullis_core::packet::Packet;
use portcullis_core::verdict::{Cause, Decision, Hook, Verdict};
use portcullis_core::wire::craft;

use crate::error::LoadError;
use crate::layout::{EndpointWords, hook_index};
#[doc(hidden)]
pub use crate::load::event::EventRecord;
use crate::lower::Lowering;
use crate::options::Options;
use crate::write::Write;
// Tests and benchmarks of this repository ask the program packet by packet. They are other crates, so these are public.
#[doc(hidden)]
pub use measure::{Drawing, Draws, END_WORDS, MOST_DRAWN, Tracking};
#[doc(hidden)]
pub use sandbox::Sandbox;

/// An engine that asks the kernel. Questions of several threads are answered one after the other.
pub struct Oracle {
    session: Mutex<Box<Session>>,
}

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
        Ok(Self { session: Mutex::new(Box::new(Session::new(snapshot)?)) })
    }
}

impl backend::Oracle for Oracle {
    fn ask(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Result<Decision, OracleError> {
        let mut session =
            self.session.lock().map_err(|_| environment("an earlier question ended in a panic"))?;
        session.decide(endpoint, hook, packet)
    }
}

struct Session {
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

impl Session {
    fn new(snapshot: Snapshot) -> Result<Self, OracleError> {
        let mut bindings = Bindings::new();
        let mut interfaces: BTreeMap<u32, EndpointId> = BTreeMap::new();
        for (id, index) in snapshot.endpoints.keys().zip(OTHER_INTERFACE..) {
            let interface = Interface::new(&format!("if{index}")).map_err(environment)?.with_index(index);
            let binding = match id.kind {
                EndpointKind::Workload => Binding::WorkloadAnyAddress { interface },
                EndpointKind::Host => Binding::Host { interfaces: vec![interface] },
            };
            bindings.bind(id.clone(), binding);
            interfaces.insert(index, id.clone());
        }
        let options = Options::from(DataplaneOptions::new().with_events(LoggedEvents::All));
        let desired = DesiredState::new(&snapshot, &bindings);
        let (lowering, mut update) = Lowering::fitting(options, desired).map_err(environment)?;
        let mut endpoints = BTreeMap::new();
        // They are not written: the interface of the test runs gets one at a time.
        update.writes.retain(|write| match write {
            Write::Endpoint(interface, Some(words)) => {
                if let Some(id) = interfaces.get(interface) {
                    endpoints.insert(id.clone(), **words);
                }
                false
            }
            _ => true,
        });
        let mut sandbox = Sandbox::empty(lowering.options()).map_err(environment)?;
        sandbox.carry_out(&update).map_err(environment)?;
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
            self.sandbox.maps.set_endpoint(INTERFACE, words).map_err(environment)?;
            self.bound = Some(*words);
        }
        let Some(bytes) = craft(packet) else {
            let reason = format!("there is no such packet on the wire: protocol {}", packet.protocol);
            return Err(OracleError::new(OracleErrorKind::Unaskable, reason));
        };
        let passed = self.run(hook, &bytes).map_err(environment)?;
        let event = self.sandbox.events.next().map(|record| EventRecord::read(&record));
        if self.sandbox.events.next().is_some() {
            return Err(contradiction("the program decided more than once"));
        }
        match event {
            None if !passed => Ok(Decision::new(Verdict::Deny, Cause::NoPolicy)),
            None => Err(contradiction("the packet passed without a decision")),
            Some(None) => Err(contradiction("the program sent something that is no event")),
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
        event: &EventRecord,
        hook: Hook,
        passed: bool,
        packet: &Packet,
    ) -> Result<Decision, OracleError> {
        let Some(found) = self.lowering.decision(event.decision) else {
            return Err(contradiction(format!("there is no decision {}", event.decision)));
        };
        let drops = matches!(found.verdict, Verdict::Deny | Verdict::Inspect);
        if drops == passed || drops != event.dropped || event.hook != hook {
            let what = if passed { "passed" } else { "was dropped" };
            let reason = format!("decision {} says {}, the packet {what}", event.decision, found.verdict);
            return Err(contradiction(reason));
        }
        let attributes = packet.principal.is_some() || packet.http.is_some();
        match found.l7.and_then(|id| self.snapshot.l7.lookup(id)).filter(|_| attributes) {
            Some(program) => self
                .snapshot
                .run(program, packet)
                .ok_or_else(|| contradiction("an L7 program breaks an invariant")),
            None => {
                Ok(Decision { verdict: found.verdict, cause: found.cause.clone(), logs: found.logs.clone() })
            }
        }
    }
}

fn environment(reason: impl fmt::Display) -> OracleError {
    OracleError::new(OracleErrorKind::Environment, reason)
}

fn contradiction(reason: impl fmt::Display) -> OracleError {
    OracleError::new(OracleErrorKind::Contradiction, reason)
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
