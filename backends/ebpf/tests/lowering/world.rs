//! A cluster that changes, its lowering, the modelled maps, and packets on their way.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use portcullis_core::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _, LowerError,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::{Delta, Interpreter, Snapshot};
use portcullis_core::model::Update as Object;
use portcullis_core::model::{Cluster, EndpointId, EndpointKind};
use portcullis_core::settings::Settings;
use portcullis_core::verdict::Hook;
use portcullis_ebpf::{Capacity, Lowering, Options, Update, Write};
use portcullis_testkit::differential::hooks;
use portcullis_testkit::generate::Generator;

use crate::style::Style;
use portcullis_testkit::lowered::maps::Maps;
use portcullis_testkit::lowered::plain;
use portcullis_testkit::lowered::reader::{Answer, Question, Reader, is_to_itself};

pub(crate) const CAPACITY: Capacity = Capacity {
    endpoints: 64,
    addresses_v4: 256,
    addresses_v6: 256,
    networks_v4: 256,
    networks_v6: 256,
    classes: 1_024,
    projections: 128,
    programs: 512,
    cells: 16_384,
    runs: 2_048,
    pages: 2_048,
    decisions: 2_048,
    flows_v4: 1_024,
    flows_v6: 1_024,
    cuts: 1_024,
    event_bytes: 65_536,
};

/// What is in force between two updates.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) snapshot: Rc<Snapshot>,
    pub(crate) bindings: Rc<Endpoints>,
}

impl State {
    pub(crate) fn answer(&self, question: &Question) -> Answer {
        let bound = |(_, binding): &(&EndpointId, &Binding)| indexes(binding).contains(&question.interface);
        let cover = || self.bindings.iter().find(|(_, binding)| is_for_all(binding));
        let decision = self.bindings.iter().find(bound).and_then(|(id, _)| {
            let is_theirs = id.kind == EndpointKind::Workload && COVERING.contains(&question.hook);
            let id = if is_theirs { cover()?.0 } else { id };
            let id = Interpreter::new(&self.snapshot).look_up(id, question.hook, &question.packet)?;
            self.snapshot.decisions.lookup(id).cloned()
        });
        Answer::of(decision)
    }
}

/// What happened, to be printed and to see that it was worth it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) updates: u64,
    pub(crate) writes: u64,
    pub(crate) turns: u64,
    pub(crate) waits: u64,
    pub(crate) asked: u64,
    pub(crate) readers: u64,
    /// Readers that ended when another update had begun than those they began in.
    pub(crate) spanning: u64,
    /// Writes after which the host endpoint for all interfaces covered more than one workload.
    pub(crate) covered: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.updates += other.updates;
        self.writes += other.writes;
        self.turns += other.turns;
        self.waits += other.waits;
        self.asked += other.asked;
        self.readers += other.readers;
        self.spanning += other.spanning;
        self.covered += other.covered;
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) style: Style,
    /// Changes come from this one, packets and their steps from the other: so packets do not change what changes.
    pub(crate) generator: Generator,
    packets: Generator,
    pub(crate) cluster: Cluster,
    pub(crate) compiler: Compiler,
    pub(crate) lowering: Lowering,
    pub(crate) maps: Maps,
    pub(crate) bindings: Endpoints,
    /// States since the last wait; a reader can have seen no older one.
    history: Vec<State>,
    /// Which states are in force: one between updates, two during one.
    in_force: [usize; 2],
    readers: Vec<(usize, Reader)>,
    /// No packets come.
    pub(crate) silent: bool,
    /// The lowering is printed before each update, to be compared when it is refused.
    pub(crate) printing: bool,
    /// Every write so far.
    pub(crate) written: Vec<Write>,
    pub(crate) tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64, style: Style, capacity: Capacity) -> Self {
        let mut generator = Generator::new(seed);
        let objects = generator.cluster().into_iter().map(|object| style.adapt(object));
        let cluster: Cluster = objects.collect();
        Self::of(generator, style, cluster, capacity)
    }

    pub(crate) fn of(generator: Generator, style: Style, cluster: Cluster, capacity: Capacity) -> Self {
        let compiler =
            Compiler::from_cluster(cluster.clone(), Settings::default(), CompileScope::All).unwrap();
        let mut bindings: Endpoints =
            cluster.endpoints().keys().zip(10..).map(|(id, at)| bind(id, vec![at])).collect();
        if let Some(Binding::Host { interfaces }) = bindings.values().find(|b| is_host(b)).cloned() {
            let host = bindings.values_mut().find(|b| is_host(b)).unwrap();
            *host = Binding::AllInterfaces { interfaces };
        }
        let shared =
            style.services().into_iter().fold(DataplaneOptions::new(), DataplaneOptions::with_services);
        let options = Options::from(shared).with_capacity(capacity);
        let (lowering, update) =
            Lowering::load(options, DesiredState::new(compiler.snapshot(), &bound(&bindings)), &()).unwrap();
        let mut maps = Maps::new(capacity);
        for write in update.writes() {
            maps.write(write);
        }
        let mut world = Self {
            name: format!("{style:?} {}", cluster.endpoints().len()),
            style,
            generator,
            packets: Generator::new(77),
            cluster,
            compiler,
            lowering,
            maps,
            bindings,
            history: Vec::new(),
            in_force: [0; 2],
            readers: Vec::new(),
            silent: false,
            printing: false,
            written: Vec::new(),
            tally: Tally::default(),
        };
        world.history.push(world.state());
        world
    }

    pub(crate) fn state(&self) -> State {
        State {
            snapshot: Rc::new(self.compiler.snapshot().clone()),
            bindings: Rc::new(self.bindings.clone()),
        }
    }

    /// A number below `n`; 0 when there is none.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.generator.below(n.max(1) as u64) as usize
    }

    fn pick(&mut self, n: usize) -> usize {
        self.packets.below(n.max(1) as u64) as usize
    }

    /// Random changes, carried out with packets in between.
    pub(crate) fn change(&mut self) {
        let name = self.name.clone();
        self.try_change(|error, _, _| panic!("{name}: {error}"));
    }

    /// The same; whether it was possible. `refused` gets the error, and the lowering, now and as it was printed before.
    pub(crate) fn try_change(&mut self, refused: impl FnOnce(&LowerError, &Lowering, String)) -> bool {
        // Anything at all, or one object that others know by its address.
        if self.below(2) == 0 {
            let object = loop {
                let object = self.generator.change(&self.cluster);
                if !matches!(object, Object::Policy(_) | Object::Profile(_) | Object::Tier(_)) {
                    break object;
                }
            };
            self.apply(object);
            self.bindings.retain(|id, _| self.cluster.endpoints().contains_key(id));
        } else {
            for _ in 0..=self.below(3) {
                let object = self.generator.change(&self.cluster);
                self.apply(object);
            }
            self.rebind();
        }
        self.follow(refused)
    }

    /// Everything goes, which always fits.
    pub(crate) fn clear(&mut self) {
        let cluster = self.cluster.clone();
        let policies = cluster.policies().keys().cloned().map(Object::RemovePolicy);
        let endpoints = cluster.endpoints().keys().cloned().map(Object::RemoveEndpoint);
        let sets = cluster.network_sets().keys().cloned().map(Object::RemoveNetworkSet);
        for object in policies.chain(endpoints).chain(sets) {
            self.apply(object);
        }
        self.bindings.clear();
        assert!(self.follow(|error, _, _| panic!("nothing does not fit: {error}")));
    }

    fn follow(&mut self, refused: impl FnOnce(&LowerError, &Lowering, String)) -> bool {
        let delta = self.compiler.commit();
        // What was refused is part of what comes next.
        let accepted = &self.history[self.in_force[1]].snapshot;
        let delta = match accepted.generation == delta.from {
            true => delta,
            false => accepted.diff(self.compiler.snapshot()),
        };
        self.commit(&delta, refused)
    }

    pub(crate) fn apply(&mut self, object: Object) {
        let object = self.style.adapt(object);
        self.cluster.apply(object.clone());
        self.compiler.apply(object).unwrap();
    }

    /// Lowers what the engine has to say.
    pub(crate) fn commit_all(&mut self) {
        let delta = self.compiler.commit();
        assert!(self.commit(&delta, |error, _, _| panic!("{error}")));
    }

    /// Lowers what changed and carries it out.
    fn commit(&mut self, delta: &Delta, refused: impl FnOnce(&LowerError, &Lowering, String)) -> bool {
        let printed = if self.printing { format!("{:?}", self.lowering) } else { String::new() };
        let bindings = bound(&self.bindings);
        match self.lowering.update(DesiredState::new(self.compiler.snapshot(), &bindings), delta) {
            Ok(update) => {
                self.history.push(self.state());
                self.in_force = [self.in_force[1], self.history.len() - 1];
                self.carry_out(&update);
            }
            Err(error) => {
                refused(&error, &self.lowering, printed);
                return false;
            }
        }
        self.in_force[0] = self.in_force[1];
        self.tally.updates += 1;
        for _ in 0..12 {
            let Some(question) = self.question() else { break };
            self.ask(&question);
        }
        true
    }

    pub(crate) fn quiesce(&mut self) {
        let update = self.lowering.quiesce();
        self.carry_out(&update);
    }

    /// New endpoints get an interface, as a rule; now and then anything changes hands.
    fn rebind(&mut self) {
        self.bindings.retain(|id, _| self.cluster.endpoints().contains_key(id));
        let ids: Vec<EndpointId> = self.cluster.endpoints().keys().cloned().collect();
        for id in ids {
            let is_new = !self.bindings.contains_key(&id);
            if !is_new && self.below(12) > 0 || is_new && self.below(6) == 0 {
                continue;
            }
            self.bindings.remove(&id);
            if !is_new && self.below(3) == 0 {
                continue;
            }
            let taken: BTreeSet<u32> = self.bindings.values().flat_map(indexes).collect();
            let mut free: Vec<u32> = (10..40).filter(|at| !taken.contains(at)).collect();
            self.generator.shuffle(&mut free);
            let count = if id.kind == EndpointKind::Host { 1 + self.below(2) } else { 1 };
            free.truncate(count);
            let (id, binding) = bind(&id, free);
            let is_first = !self.bindings.values().any(is_for_all);
            let binding = match binding {
                Binding::Host { interfaces } if is_first && self.below(2) == 0 => {
                    Binding::AllInterfaces { interfaces }
                }
                other => other,
            };
            self.bindings.insert(id, binding);
        }
    }

    pub(crate) fn carry_out(&mut self, update: &Update) {
        for write in update.writes() {
            self.let_readers_run();
            if *write == Write::GracePeriod {
                // The kernel waits until whoever began before has ended. Others may begin, and need not.
                while !self.readers.is_empty() {
                    let number = self.pick(self.readers.len());
                    self.step(number);
                }
                self.tally.waits += 1;
                self.history.drain(..self.in_force[0]);
                self.in_force = self.in_force.map(|state| state - self.in_force[0]);
            }
            self.maps.write(write);
            self.tally.covered += self.maps.check_cover();
            self.tally.writes += 1;
            if self.silent {
                self.written.push(write.clone());
            }
            self.tally.turns += u64::from(matches!(write, Write::Flip(_)));
            for _ in 0..2 {
                if let Some(question) = self.question() {
                    self.ask(&question);
                }
            }
        }
        self.let_readers_run();
    }

    /// Some packets come, and some go a few steps.
    fn let_readers_run(&mut self) {
        if self.silent {
            return;
        }
        for _ in 0..self.pick(4) {
            if let Some(question) = self.question().filter(|question| !is_to_itself(&question.packet)) {
                self.readers.push((self.in_force[0], Reader::new(question)));
            }
        }
        // The more there are, the more they do.
        for _ in 0..self.pick(2 + self.readers.len() * 3) {
            if !self.readers.is_empty() {
                let number = self.pick(self.readers.len());
                self.step(number);
            }
        }
    }

    fn step(&mut self, number: usize) {
        let (began, reader) = &mut self.readers[number];
        let Some(answer) = reader.step(&mut self.maps) else { return };
        let (began, [oldest, newest]) = (*began, self.in_force);
        let possible: Vec<Answer> =
            self.history[began..=newest].iter().map(|state| state.answer(&reader.question)).collect();
        assert!(
            possible.contains(&answer),
            "{} update {}: states {began} to {newest}: {answer:#?}\nbut these say {possible:#?}\n{:#?}",
            self.name,
            self.tally.updates,
            reader.trace(),
        );
        self.tally.readers += 1;
        self.tally.spanning += u64::from(began < oldest);
        self.readers.swap_remove(number);
    }

    /// Asks at once: the answer is that of a state in force now.
    fn ask(&mut self, question: &Question) {
        let answer = Reader::ask(question, &mut self.maps);
        let possible = self.in_force.map(|state| self.history[state].answer(question));
        assert!(
            possible.contains(&answer),
            "{} update {}: {question:?}\n{answer:#?}\nbut the states in force say {possible:#?}",
            self.name,
            self.tally.updates
        );
        self.tally.asked += 1;
    }

    /// A packet at a hook of an interface that is bound, or was.
    pub(crate) fn question(&mut self) -> Option<Question> {
        if self.silent {
            return None;
        }
        let interface = *[self.maps.endpoints.keys().copied().collect::<Vec<_>>(), (10..14).collect()]
            .concat()
            .get(self.pick(self.maps.endpoints.len() + 4))?;
        let states = &self.history[self.in_force[0]..];
        let kind = states
            .iter()
            .flat_map(|state| state.bindings.iter())
            .find_map(|(id, binding)| indexes(binding).contains(&interface).then_some(id.kind));
        let mut hooks = hooks(kind.unwrap_or(EndpointKind::Workload));
        let is_covered = self.bindings.values().any(is_for_all);
        if is_covered && kind == Some(EndpointKind::Workload) {
            hooks.extend(COVERING);
        }
        let hook = hooks[self.pick(hooks.len())];
        Some(Question { interface, hook, packet: plain(self.packets.packet()) })
    }
}

/// Hooks of the host endpoint for all interfaces that packets meet at interfaces of workloads.
const COVERING: [Hook; 4] = [Hook::PreDnat, Hook::ForwardIngress, Hook::ForwardEgress, Hook::HostIngress];

fn is_host(binding: &Binding) -> bool {
    matches!(binding, Binding::Host { .. })
}

fn is_for_all(binding: &Binding) -> bool {
    matches!(binding, Binding::AllInterfaces { .. })
}

/// Which endpoint is where.
pub(crate) type Endpoints = BTreeMap<EndpointId, Binding>;

pub(crate) fn bound(endpoints: &Endpoints) -> Bindings {
    endpoints.clone().into_iter().collect()
}

pub(crate) fn indexes(binding: &Binding) -> Vec<u32> {
    binding.interfaces().iter().filter_map(Interface::index).collect()
}

pub(crate) fn interface(index: u32) -> Interface {
    Interface::new(&format!("if{index}")).unwrap().with_index(index)
}

pub(crate) fn bind(id: &EndpointId, indexes: Vec<u32>) -> (EndpointId, Binding) {
    let mut interfaces: Vec<Interface> = indexes.into_iter().map(interface).collect();
    let binding = match id.kind {
        EndpointKind::Workload => Binding::WorkloadAnyAddress { interface: interfaces.remove(0) },
        EndpointKind::Host => Binding::Host { interfaces },
    };
    (id.clone(), binding)
}
