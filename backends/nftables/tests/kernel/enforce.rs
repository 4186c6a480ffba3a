//! The enforcer: loads, updates, faults, drift, other people's tables.

use portcullis_core::backend::{
    Binding, Bindings, Dataplane as _, DataplaneError, DataplaneErrorKind, DesiredState, Interface,
    Lower as _,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::{Delta, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::model::{Cluster, EndpointId, EndpointKind};
use portcullis_core::settings::Settings;
use portcullis_nftables::*;
use portcullis_testkit::generate::Generator;

use crate::{in_namespace, nft};

/// A cluster that changes.
struct World {
    generator: Generator,
    cluster: Cluster,
    compiler: Compiler,
}

impl World {
    fn new(seed: u64) -> Self {
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

    fn change(&mut self) -> Delta {
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

    fn bindings(&self) -> Bindings {
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
const TABLE: [&str; 4] = ["list", "table", "inet", "portcullis"];

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
                assert_eq!(enforcer.drift().unwrap(), Drift::None, "seed {seed} step {step}");
            }
            // Whether the kernel holds what is expected is looked at in full once somebody else commits.
            nft(&["add", "chain", "inet", "other", "c"]);
            assert_eq!(enforcer.drift().unwrap(), Drift::None, "seed {seed}");
            // Another process takes over and leaves what a fresh load makes.
            let mut next = Enforcer::open(Options::new()).unwrap();
            world.load(&mut next).unwrap();
            nft(&["add", "chain", "inet", "other", "d"]);
            assert_eq!(next.drift().unwrap(), Drift::None, "seed {seed}");
            let taken_over = shape(&nft(&TABLE));
            next.remove().unwrap();
            assert!(!nft(&["list", "tables"]).contains("portcullis"));
            assert!(nft(&["list", "tables"]).contains("table inet other"));
            let mut fresh = Enforcer::open(Options::new()).unwrap();
            world.load(&mut fresh).unwrap();
            assert_eq!(shape(&nft(&TABLE)), taken_over, "seed {seed}");
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
        let tampers: [(&[&str], Option<&str>); 5] = [
            (&["flush", "chain", "inet", "portcullis", "forward"], Some("forward")),
            (&["add", "rule", "inet", "portcullis", "forward", "accept"], Some("forward")),
            (&["add", "element", "inet", "portcullis", "self_v4", "{ x . 10.9.9.9 . 10.9.9.9 }"], None),
            (&["add", "chain", "inet", "portcullis", "mine"], Some("mine")),
            (&["delete", "table", "inet", "portcullis"], Some("portcullis")),
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
            if enforcer.drift().unwrap() != Drift::None {
                // A delta without a command for the kernel leaves it unnoticed until somebody looks.
                world.load(&mut enforcer).unwrap();
            }
            nft(&["add", "table", "inet", "another"]);
            assert_eq!(enforcer.drift().unwrap(), Drift::None);
        }
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
        let good = [Command::AddTable, chain("one")];
        let bad = [chain("two"), Command::DeleteChain("missing".into())];
        let mut netlink = Netlink::open().unwrap();
        netlink.commit(&table, &good).unwrap();
        let before = nft(&["list", "ruleset"]);
        let error = netlink.commit(&table, &bad).unwrap_err();
        assert_eq!(error.object(), Some("chain missing"));
        assert!(error.to_string().starts_with("the kernel refuses chain missing: "), "{error}");
        let mut program = Nft::probe().unwrap();
        assert!(program.check(&table, &bad).unwrap_err().stderr().unwrap().contains("missing"));
        assert!(program.commit(&table, &bad).unwrap_err().stderr().unwrap().contains("missing"));
        program.check(&table, &[chain("three")]).unwrap();
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
            assert_eq!(next.drift().unwrap(), Drift::None, "cut after {cut}");
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
