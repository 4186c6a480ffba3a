//! What a start finds, and what it says when it cannot.

use aya::maps::MapData;

use super::*;

/// Pins of the right name and of another shape: a table of other keys, a program, a folder.
#[test]
fn a_pinned_table_of_another_shape_is_set_aside() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let tables: Vec<String> =
            node.pinned().into_iter().filter(|name| name.starts_with("flows_")).collect();
        assert_eq!(tables.len(), 2);
        let link = node.pinned().into_iter().find(|name| name.ends_with("-ingress")).unwrap();
        let kinds: [&dyn Fn(&Path); 3] = [
            &|path| other_table().pin(path).unwrap(),
            &|path| std::fs::create_dir(path).unwrap(),
            // A hard link is as good as another pin of it.
            &|path| std::fs::rename(node.pins.join(&link), path).unwrap(),
        ];
        for (number, make) in kinds.into_iter().enumerate() {
            node.plane = Enforcer::open(Options::new().with_pins(&node.pins)).unwrap();
            let path = node.pins.join(&tables[number % 2]);
            std::fs::remove_file(&path).unwrap();
            make(&path);
            let _ = node.compiler.commit();
            let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
            let applied = node.plane.load(desired).unwrap();
            let [warning] = &applied.warnings[..] else { panic!("{applied:?}") };
            assert!(warning.contains(&tables[number % 2]) && warning.contains("set aside"), "{warning}");
            assert!(applied.is_complete());
            assert_eq!(node.open(), [true, false]);
        }
        let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
        assert_eq!(node.plane.load(desired).unwrap(), Applied::COMPLETE);
        node.plane.remove().unwrap();
    });
}

/// A hash map of another use.
fn other_table() -> MapData {
    let options = Options::new().with_capacity(Capacity::SMALL);
    let mut other = crate::load::object::load(
        crate::load::object::OBJECT,
        &options,
        crate::load::object::Behaviour::PLAIN,
        &[],
    )
    .unwrap();
    let Some(aya::maps::Map::HashMap(data)) = other.take_map("addresses_v4") else { panic!() };
    data
}

#[test]
fn a_start_without_what_it_needs_names_it_and_leaves_nothing() {
    on_a_node(1, |mut node| {
        let none = std::env::temp_dir().join(format!("portcullis-none-{}", nix::unistd::gettid()));
        let inside = node.pins.join("a/b/c");
        let services = || DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
        for (options, said) in [
            (Options::new().with_pins(none.join("a/b")), "mount -t bpf"),
            (Options::new().with_pins(&none), "mount -t bpf"),
            (
                Options::from(services())
                    .with_pins(&inside)
                    .with_node_backends(NodeBackends::GuardedAt(none.clone())),
                "portcullis-none",
            ),
            (
                Options::from(services())
                    .with_pins(&inside)
                    .with_node_backends(NodeBackends::GuardedAt(std::env::temp_dir())),
                "cgroup2",
            ),
        ] {
            node.plane = Enforcer::open(options).unwrap();
            let error = node.load().unwrap_err();
            assert_eq!(error.kind(), DataplaneErrorKind::Environment, "{error}");
            assert!(error.to_string().contains(said), "{error}");
            assert!(!none.exists() && !node.pins.exists());
        }
    });
}
