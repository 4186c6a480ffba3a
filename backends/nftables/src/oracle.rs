//! The kernel as judge: real packets, decided by netfilter in a private network namespace.
//!
//! [`Oracle`] loads a compiled snapshot and answers as any engine does, hook by hook. For each question it binds the
//! endpoint to an interface, sends one packet the way the hook guards, sees whether it comes out, and reads from nflog
//! which decision the kernel took. What the kernel cannot see, principals and HTTP requests, is decided by the
//! decision's L7 program as in the IR.
//!
//! Nothing is left behind: the namespace has no name and ends with the oracle's thread, also when the process is killed.

mod wire;

use alloc::collections::BTreeMap;
use core::fmt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use portcullis_core::backend::{
    self, Binding, Bindings, DataplaneOptions, DesiredState, Interface, LoggedEvents, Lower as _,
    OracleError, OracleErrorKind,
};
use portcullis_core::ir::{EndpointEntry, Interpreter, L7Program, Snapshot, View};
use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, EndpointKind};
use portcullis_core::net::canonical;
use portcullis_core::packet::Packet;
use portcullis_core::verdict::{Cause, Decision, Hook, Verdict};
use portcullis_core::wire::craft;

use crate::apply::Transport as _;
use crate::apply::{Events, Netlink};
use crate::command::{Command, Element, Elements, SetKind, Value};
use crate::lower::Lowering;
use crate::options::{Limits, Options};
use crate::update::Existing;
use wire::{Way, Wire};

/// An engine that asks the kernel. Questions of several threads are answered one after the other.
pub struct Oracle {
    questions: Mutex<Sender<Question>>,
}

fn environment(reason: impl fmt::Display) -> OracleError {
    OracleError::new(OracleErrorKind::Environment, reason)
}

fn unaskable(reason: impl fmt::Display) -> OracleError {
    OracleError::new(OracleErrorKind::Unaskable, reason)
}

fn contradiction(reason: impl fmt::Display) -> OracleError {
    OracleError::new(OracleErrorKind::Contradiction, reason)
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Oracle")
    }
}

struct Question {
    endpoint: EndpointId,
    hook: Hook,
    packet: Packet,
    answer: Sender<Result<Decision, OracleError>>,
}

impl Oracle {
    /// Loads what `view` of `snapshot` says for all of its endpoints.
    ///
    /// # Errors
    /// When the machine cannot do it: no root, no program `ip` or `nft`, no TUN devices, or nf_tables refuses.
    pub fn load(snapshot: Snapshot, view: View) -> Result<Self, OracleError> {
        let (questions, asked) = channel();
        let (ready, is_ready) = channel();
        // A thread of its own: a namespace belongs to a thread.
        let run = move || match Judge::new(snapshot, view) {
            Ok(judge) => {
                if ready.send(Ok(())).is_ok() {
                    judge.serve(&asked);
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        thread::Builder::new()
            .name("portcullis-oracle".into())
            .spawn(run)
            .map_err(|error| environment(format!("cannot start a thread: {error}")))?;
        is_ready.recv().map_err(|_| gone())??;
        Ok(Self { questions: Mutex::new(questions) })
    }
}

impl backend::Oracle for Oracle {
    /// No policy is asked, and the packet is unaskable, for what the kernel does not route: loopback and multicast
    /// addresses, link-local ones, upper-layer protocols that are extension headers of IPv6.
    fn ask(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Result<Decision, OracleError> {
        let (answer, is_answered) = channel();
        let question = Question { endpoint: endpoint.clone(), hook, packet: packet.clone(), answer };
        let sent = self.questions.lock().is_ok_and(|questions| questions.send(question).is_ok());
        if !sent {
            return Err(gone());
        }
        is_answered.recv().map_err(|_| gone())?
    }
}

fn gone() -> OracleError {
    environment("the thread that asks the kernel has ended")
}

/// The side of the oracle that lives in the namespace.
struct Judge {
    snapshot: Snapshot,
    lowering: Lowering,
    netlink: Netlink,
    events: Events,
    wire: Wire,
    /// The interface each endpoint is bound to; none of them exists.
    interfaces: BTreeMap<EndpointId, Interface>,
    /// The binding to a real interface.
    bound: Option<Elements>,
}

impl Judge {
    fn new(mut snapshot: Snapshot, view: View) -> Result<Self, OracleError> {
        // Only one view is asked, so the other need not be there.
        for entry in snapshot.endpoints.values_mut() {
            if let (View::Staged, Some(staged)) = (view, entry.staged.take()) {
                entry.enforced = staged;
            }
        }
        let wire = Wire::open().map_err(environment)?;
        let failed = |error: crate::apply::ApplyError| environment(error);
        let mut netlink = Netlink::open().map_err(failed)?;
        let limits = Limits { chains: usize::MAX, sets: usize::MAX, elements: usize::MAX };
        // Every packet is asked about, and none may go without its event.
        let shared = DataplaneOptions::new()
            .with_events(LoggedEvents::All)
            .with_events_per_second(u32::MAX)
            .with_check_neighbour_claims(false);
        let options = Options::from(shared).with_limits(limits);
        let mut events = Events::open().map_err(failed)?;
        events.listen(options.log_group()).map_err(failed)?;
        // Endpoints with equal programs share an interface: the kernel looks through every binding whenever one changes.
        let mut interfaces = BTreeMap::new();
        let mut shared: BTreeMap<&EndpointEntry, Interface> = BTreeMap::new();
        let mut bindings = Bindings::new();
        for (id, entry) in &snapshot.endpoints {
            if let Some(interface) = shared.get(entry) {
                interfaces.insert(id.clone(), interface.clone());
                continue;
            }
            let interface = Interface::new(&format!("e{}", shared.len())).map_err(environment)?;
            shared.insert(entry, interface.clone());
            interfaces.insert(id.clone(), interface.clone());
            let binding = match id.kind {
                EndpointKind::Workload => Binding::WorkloadAnyAddress { interface },
                EndpointKind::Host => Binding::Host { interfaces: vec![interface] },
            };
            bindings.bind(id.clone(), binding);
        }
        let (lowering, update) =
            Lowering::load(options, DesiredState::new(&snapshot, &bindings), &Existing::default())
                .map_err(environment)?;
        let table: Name = lowering.options().shared().name.clone();
        for stage in update.stages() {
            netlink.commit(&table, &stage.commands).map_err(failed)?;
        }
        Ok(Self { snapshot, lowering, netlink, events, wire, interfaces, bound: None })
    }

    fn serve(mut self, questions: &Receiver<Question>) {
        while let Ok(question) = questions.recv() {
            let answer = self.decide(&question.endpoint, question.hook, &question.packet);
            drop(question.answer.send(answer));
        }
    }

    fn decide(
        &mut self,
        endpoint: &EndpointId,
        hook: Hook,
        packet: &Packet,
    ) -> Result<Decision, OracleError> {
        let way = way(hook);
        let asked = self.bind(endpoint, hook, packet, way.guarded())?;
        let Some(bytes) = craft(packet) else {
            return Err(unaskable(format!(
                "there is no such packet on the wire: protocol {}",
                packet.protocol
            )));
        };
        let passed = self.wire.pass(way, &bytes, canonical(packet.destination)).map_err(environment)?;
        let (mut decided, mut logged) = (None, 0_usize);
        while let Some(event) = self.events.next(core::time::Duration::ZERO).map_err(environment)? {
            if event.is_log() {
                logged = logged.saturating_add(1);
            } else {
                decided = Some(event.chain().to_owned());
            }
        }
        match decided {
            Some(chain) if asked => self.resolve(&chain, logged, passed, packet),
            Some(chain) if chain == crate::lower::base_chains::UNKNOWN && !passed => {
                Ok(Decision::new(Verdict::Deny, Cause::NoPolicy))
            }
            Some(chain) => Err(contradiction(format!("{chain} decided for an endpoint that is not bound"))),
            None if !passed => Err(unaskable(format!(
                "the kernel does not route {} to {}",
                packet.source, packet.destination
            ))),
            None if asked => Err(contradiction("the packet passed without a decision")),
            // The table leaves out hooks that could not do anything. The kernel let the packet pass; why is in the IR.
            None => self.explain(endpoint, hook, packet),
        }
    }

    /// Leads packets of the guarded interface to the endpoint's program; whether the table has one.
    fn bind(
        &mut self,
        endpoint: &EndpointId,
        hook: Hook,
        packet: &Packet,
        guarded: &str,
    ) -> Result<bool, OracleError> {
        let wanted = self
            .interfaces
            .get(endpoint)
            .and_then(|interface| self.lowering.binding_of(interface, hook, packet.version(), guarded));
        if self.bound != wanted {
            let table: Name = self.lowering.options().shared().name.clone();
            let old = self.bound.take().map(Command::DeleteElements);
            let new = wanted.clone().map(Command::AddElements);
            let batch: Vec<Command> = old.into_iter().chain(new).collect();
            self.netlink.commit(&table, &batch).map_err(environment)?;
            self.bound.clone_from(&wanted);
        }
        Ok(wanted.is_some())
    }

    /// What the decision of `chain` means, if what was seen agrees with it.
    fn resolve(
        &self,
        chain: &str,
        logged: usize,
        passed: bool,
        packet: &Packet,
    ) -> Result<Decision, OracleError> {
        let Some(found) = self.lowering.decision(chain) else {
            return Err(contradiction(format!("no decision is called {chain}")));
        };
        let drops = matches!(found.verdict, Verdict::Deny | Verdict::Inspect);
        if drops == passed || logged != found.logs.len() {
            let what = if passed { "passed" } else { "was dropped" };
            let reason =
                format!("{chain} says {}, the packet {what} with {logged} log events", found.verdict);
            return Err(contradiction(reason));
        }
        let attributes = packet.principal.is_some() || packet.http.is_some();
        match found.l7.and_then(|id| self.snapshot.l7.lookup(id)).filter(|_| attributes) {
            Some(program) => self.run(program, packet),
            None => {
                Ok(Decision { verdict: found.verdict, cause: found.cause.clone(), logs: found.logs.clone() })
            }
        }
    }

    fn run(&self, program: &L7Program, packet: &Packet) -> Result<Decision, OracleError> {
        self.snapshot.run(program, packet).ok_or_else(|| contradiction("an L7 program breaks an invariant"))
    }

    /// The decision of a hook that the table does not ask, which must be one that passes.
    fn explain(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Result<Decision, OracleError> {
        let interpreter = Interpreter::new(&self.snapshot);
        let found = interpreter.look_up(endpoint, hook, packet);
        let verdict =
            found.and_then(|id| self.snapshot.decisions.lookup(id)).map(|decision| decision.verdict);
        match verdict {
            // An L7 program may say something else where a proxy adds attributes.
            Some(Verdict::Allow | Verdict::Continue) => Ok(interpreter.decide(endpoint, hook, packet)),
            _ => Err(contradiction("the packet passed where the tables do not say so")),
        }
    }
}

const fn way(hook: Hook) -> Way {
    match hook {
        Hook::WorkloadEgress | Hook::ForwardIngress | Hook::PreDnat | Hook::UntrackedIngress => Way::In,
        Hook::WorkloadIngress | Hook::ForwardEgress => Way::Out,
        Hook::HostIngress => Way::ToHost,
        Hook::HostEgress | Hook::UntrackedEgress => Way::FromHost,
    }
}

impl Lowering {
    /// The element that would give the program of the endpoint at `interface` to the interface `other`.
    fn binding_of(
        &self,
        interface: &Interface,
        hook: Hook,
        version: portcullis_core::net::IpVersion,
        other: &str,
    ) -> Option<Elements> {
        let (set, key) = match hook {
            Hook::WorkloadIngress => self.state.base_names.receivers(),
            Hook::WorkloadEgress => self.state.base_names.senders(),
            hook => self.state.base_names.host(hook),
        };
        let of = |name: Name| vec![Value::Family(version), Value::Interface(name)];
        let target = self.state.sets.get(&set)?.elements.get(&of(interface.name().into()))?.clone();
        let elements = vec![Element { key: of(other.into()), target }];
        Some(Elements { set, key, kind: SetKind::Verdicts, elements })
    }
}
