//! The enforcer: loads, updates, faults, drift, other people's tables.

use core::error::Error as _;

use crate::apply::netlink::{Events, Netlink};
use crate::apply::{Drift, Enforcer, Nft, Transport};
use crate::command::{Chain, Command, Family};
use crate::update::{Stage, Update};
use crate::{Limits, Lowering, Options};
use portcullis_core::backend::{
    Binding, Bindings, Dataplane as _, DataplaneError, DataplaneErrorKind, DataplaneOptions, DesiredState,
    Interface, Lower as _,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::{Delta, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::model::{Cluster, EndpointId, EndpointKind};
use portcullis_core::settings::Settings;
use portcullis_testkit::generate::Generator;

use super::{in_namespace, nft, tables};

/// A cluster that changes.
pub(crate) struct World {
    generator: Generator,
    cluster: Cluster,
    pub(crate) compiler: Compiler,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        let (mut cluster, mut compiler) =
            (Cluster::new(), Compiler::new(Settings::default(), CompileScope::All));
        for update in generator.cluster() {
            cluster.apply(update.clone());
            let _ = compiler.apply(update);
        }
        let _ = compiler.commit();
        Self { generator, cluster, compiler }
    }

    fn snapshot(&self) -> Snapshot {
        self.compiler.snapshot().clone()
    }

    pub(crate) fn change(&mut self) -> Delta {
        for _ in 0..3 {
            let update = self.generator.change(&self.cluster);
            self.cluster.apply(update.clone());
            let _ = self.compiler.apply(update);
        }
        self.compiler.commit()
    }

    fn load(&self, enforcer: &mut Enforcer) -> Result<(), DataplaneError> {
        let applied = enforcer.load(DesiredState::new(self.compiler.snapshot(), &self.bindings()))?;
        assert!(applied.is_complete());
        Ok(())
    }

    fn update(&self, enforcer: &mut Enforcer, delta: &Delta) -> Result<(), DataplaneError> {
        let applied =
            enforcer.update(DesiredState::new(self.compiler.snapshot(), &self.bindings()), delta)?;
        assert!(applied.is_complete());
        Ok(())
    }

    pub(crate) fn bindings(&self) -> Bindings {
        let bind = |(number, id): (usize, &EndpointId)| {
            let interface = Interface::new(&format!("e{number}")).unwrap();
            let address = format!("10.0.9.{number}").parse().unwrap();
            let binding = match id.kind {
                EndpointKind::Workload => Binding::workload(interface, [address]),
                EndpointKind::Host => Binding::Host { interfaces: vec![interface] },
            };
            (id.clone(), binding)
        };
        self.compiler.snapshot().endpoints.keys().enumerate().map(bind).collect()
    }
}

const OTHER: &str = "add table inet other\nadd chain inet other c\nadd rule inet other c accept\n";

/// Lines of the table without generated numbers, so that two histories can be compared.
fn shape(listed: &str) -> Vec<usize> {
    let count = |word: &str| listed.lines().filter(|line| line.trim_start().starts_with(word)).count();
    vec![count("chain "), count("map "), count("counter "), listed.lines().count()]
}

#[test]
fn the_kernel_follows_deltas_and_ends_where_a_load_from_scratch_ends() {
    for seed in 0..12 {
        in_namespace(move || {
            let mut world = World::new(seed);
            nft(&["add", "table", "inet", "other"]);
            let mut enforcer = Enforcer::open(Options::new()).unwrap();
            world.load(&mut enforcer).unwrap();
            for step in 0..15 {
                let delta = world.change();
                world.update(&mut enforcer, &delta).unwrap();
                assert_eq!(enforcer.read_back(), Drift::None, "seed {seed} step {step}");
            }
            // Whether the kernel holds what is expected is looked at in full once somebody else commits.
            nft(&["add", "chain", "inet", "other", "c"]);
            assert_eq!(enforcer.read_back(), Drift::None, "seed {seed}");
            // Another process takes over and leaves what a fresh load makes.
            let mut next = Enforcer::open(Options::new()).unwrap();
            world.load(&mut next).unwrap();
            nft(&["add", "chain", "inet", "other", "d"]);
            assert_eq!(next.read_back(), Drift::None, "seed {seed}");
            let taken_over = shape(&tables());
            next.remove().unwrap();
            assert!(!nft(&["list", "tables"]).contains("portcullis"));
            assert!(nft(&["list", "tables"]).contains("table inet other"));
            let mut fresh = Enforcer::open(Options::new()).unwrap();
            world.load(&mut fresh).unwrap();
            assert_eq!(shape(&tables()), taken_over, "seed {seed}");
        });
    }
}

#[test]
fn drift_is_noticed_and_a_load_repairs_it() {
    in_namespace(|| {
        let world = World::new(3);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        let load = |enforcer: &mut Enforcer| {
            world.load(enforcer).unwrap();
            assert_eq!(enforcer.drift().unwrap(), Drift::None);
        };
        load(&mut enforcer);
        let chains: Vec<String> = names("chain");
        let sets: Vec<String> = names("map");
        let tampers: [(&[&str], Option<&str>); 8] = [
            (&["flush", "chain", "inet", "portcullis", "forward"], Some("forward")),
            (&["add", "rule", "inet", "portcullis", "forward", "accept"], Some("forward")),
            (&["add", "element", "inet", "portcullis", "self_v4", "{ x . 10.9.9.9 . 10.9.9.9 }"], None),
            (&["add", "chain", "inet", "portcullis", "mine"], Some("mine")),
            (&["delete", "table", "inet", "portcullis"], Some("portcullis")),
            (&["flush", "chain", "arp", "portcullis", "arp_input"], Some("arp_input")),
            (&["add", "chain", "arp", "portcullis", "arp_mine"], Some("arp_mine")),
            (&["delete", "table", "arp", "portcullis"], Some("portcullis")),
        ];
        assert!(!chains.is_empty() && !sets.is_empty());
        for (tamper, name) in tampers {
            let tamper: Vec<String> = tamper.iter().map(ToString::to_string).collect();
            let tamper: Vec<String> = if tamper.contains(&"self_v4".to_owned()) {
                let own = names("set").into_iter().find(|name| name.starts_with("self_v4")).unwrap();
                tamper.into_iter().map(|word| if word == "self_v4" { own.clone() } else { word }).collect()
            } else {
                tamper
            };
            nft(&tamper.iter().map(String::as_str).collect::<Vec<_>>());
            match (enforcer.drift().unwrap(), name) {
                (Drift::Changed(found) | Drift::Stray(found), Some(name)) => assert_eq!(found, name),
                (Drift::Changed(found), None) => assert!(found.starts_with("self_v4"), "{found}"),
                (drift, _) => panic!("{tamper:?}: {drift:?}"),
            }
            load(&mut enforcer);
        }
        // Other people's tables are their own business.
        let path = std::env::temp_dir().join(format!("portcullis-other-{}", std::process::id()));
        std::fs::write(&path, OTHER).unwrap();
        nft(&["-f", path.to_str().unwrap()]);
        std::fs::remove_file(path).unwrap();
        assert_eq!(enforcer.drift().unwrap(), Drift::None);
        enforcer.remove().unwrap();
        assert_eq!(names("chain"), Vec::<String>::new());
        assert!(nft(&["list", "ruleset"]).contains("table inet other"));
    });
}

fn names(kind: &str) -> Vec<String> {
    let listed = nft(&["list", "ruleset"]);
    let ours = listed.split("table inet portcullis {").nth(1).unwrap_or_default();
    let named = ours.lines().filter_map(|line| line.trim().strip_prefix(kind)?.trim().split(' ').next());
    named.map(ToOwned::to_owned).collect()
}

/// An update that the kernel refuses half-way, because somebody took a chain away, ends in a load.
#[test]
fn an_update_on_a_broken_table_loads_it_anew() {
    in_namespace(|| {
        let mut world = World::new(5);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        world.load(&mut enforcer).unwrap();
        for _ in 0..6 {
            nft(&["delete", "table", "inet", "portcullis"]);
            let delta = world.change();
            world.update(&mut enforcer, &delta).unwrap();
            if enforcer.read_back() != Drift::None {
                // A delta without a command for the kernel leaves it unnoticed until somebody looks.
                world.load(&mut enforcer).unwrap();
            }
            nft(&["add", "table", "inet", "another"]);
            assert_eq!(enforcer.read_back(), Drift::None);
        }
    });
}

/// What was refused is brought in force by the next update or look, and until then the table is what it was.
#[test]
fn an_update_that_fails_changes_nothing_and_the_next_brings_everything_in_force() {
    in_namespace(|| {
        let mut world = World::new(11);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        world.load(&mut enforcer).unwrap();
        let none = Limits { chains: 0, sets: 0, elements: 0 };
        for round in 0..8 {
            let before = tables();
            let delta = world.change();
            let kind = if round % 2 == 0 {
                // It does not fit.
                enforcer.limit(none);
                let error = world.update(&mut enforcer, &delta).unwrap_err();
                enforcer.limit(Limits::default());
                error.kind()
            } else {
                // The kernel refuses the update and the load: no table has so long a name.
                let table = core::mem::replace(&mut enforcer.table, "x".repeat(300).as_str().into());
                let refused = world.update(&mut enforcer, &delta);
                enforcer.table = table;
                match refused {
                    Err(error) => {
                        assert!(error.source().is_some(), "the update's own error is its cause: {error}");
                        error.kind()
                    }
                    // Nothing had to be told to the kernel.
                    Ok(()) => continue,
                }
            };
            let doesnt_fit = kind == DataplaneErrorKind::DoesNotFit;
            assert_eq!(doesnt_fit, round % 2 == 0, "{kind:?}");
            assert_eq!(tables(), before, "round {round}");
            if round < 4 {
                let delta = world.change();
                world.update(&mut enforcer, &delta).unwrap();
            } else {
                let bindings = world.bindings();
                let health =
                    enforcer.maintain(DesiredState::new(world.compiler.snapshot(), &bindings)).unwrap();
                assert!(health.applied.is_complete() && health.repaired.is_empty(), "{health:?}");
            }
            nft(&["add", "table", "inet", "other"]);
            assert_eq!(enforcer.read_back(), Drift::None, "round {round}");
            let lowered = enforcer.lowered();
            assert_eq!(lowered, world.compiler.snapshot().generation, "round {round}");
        }
        let fresh = {
            let followed = shape(&tables());
            enforcer.remove().unwrap();
            world.load(&mut enforcer).unwrap();
            assert_eq!(shape(&tables()), followed);
            enforcer.read_back()
        };
        assert_eq!(fresh, Drift::None);
    });
}

#[test]
fn maintain_repairs_and_says_what() {
    in_namespace(|| {
        let world = World::new(3);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        let bindings = world.bindings();
        let desired = DesiredState::new(world.compiler.snapshot(), &bindings);
        assert_eq!(enforcer.maintain(desired).unwrap_err().kind(), DataplaneErrorKind::NotLoaded);
        world.load(&mut enforcer).unwrap();
        assert_eq!(enforcer.maintain(desired).unwrap(), Default::default());
        nft(&["flush", "chain", "inet", "portcullis", "forward"]);
        assert_eq!(enforcer.maintain(desired).unwrap().repaired, ["forward"]);
        assert_eq!(enforcer.maintain(desired).unwrap(), Default::default());
        // Bindings that nobody told by an update are brought in force, too.
        let none = Bindings::new();
        let alone = DesiredState::new(world.compiler.snapshot(), &none);
        assert!(enforcer.maintain(alone).unwrap().repaired.is_empty());
        assert!(!tables().contains("10.0.9."));
    });
}

#[test]
fn what_an_earlier_process_left_is_removed_without_a_load() {
    in_namespace(|| {
        let world = World::new(3);
        world.load(&mut Enforcer::open(Options::new()).unwrap()).unwrap();
        assert!(nft(&["list", "tables"]).contains("portcullis"));
        let mut next = Enforcer::open(Options::new()).unwrap();
        for _ in 0..2 {
            next.remove().unwrap();
            assert_eq!(nft(&["list", "tables"]), "");
        }
        // Without the check of claims there is no table for ARP, whatever was there.
        world.load(&mut next).unwrap();
        let unchecked = DataplaneOptions::new().with_check_neighbour_claims(false);
        let mut other = Enforcer::open(Options::from(unchecked)).unwrap();
        world.load(&mut other).unwrap();
        assert_eq!(nft(&["list", "tables"]), "table inet portcullis\n");
        assert_eq!(other.drift().unwrap(), Drift::None);
        world.load(&mut next).unwrap();
        let usage = next.usage().unwrap();
        assert_eq!(usage.iter().map(|usage| usage.name).collect::<Vec<_>>(), ["chains", "sets", "elements"]);
        let listed = tables();
        let chains = listed.lines().filter(|line| line.trim_start().starts_with("chain ")).count();
        assert_eq!((usage[0].used, usage[0].limit), (chains as u64, Some(8_192)));
    });
}

/// Names of decisions are not used again while events of the old ones may wait.
#[test]
fn a_load_gives_no_chain_a_name_that_was_another_s() {
    in_namespace(|| {
        let mut world = World::new(4);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        world.load(&mut enforcer).unwrap();
        let mut meanings = alloc::collections::BTreeMap::new();
        for round in 0..12 {
            for name in names("chain").into_iter().filter(|name| name.starts_with('d')) {
                let meaning = enforcer.meaning(&name).unwrap().clone();
                let known = meanings.entry(name.clone()).or_insert_with(|| meaning.clone());
                assert_eq!((&name, &*known), (&name, &meaning));
            }
            if round % 3 == 2 {
                nft(&["delete", "table", "inet", "portcullis"]);
            }
            let delta = world.change();
            world.update(&mut enforcer, &delta).unwrap();
            let bindings = world.bindings();
            let _ = enforcer.maintain(DesiredState::new(world.compiler.snapshot(), &bindings)).unwrap();
        }
        // Whoever reads an event late still learns what decided.
        for (name, meaning) in &meanings {
            assert_eq!(enforcer.meaning(name), Some(meaning));
        }
    });
}

/// A socket that is dropped lives on for a moment in a program that another test is starting right then.
fn wait_until(mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + core::time::Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < end, "not within ten seconds");
        std::thread::sleep(core::time::Duration::from_millis(10));
    }
}

#[test]
fn a_second_listener_is_told_as_that_and_does_not_stop_policy() {
    in_namespace(|| {
        let world = World::new(3);
        let mut first = Enforcer::open(Options::new()).unwrap();
        world.load(&mut first).unwrap();
        assert!(first.event_fd().is_some());
        assert_eq!((first.next_event().unwrap(), first.lost_events()), (None, 0));
        let mut second = Enforcer::open(Options::new()).unwrap();
        world.load(&mut second).unwrap();
        assert_eq!(second.event_fd(), None);
        let error = second.next_event().unwrap_err();
        assert_eq!(error.to_string(), "another program listens to nflog group 4789, which takes one");
        assert_eq!(error.kind(), DataplaneErrorKind::Environment);
        drop(first);
        wait_until(|| matches!(second.next_event(), Ok(None)));
        assert!(second.event_fd().is_some());
    });
}

/// The enforcer is told from a thread that is in another network namespace, as an agent with many threads may do.
#[test]
fn events_are_those_of_the_namespace_the_enforcer_was_opened_in() {
    in_namespace(|| {
        let listens_here = |group| Events::open().unwrap().listen(group);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        let group = Options::new().log_group();
        let mut enforcer = in_namespace(move || {
            World::new(3).load(&mut enforcer).unwrap();
            assert!(enforcer.event_fd().is_some());
            assert_eq!(nft(&["list", "tables"]), "");
            Events::open().unwrap().listen(group).unwrap();
            enforcer
        })
        .unwrap();
        assert!(nft(&["list", "tables"]).contains("portcullis"));
        let error = listens_here(group).unwrap_err();
        assert!(error.to_string().starts_with("another program listens"), "{error}");
        enforcer.remove().unwrap();
        assert_eq!(enforcer.event_fd(), None);
        // The group is free for others, and after them for us.
        listens_here(group).unwrap();
        wait_until(|| matches!(enforcer.next_event(), Ok(None)));
        listens_here(group).unwrap_err();
    });
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_touched() {
    in_namespace(|| {
        let world = World::new(3);
        let limits = Limits { chains: 5, ..Limits::default() };
        let mut enforcer = Enforcer::open(Options::new().with_limits(limits)).unwrap();
        let error = world.load(&mut enforcer).unwrap_err();
        assert!(error.to_string().contains("`chains` holds 5"), "{error}");
        assert_eq!(error.kind(), DataplaneErrorKind::DoesNotFit);
        assert_eq!(nft(&["list", "ruleset"]), "");
    });
}

/// A batch is all or nothing, and the error names what was refused.
#[test]
fn a_refused_batch_changes_nothing() {
    in_namespace(|| {
        let table: Name = "portcullis".into();
        let chain = |name: &str| Command::AddChain(Chain { name: name.into(), hook: None, comment: None });
        let good = [Command::AddTable(Family::Inet), chain("one")];
        let bad = [chain("two"), Command::DeleteChain("missing".into())];
        let mut netlink = Netlink::open().unwrap();
        netlink.commit(&table, &good).unwrap();
        let before = nft(&["list", "ruleset"]);
        let error = netlink.commit(&table, &bad).unwrap_err();
        assert!(error.to_string().starts_with("the kernel refuses chain missing: "), "{error}");
        let mut program = Nft::probe().unwrap();
        let update = |commands: &[Command]| {
            let stage = Stage { after_grace: false, commands: commands.to_vec() };
            Update { stages: vec![stage], ..Update::new(table.clone()) }
        };
        let refused = [
            program.check(&update(&bad)).unwrap_err().to_string(),
            program.carry_out(&update(&bad)).unwrap_err().to_string(),
            program.commit(&table, &bad).unwrap_err().to_string(),
        ];
        assert!(
            refused.iter().all(|error| error.starts_with("the kernel refuses the update: ")),
            "{refused:?}"
        );
        program.check(&update(&[chain("three")])).unwrap();
        assert_eq!(nft(&["list", "ruleset"]), before);
    });
}

/// What a process that was killed between two batches leaves behind is what the next one starts from.
#[test]
fn a_load_that_was_cut_off_is_put_right_by_the_next() {
    in_namespace(|| {
        let mut world = World::new(9);
        let table: Name = "portcullis".into();
        let mut netlink = Netlink::open().unwrap();
        let mut stages_seen = 0;
        for cut in 0..6 {
            let existing = netlink.existing(&table).unwrap();
            let snapshot = world.snapshot();
            let (mut lowering, update) =
                Lowering::load(Options::new(), DesiredState::new(&snapshot, &world.bindings()), &existing)
                    .unwrap();
            for stage in update.stages() {
                netlink.commit(&table, &stage.commands).unwrap();
            }
            let delta = world.change();
            let update =
                lowering.update(DesiredState::new(&world.snapshot(), &world.bindings()), &delta).unwrap();
            stages_seen = stages_seen.max(update.stages().len());
            for stage in update.stages().iter().take(cut) {
                netlink.commit(&table, &stage.commands).unwrap();
            }
            let mut next = Enforcer::open(Options::new()).unwrap();
            world.load(&mut next).unwrap();
            nft(&["add", "table", "inet", "other"]);
            assert_eq!(next.read_back(), Drift::None, "cut after {cut}");
        }
        assert!(stages_seen > 1, "no update was long enough to be cut off");
    });
}

/// Two instances: the one that finds the table changed under it says so, or puts it right; no batch is half carried out.
#[test]
fn a_second_instance_is_noticed() {
    in_namespace(|| {
        let world = World::new(3);
        let mut first = Enforcer::open(Options::new()).unwrap();
        world.load(&mut first).unwrap();
        let mut second = Enforcer::open(Options::new()).unwrap();
        world.load(&mut second).unwrap();
        assert_eq!(second.drift().unwrap(), Drift::None);
        assert_ne!(first.drift().unwrap(), Drift::None);
        world.load(&mut first).unwrap();
        assert_eq!(first.drift().unwrap(), Drift::None);
    });
}

#[test]
fn an_update_repairs_what_others_did_to_the_table() {
    in_namespace(|| {
        for tamper in [
            &["flush", "chain", "inet", "portcullis", "forward"][..],
            &["insert", "rule", "inet", "portcullis", "forward", "accept"],
            &["add", "chain", "inet", "portcullis", "mine"],
            &["delete", "table", "inet", "portcullis"],
            &["flush", "ruleset"],
        ] {
            let mut world = World::new(3);
            let mut enforcer = Enforcer::open(Options::new()).unwrap();
            world.load(&mut enforcer).unwrap();
            nft(tamper);
            let delta = world.change();
            world.update(&mut enforcer, &delta).unwrap();
            assert_eq!(enforcer.read_back(), Drift::None, "{tamper:?}");
            let repaired = shape(&tables());
            enforcer.remove().unwrap();
            let mut fresh = Enforcer::open(Options::new()).unwrap();
            world.load(&mut fresh).unwrap();
            assert_eq!(repaired, shape(&tables()), "{tamper:?}");
            fresh.remove().unwrap();
        }
    });
}

#[test]
fn a_workload_at_a_port_of_a_bridge_is_named() {
    in_namespace(|| {
        let ip = |line: &str| {
            let status = std::process::Command::new("ip").args(line.split(' ')).status().unwrap();
            assert!(status.success(), "ip {line}");
        };
        ip("link add br0 type bridge");
        for name in ["e0", "e1", "e2"] {
            ip(&format!("link add {name} type veth peer name p{name}"));
        }
        ip("link set e0 master br0");
        let mut world = World::new(3);
        let ids = ["a", "b", "c"].map(|name| EndpointId::workload("t", name));
        let bindings: Bindings = (0..3)
            .map(|number| {
                let interface = Interface::new(&format!("e{number}")).unwrap();
                (ids[number].clone(), Binding::WorkloadAnyAddress { interface })
            })
            .collect();
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        let named = |applied: portcullis_core::backend::Applied| {
            applied.unreached.into_iter().map(|one| (one.endpoint.unwrap(), one.reason)).collect::<Vec<_>>()
        };
        let unreached =
            named(enforcer.load(DesiredState::new(world.compiler.snapshot(), &bindings)).unwrap());
        assert_eq!(unreached.len(), 1);
        assert_eq!(unreached[0].0, ids[0]);
        assert!(unreached[0].1.contains("bridge br0"), "{unreached:?}");
        // Ports come and go: seen by the next look.
        ip("link set e1 master br0");
        ip("link set e0 nomaster");
        ip("link set e2 master br0");
        let health = enforcer.maintain(DesiredState::new(world.compiler.snapshot(), &bindings)).unwrap();
        let unreached = named(health.applied);
        assert_eq!([&unreached[0].0, &unreached[1].0], [&ids[1], &ids[2]], "{unreached:?}");
        // An update says so, too, and about one that is bound by it.
        let delta = world.change();
        let mut more = bindings.clone();
        let _ = more.unbind(&ids[2]);
        more.bind(ids[0].clone(), Binding::WorkloadAnyAddress { interface: Interface::new("e2").unwrap() });
        let applied = enforcer.update(DesiredState::new(world.compiler.snapshot(), &more), &delta).unwrap();
        assert_eq!(named(applied).iter().map(|(id, _)| id).collect::<Vec<_>>(), [&ids[0], &ids[1]]);
        enforcer.remove().unwrap();
    });
}
