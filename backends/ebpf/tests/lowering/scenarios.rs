//! Small clusters, a few updates in a row, and every order in which one packet's reads can fall between the writes.

use std::rc::Rc;

use portcullis_core::backend::{DesiredState, Lower as _, LowerError};
use portcullis_core::ir::{ClassId, Delta, Id as _, Snapshot};
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::*;
use portcullis_core::net::Cidr;
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::verdict::Hook;
use portcullis_ebpf::{Capacity, Options, Write};
use portcullis_testkit::generate::Generator;

use crate::style::Style;
use crate::world::{CAPACITY, State, World, bind, bound};
use portcullis_testkit::lowered::maps::Maps;
use portcullis_testkit::lowered::reader::{Answer, Question, Reader};

fn labelled(value: &str) -> Labels {
    let mut labels = Labels::new();
    labels.insert("app", value);
    labels
}

fn pod(name: &str, address: &str, app: &str) -> Update {
    let mut pod = Endpoint::new(EndpointId::workload("a", name));
    pod.addresses = vec![address.parse().unwrap()];
    pod.labels = labelled(app);
    Update::Endpoint(pod)
}

fn set(name: &str, net: &str, app: &str) -> Update {
    Update::NetworkSet(NetworkSet {
        id: NetworkSetId { namespace: None, name: name.into() },
        labels: labelled(app),
        nets: vec![net.parse().unwrap()],
    })
}

fn with_app(value: &str) -> EntitySelector {
    let app = LabelRef::new(Scope::Own, "app");
    EntitySelector { kinds: EntityKinds::CALICO, expr: Expr::Eq(app, value.into()) }
}

fn from(action: Action, app: &str) -> Rule {
    let mut rule = Rule::new(action);
    rule.peers = vec![EntityMatch::select(with_app(app))];
    rule
}

/// Ingress of everything labelled `w`.
fn policy(rules: Vec<Rule>) -> Update {
    let id = PolicyId::new("GlobalNetworkPolicy", None, "p");
    let mut policy = Policy::new(id, "default", with_app("w"), Directions::INGRESS);
    policy.ingress = rules;
    Update::Policy(policy)
}

/// Where `w` is; only its interface is bound.
const INTERFACE: u32 = 10;

struct Script {
    world: World,
    start: Maps,
    states: Vec<State>,
    /// The writes, and to which update they belong.
    writes: Vec<(usize, Write)>,
}

impl Script {
    fn new(objects: Vec<Update>) -> Self {
        Self::within(CAPACITY, objects)
    }

    fn within(capacity: Capacity, objects: Vec<Update>) -> Self {
        // There are others with these labels, so that no label comes or goes.
        let others = [
            pod("x", "10.9.0.1", "x"),
            pod("y", "10.9.0.2", "y"),
            set("x", "10.8.0.0/16", "x"),
            set("y", "10.8.0.0/16", "y"),
        ];
        let cluster: Cluster = objects.into_iter().chain(others).collect();
        let mut world = World::of(Generator::new(1), Style::Mixed, Cluster::new(), capacity);
        world.silent = true;
        for object in cluster.updates() {
            world.apply(object);
        }
        world.bindings.extend([bind(&EndpointId::workload("a", "w"), vec![INTERFACE])]);
        world.commit_all();
        world.quiesce();
        let (start, state) = (world.maps.clone(), world.state());
        Self { world, start, states: vec![state], writes: Vec::new() }
    }

    /// One more update. Its writes.
    fn then(&mut self, objects: Vec<Update>) -> Vec<Write> {
        for object in objects {
            self.world.apply(object);
        }
        let delta = self.world.compiler.commit();
        let state = self.world.state();
        self.follow(&delta, state)
    }

    /// One more update, which the compiler need not know how to make.
    fn edit(&mut self, edit: impl FnOnce(&mut Snapshot)) {
        let last = self.states.last().unwrap().clone();
        let mut snapshot = Snapshot::clone(&last.snapshot);
        edit(&mut snapshot);
        snapshot.generation += 1;
        let delta = last.snapshot.diff(&snapshot);
        self.follow(&delta, State { snapshot: Rc::new(snapshot), ..last });
    }

    fn follow(&mut self, delta: &Delta, state: State) -> Vec<Write> {
        let world = &mut self.world;
        let update = world
            .lowering
            .update(DesiredState::new(&state.snapshot, &bound(&world.bindings)), delta)
            .unwrap();
        let number = self.states.len();
        for write in update.writes() {
            self.writes.push((number, write.clone()));
        }
        self.states.push(state);
        update.writes().to_vec()
    }

    /// Lets a packet's reads fall between the writes in every order. How many orders there are.
    fn every_order(&self, source: &str, destination: &str) -> u64 {
        let packet = Packet::new(source.parse().unwrap(), destination.parse().unwrap(), Protocol::TCP);
        let question =
            Question { interface: INTERFACE, hook: Hook::WorkloadIngress, packet: packet.to_port(80) };
        let mut orders = 0;
        self.go(self.start.clone(), Reader::new(question), None, 0, &mut orders);
        orders
    }

    fn go(&self, maps: Maps, reader: Reader, began: Option<usize>, done: usize, orders: &mut u64) {
        let next = self.writes.get(done);
        let last = done.checked_sub(1).map_or(0, |last| self.writes[last].0);
        // During an update, both its states are in force.
        let is_between = next.is_none_or(|(update, _)| *update != last);
        let oldest = if is_between { next.map_or(last, |(update, _)| update - 1) } else { last - 1 };
        let newest = last.max(oldest);
        let (mut then, mut stepped) = (maps.clone(), reader.clone());
        let began_now = began.unwrap_or(oldest);
        match stepped.step(&mut then) {
            None => self.go(then, stepped, Some(began_now), done, orders),
            Some(answer) => {
                *orders += 1;
                let possible: Vec<Answer> = self.states[began_now..=newest]
                    .iter()
                    .map(|state| state.answer(&reader.question))
                    .collect();
                assert!(
                    possible.contains(&answer),
                    "{answer:?}\nbut states {began_now} to {newest} say {possible:?}\n{:?}\n{:?}",
                    reader.trace(),
                    self.writes.iter().map(|(update, write)| (update, brief(write))).collect::<Vec<_>>(),
                );
            }
        }
        match next {
            Some((_, Write::GracePeriod)) if began.is_some() => {}
            Some(_) => {
                let mut then = maps;
                let count =
                    self.writes[done..].iter().take_while(|(_, write)| is_out_of_sight(write)).count();
                for (_, write) in &self.writes[done..done + count.max(1)] {
                    then.write(write);
                }
                self.go(then, reader, began, done + count.max(1), orders);
            }
            None => {}
        }
    }
}

/// Arrays are written before anybody can come there; these writes are done together, or there would be too many orders.
fn is_out_of_sight(write: &Write) -> bool {
    matches!(
        write,
        Write::Runs(..)
            | Write::Page(..)
            | Write::Rows(..)
            | Write::Cells(..)
            | Write::Program(..)
            | Write::Decision(..)
    )
}

fn brief(write: &Write) -> String {
    match write {
        Write::Address(..) | Write::Flip(_) | Write::GracePeriod => format!("{write:?}"),
        other => format!("{other:?}").chars().take(20).collect(),
    }
}

/// In one update: a network gets another label, and one inside it comes that has both, and is denied as before.
#[test]
fn networks_inside_one_another_change_at_once() {
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        set("outer", "10.1.0.0/16", "y"),
        policy(vec![from(Action::Deny, "y"), from(Action::Allow, "x")]),
    ]);
    script.then(vec![set("outer", "10.1.0.0/16", "x"), set("inner", "10.1.1.0/24", "y")]);
    let orders = script.every_order("10.1.1.5", "10.0.0.9") + script.every_order("10.1.2.5", "10.0.0.9");
    println!("{orders} orders");
}

/// A pod goes and the network around it gets another class.
#[test]
fn an_address_goes_and_the_network_around_it_changes() {
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        pod("a", "10.1.1.5", "y"),
        set("outer", "10.1.0.0/16", "x"),
        policy(vec![from(Action::Deny, "y"), from(Action::Allow, "x")]),
    ]);
    script
        .then(vec![Update::RemoveEndpoint(EndpointId::workload("a", "a")), set("outer", "10.1.0.0/16", "y")]);
    script.every_order("10.1.1.5", "10.0.0.9");
}

/// A policy learns of a label, then a pod gets it: nobody may see the old policy and the new label.
#[test]
fn a_policy_changes_and_then_a_pod() {
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        pod("a", "10.0.0.1", "x"),
        policy(vec![from(Action::Deny, "x"), from(Action::Allow, "y"), Rule::new(Action::Allow)]),
    ]);
    script.then(vec![policy(vec![
        from(Action::Deny, "x"),
        from(Action::Deny, "y"),
        Rule::new(Action::Allow),
    ])]);
    script.then(vec![pod("a", "10.0.0.1", "y")]);
    script.every_order("10.0.0.1", "10.0.0.9");
}

/// Two pods change one after the other: nobody may see the first as it was and the second as it is.
#[test]
fn one_pod_changes_and_then_another() {
    let mut rule = from(Action::Allow, "x");
    rule.local = EntityMatch::select(with_app("x"));
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        pod("a", "10.0.0.1", "x"),
        pod("b", "10.0.0.2", "y"),
        policy(vec![rule]),
    ]);
    script.then(vec![pod("a", "10.0.0.1", "y")]);
    script.then(vec![pod("b", "10.0.0.2", "x")]);
    script.every_order("10.0.0.1", "10.0.0.2");
}

/// A pod comes, then the network around it changes: nobody may miss the pod and find the new network.
#[test]
fn a_pod_comes_and_then_the_network_around_it_changes() {
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        set("outer", "10.1.0.0/16", "y"),
        policy(vec![from(Action::Deny, "y"), from(Action::Allow, "x")]),
    ]);
    script.then(vec![pod("a", "10.1.1.5", "y")]);
    script.then(vec![set("outer", "10.1.0.0/16", "x")]);
    script.every_order("10.1.1.5", "10.0.0.9");
}

/// A class that no address has any more is given to others, with another row: only after a wait.
#[test]
fn a_class_that_is_given_again_waits() {
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        policy(vec![from(Action::Allow, "x"), from(Action::Deny, "y")]),
    ]);
    let net = |text: &str| -> Cidr { text.parse().unwrap() };
    let class = ClassId::new(40);
    let like = |snapshot: &mut Snapshot, address: &str| {
        let other = snapshot.class_of(address.parse().unwrap());
        let ids: Vec<_> = snapshot.projections.iter().map(|(id, _)| id).collect();
        for id in ids {
            let projection = snapshot.projections.lookup_mut(id).unwrap();
            let row = projection.row(other);
            if row > 0 {
                projection.row_of.insert(class, row);
            }
        }
    };
    // Denied as `y` is, then `y` itself; then the class is that of another address, which is allowed as `x` is.
    script.edit(|snapshot| {
        like(snapshot, "10.9.0.2");
        snapshot.addresses.insert(net("10.0.0.1/32"), class);
    });
    script.edit(|snapshot| {
        let y = snapshot.class_of("10.9.0.2".parse().unwrap());
        snapshot.addresses.insert(net("10.0.0.1/32"), y);
    });
    script.edit(|snapshot| {
        like(snapshot, "10.9.0.1");
        snapshot.addresses.insert(net("10.0.0.2/32"), class);
    });
    script.every_order("10.0.0.1", "10.0.0.9");
    script.every_order("10.0.0.2", "10.0.0.9");
    assert!(script.writes.iter().any(|(update, write)| *update == 3 && *write == Write::GracePeriod));
}

/// While one address goes and another comes, both are there for a moment.
#[test]
fn what_goes_needs_its_room_until_what_comes_is_there() {
    let objects = [
        pod("w", "10.0.0.9", "w"),
        pod("x", "10.0.0.1", "x"),
        pod("y", "10.0.0.2", "y"),
        policy(vec![from(Action::Allow, "x"), from(Action::Deny, "y")]),
    ];
    let cluster: Cluster = objects.into_iter().collect();
    let capacity = Capacity { addresses_v4: 2, ..CAPACITY };
    let mut world = World::of(Generator::new(1), Style::Mixed, cluster, capacity);
    world.apply(pod("x", "10.0.0.3", "x"));
    world.apply(pod("y", "10.0.0.4", "y"));
    let delta = world.compiler.commit();
    let error = world
        .lowering
        .update(DesiredState::new(world.compiler.snapshot(), &bound(&world.bindings)), &delta)
        .unwrap_err();
    assert_eq!(error, LowerError::limit("addresses_v4", 2_u32, 4_u32));
}

/// One policy after the other, each with arrays of its own: nobody may find what a later one wrote in place of the first.
#[test]
fn three_policies_in_a_row_do_not_share_slots() {
    // In the second round there are cells for two policies only, so that the third has to wait.
    for cells in [CAPACITY.cells, 64] {
        let mut script = Script::within(
            Capacity { cells, ..CAPACITY },
            vec![pod("w", "10.0.0.9", "w"), policy(vec![from(Action::Deny, "x"), from(Action::Allow, "y")])],
        );
        script.then(vec![policy(vec![from(Action::Deny, "y"), from(Action::Deny, "x")])]);
        let rules = vec![from(Action::Allow, "y"), from(Action::Deny, "x"), Rule::new(Action::Allow)];
        let writes = script.then(vec![policy(rules)]);
        for source in ["10.9.0.1", "10.9.0.2", "10.7.0.1"] {
            script.every_order(source, "10.0.0.9");
        }
        assert_eq!(writes.contains(&Write::GracePeriod), cells == 64);
    }
}

/// A pod that looks like others is one write; the next one too, once what came before is settled.
#[test]
fn a_pod_of_a_known_class_is_one_write() {
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        pod("a", "10.0.0.1", "x"),
        policy(vec![from(Action::Allow, "x")]),
    ]);
    assert!(script.world.lowering.quiesce().is_empty());
    for (name, address) in [("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        let writes = script.then(vec![pod(name, address, "x")]);
        assert!(matches!(writes[..], [Write::Address(_, Some(_))]), "{writes:?}");
        script.world.quiesce();
    }
    let writes = script.then(vec![Update::RemoveEndpoint(EndpointId::workload("a", "b"))]);
    assert!(matches!(writes[..], [Write::Address(_, None)]), "{writes:?}");
}

/// What no bound endpoint can notice is not written; nor is the same state again.
#[test]
fn what_changes_nothing_writes_nothing() {
    let mut script = Script::new(vec![
        pod("w", "10.0.0.9", "w"),
        pod("a", "10.0.0.1", "x"),
        policy(vec![from(Action::Allow, "x")]),
    ]);
    let mut other = Policy::new(
        PolicyId::new("GlobalNetworkPolicy", None, "q"),
        "default",
        with_app("x"),
        Directions::INGRESS,
    );
    other.ingress = vec![from(Action::Deny, "x")];
    let nothing = [
        Update::Namespace(Namespace { name: "b".into(), labels: labelled("x") }),
        pod("a", "10.0.0.1", "x"),
        Update::Policy(other.clone()),
        Update::RemovePolicy(other.id),
        Update::RemoveNode("n".into()),
    ];
    for object in nothing {
        let text = format!("{object:?}");
        let writes = script.then(vec![object]);
        assert!(writes.is_empty(), "{text}: {writes:?}");
    }
    let world = &mut script.world;
    let bindings = bound(&world.bindings);
    let desired = DesiredState::new(world.compiler.snapshot(), &bindings);
    let again = world.lowering.rebind(desired).unwrap();
    assert!(again.is_empty(), "{again:?}");
    assert!(world.lowering.quiesce().is_empty());
    let generation = world.lowering.generation();
    let same = Delta { from: generation, to: generation, ..Delta::default() };
    assert!(world.lowering.update(desired, &same).unwrap().is_empty());
    assert_eq!(*world.lowering.options(), Options::new().with_capacity(CAPACITY));
}

/// The same inputs give the same writes.
#[test]
fn the_same_changes_give_the_same_writes() {
    for seed in 0..3 {
        let [one, other] = [(); 2].map(|()| {
            let mut world = World::new(seed, Style::of(seed), CAPACITY);
            world.silent = true;
            for _ in 0..25 {
                world.change();
            }
            world.quiesce();
            world.written
        });
        assert!(!one.is_empty());
        assert_eq!(one, other, "seed {seed}");
    }
}
