//! A backend of your own: what its author writes, and what comes with the contract.
//!
//! This one enforces nothing. It counts what policy would say, which is what a dry run on a node wants; a real one writes
//! tables where `DryRun::write` keeps a copy. It has both faces of a backend: `Lower` is pure, `Dataplane` is what an
//! agent drives.
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "an example: a program that prints, with the standard library"
)]

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_int;
use std::sync::Arc;

use portcullis::backend::{
    Applied, Bindings, Counter, Dataplane, DataplaneError, DataplaneOptions, DesiredState, Event,
    EventAction, Health, Lower, LowerError, TrackedFlow, Usage,
};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::{DecisionEntry, Delta, Interpreter, Snapshot};
use portcullis::model::{
    Endpoint, EndpointId, EntitySelector, L4Match, Policy, PolicyId, Profile, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};

/// The pure half: what is in force, as far as this backend needs to know it to follow deltas.
struct Lowering {
    generation: u64,
}

/// What is to be written: everything, or what changed.
enum Write {
    Everything(Snapshot, Bindings),
    Changes(Delta, Bindings),
}

impl Lower for Lowering {
    type Options = ();
    type Existing = ();
    type Update = Write;

    fn load((): (), desired: DesiredState<'_>, (): &()) -> Result<(Self, Write), LowerError> {
        desired.bindings.check()?;
        let write = Write::Everything(desired.snapshot.clone(), desired.bindings.clone());
        Ok((Self { generation: desired.snapshot.generation }, write))
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Write, LowerError> {
        if delta.from != self.generation {
            return Err(LowerError::generation(self.generation, delta.from));
        }
        desired.bindings.check()?;
        self.generation = delta.to;
        Ok(Write::Changes(delta.clone(), desired.bindings.clone()))
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}

/// The half that is driven.
#[derive(Default)]
struct DryRun {
    options: DataplaneOptions,
    lowering: Option<Lowering>,
    snapshot: Snapshot,
    bindings: Bindings,
    counters: BTreeMap<Arc<DecisionEntry>, Counter>,
    events: VecDeque<Event>,
}

impl DryRun {
    /// Stands for the kernel, which would refuse some writes.
    fn write(&mut self, write: Write) -> Result<Applied, DataplaneError> {
        match write {
            Write::Everything(snapshot, bindings) => (self.snapshot, self.bindings) = (snapshot, bindings),
            Write::Changes(delta, bindings) => {
                self.snapshot.apply(&delta).map_err(|_| LowerError::invalid())?;
                self.bindings = bindings;
            }
        }
        Ok(Applied::COMPLETE)
    }

    /// A packet of the node that a tap has seen: notes what policy says to it.
    fn see(&mut self, packet: &Packet) {
        for (id, binding) in self.bindings.endpoints() {
            for (hook, address) in
                [(Hook::WorkloadEgress, packet.source), (Hook::WorkloadIngress, packet.destination)]
            {
                let portcullis::backend::Binding::Workload { addresses, .. } = binding else { continue };
                let decision = Interpreter::new(&self.snapshot).look_up(id, hook, packet);
                let decision = decision.and_then(|decision| self.snapshot.decisions.lookup(decision));
                if let (true, Some(decision)) = (addresses.contains(&address), decision) {
                    let decision = Arc::new(decision.clone());
                    self.counters.entry(Arc::clone(&decision)).or_default().packets += 1;
                    if decision.verdict == Verdict::Deny {
                        let mut event = Event::new(packet.clone(), decision, EventAction::Passed);
                        event.hook = Some(hook);
                        self.events.push_back(event);
                    }
                }
            }
        }
    }
}

impl Dataplane for DryRun {
    fn name(&self) -> &'static str {
        "dry-run"
    }

    fn options(&self) -> &DataplaneOptions {
        &self.options
    }

    fn load(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        let (lowering, write) = Lowering::load((), desired, &())?;
        let applied = self.write(write)?;
        self.lowering = Some(lowering);
        Ok(applied)
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Applied, DataplaneError> {
        let lowering = self.lowering.as_mut().ok_or_else(DataplaneError::not_loaded)?;
        // A delta that does not lead on from here: an update before this one was refused.
        if delta.from != lowering.generation() {
            return self.load(desired);
        }
        let write = lowering.update(desired, delta)?;
        self.write(write)
    }

    fn maintain(&mut self, _desired: DesiredState<'_>) -> Result<Health, DataplaneError> {
        Ok(Health::default())
    }

    fn counters(&mut self) -> Result<Vec<(Arc<DecisionEntry>, Counter)>, DataplaneError> {
        let told = self.counters.iter().map(|(decision, counter)| (Arc::clone(decision), *counter)).collect();
        let kept = |decision: &DecisionEntry| self.snapshot.decisions.iter().any(|(_, one)| one == decision);
        // Those of retired policies were told for the last time.
        self.counters.retain(|decision, _| kept(decision));
        Ok(told)
    }

    fn next_event(&mut self) -> Result<Option<Event>, DataplaneError> {
        Ok(self.events.pop_front())
    }

    fn lost_events(&mut self) -> u64 {
        0
    }

    fn event_fd(&self) -> Option<c_int> {
        None
    }

    fn terminate(&mut self, _is_denied: &dyn Fn(&TrackedFlow) -> bool) -> Result<usize, DataplaneError> {
        // It tracks no flows.
        Ok(0)
    }

    fn usage(&mut self) -> Result<Vec<Usage>, DataplaneError> {
        let used = u64::try_from(self.counters.len()).unwrap_or(u64::MAX);
        Ok(vec![Usage { name: "counters", used, limit: None }])
    }

    fn remove(&mut self) -> Result<(), DataplaneError> {
        *self = Self { options: std::mem::take(&mut self.options), ..Self::default() };
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    let mut bindings = Bindings::new();
    compiler.apply(Update::Profile(Profile::allow_all("open")))?;
    let pods = [("web", [10, 0, 0, 1]), ("db", [10, 0, 0, 2])];
    for (name, address) in pods {
        let mut pod = Endpoint::new(EndpointId::workload("shop", name));
        pod.labels.insert("app", name);
        (pod.addresses, pod.profiles) = (vec![address.into()], vec!["open".into()]);
        let interface = portcullis::backend::Interface::new(&format!("cali-{name}"))?;
        bindings
            .bind(pod.id.clone(), portcullis::backend::Binding::workload(interface, pod.addresses.clone()));
        compiler.apply(Update::Endpoint(pod))?;
    }
    let _ = compiler.commit();
    let mut dry_run = DryRun::default();
    let applied = dry_run.load(DesiredState::new(compiler.snapshot(), &bindings))?;
    println!("{}: everything is in force: {}", dry_run.name(), applied.is_complete());

    let rule = Rule::allow().from(EntitySelector::workloads("app == 'web'")?).to_port(L4Match::tcp(5432));
    let id = PolicyId::new("Policy", None, "database");
    let policy = Policy::ingress(id, EntitySelector::workloads("app == 'db'")?, [rule]);
    compiler.apply(Update::Policy(policy))?;
    let delta = compiler.commit();
    let applied = dry_run.update(DesiredState::new(compiler.snapshot(), &bindings), &delta)?;
    println!("the policy is in force: {}", applied.is_complete());

    for port in [5432, 22] {
        let [(_, web), (_, db)] = pods;
        dry_run.see(&Packet::new(web.into(), db.into(), Protocol::TCP).to_port(port));
    }
    while let Some(event) = dry_run.next_event()? {
        println!("would be dropped: port {}: {}", event.packet.destination_port, event.decision.cause);
    }
    for (decision, counter) in dry_run.counters()? {
        println!("{}: {} packets: {}", decision.verdict, counter.packets, decision.cause);
    }
    dry_run.remove()?;
    Ok(())
}
