//! What others do to the table is heard at once, found by content, and repaired; what they do to tables of their own is nobody's.

use portcullis_core::backend::{Dataplane as _, DataplaneOptions, DesiredState};

use crate::Options;
use crate::apply::{Drift, Enforcer};

use super::enforce::World;
use super::node::{Node, PORTS, ip, on_a_node};
use super::{in_namespace, nft};

/// What `nft` prints of a chain, each rule with its handle.
fn rules(chain: &str) -> Vec<(String, u64)> {
    let listed = nft(&["-a", "list", "chain", "inet", "portcullis", chain]);
    let rule = |line: &str| {
        let (rule, handle) = line.trim().split_once(" # handle ")?;
        Some((rule.to_owned(), handle.parse().ok()?)).filter(|_| !rule.starts_with("chain"))
    };
    listed.lines().filter_map(rule).collect()
}

fn chains() -> Vec<String> {
    let listed = nft(&["list", "table", "inet", "portcullis"]);
    let chains = listed.lines().filter_map(|line| line.trim().strip_prefix("chain ")?.split(' ').next());
    chains.map(ToOwned::to_owned).collect()
}

fn replace(chain: &str, handle: u64, by: &str) {
    let handle = handle.to_string();
    let words = ["replace", "rule", "inet", "portcullis", chain, "handle", &handle];
    nft(&words.into_iter().chain(by.split(' ')).collect::<Vec<_>>());
}

/// Every rule of a table, one after the other, is replaced by another. The number of rules stays.
#[test]
fn any_rule_that_is_replaced_is_found() {
    in_namespace(|| {
        let world = World::new(3);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        let bindings = world.bindings();
        let desired = DesiredState::new(world.compiler.snapshot(), &bindings);
        let _ = enforcer.load(desired).unwrap();
        let mut replaced = 0;
        // A repair gives new names, so rules are told by their place in the listing.
        loop {
            let all: Vec<(String, u64)> = chains()
                .into_iter()
                .flat_map(|chain| rules(&chain).into_iter().map(move |(_, handle)| (chain.clone(), handle)))
                .collect();
            let Some((chain, handle)) = all.get(replaced) else { break };
            replaced += 3;
            replace(chain, *handle, "accept");
            assert_eq!(enforcer.drift().unwrap(), Drift::Changed(chain.as_str().into()));
            assert_eq!(enforcer.maintain(desired).unwrap().repaired, core::slice::from_ref(chain));
            assert_eq!(enforcer.read_back(), Drift::None);
        }
        assert!(replaced > 20, "{replaced}");
    });
}

/// What keeps the numbers and names of everything: places of chains, a look-up turned around, elements of a map of a rule's own, a
/// set of another kind, a table asleep.
#[test]
fn siblings_of_a_replaced_rule_are_found() {
    on_a_node(|mut node| {
        node.allow(PORTS[0]);
        assert!(node.load().unwrap().is_complete());
        type Tamper = fn() -> String;
        let tampers: [(&str, Tamper); 5] = [
            ("a map of a rule's own has another case", || {
                let (chain, rule, handle) = chains()
                    .into_iter()
                    .find_map(|chain| {
                        let (rule, handle) =
                            rules(&chain).into_iter().find(|(rule, _)| rule.contains("dport vmap { "))?;
                        Some((chain, rule, handle))
                    })
                    .unwrap_or_else(|| panic!("{}", nft(&["list", "table", "inet", "portcullis"])));
                replace(&chain, handle, &rule.replace("9001", "9002"));
                chain
            }),
            ("a look-up is turned around", || {
                let (chain, rule, handle) = chains()
                    .into_iter()
                    .find_map(|chain| {
                        let (rule, handle) = rules(&chain)
                            .into_iter()
                            .find(|(rule, _)| rule.contains(" @") && !rule.contains("vmap"))?;
                        Some((chain, rule, handle))
                    })
                    .unwrap();
                replace(&chain, handle, &rule.replace(" @", " != @"));
                chain
            }),
            ("the policy of a chain", || {
                nft(&["add", "chain", "inet", "portcullis", "forward", "{ policy drop; }"]);
                "forward".into()
            }),
            ("the table sleeps", || {
                nft(&["add", "table", "inet", "portcullis", "{ flags dormant; }"]);
                "portcullis".into()
            }),
            ("a rule moves", || {
                let all = rules("forward");
                let (rule, handle) = all.first().unwrap();
                let handle = handle.to_string();
                let mut words = vec!["add", "rule", "inet", "portcullis", "forward"];
                words.extend(rule.split(' '));
                nft(&words);
                nft(&["delete", "rule", "inet", "portcullis", "forward", "handle", &handle]);
                "forward".into()
            }),
        ];
        let mut port = PORTS[0];
        for (name, tamper) in tampers {
            for by_update in [false, true] {
                assert!(!node.is_told(), "{name}: nobody did anything");
                let changed = tamper();
                assert!(node.is_told(), "{name}");
                if by_update {
                    port = if port == PORTS[0] { PORTS[1] } else { PORTS[0] };
                    node.allow(port);
                    assert!(node.update().unwrap().is_complete(), "{name}");
                } else {
                    assert_eq!(node.maintain().unwrap().repaired, [changed], "{name}");
                }
                assert_eq!(node.open_port(), Some(port), "{name}");
                assert_eq!(node.enforcer.read_back(), Drift::None, "{name}");
                let _ = node.maintain().unwrap();
            }
        }
    });
}

/// The descriptor tells of others, and never of what the enforcer does itself.
#[test]
fn an_agent_is_woken_by_others_and_not_by_its_own_changes() {
    on_a_node(|mut node| {
        let quiet = |node: &Node, what: &str| assert!(!node.is_told(), "{what}");
        node.allow(PORTS[0]);
        assert_eq!(node.enforcer.change_fd(), None);
        assert!(node.load().unwrap().is_complete());
        let _ = node.maintain().unwrap();
        let _ = node.open_port();
        quiet(&node, "after a load");
        for (round, port) in PORTS.into_iter().cycle().take(6).enumerate() {
            node.allow(port);
            assert!(node.update().unwrap().is_complete());
            quiet(&node, "after an update");
            let ended = node.enforcer.terminate(&|_| true).unwrap();
            assert!(ended > 0 || round > 0, "flows were noted");
            quiet(&node, "after flows were ended");
            let _ = node.enforcer.counters().unwrap();
            let _ = node.maintain().unwrap();
            quiet(&node, "after a look");
            let _ = node.open_port();
        }
        let _ = node.maintain().unwrap();
        assert!(node.load().unwrap().is_complete());
        quiet(&node, "after a second load");
        // Others, in our table.
        nft(&["insert", "rule", "inet", "portcullis", "forward", "accept"]);
        assert!(node.is_told());
        assert_eq!(node.maintain().unwrap().repaired, ["forward"]);
        quiet(&node, "after the repair");
        // Somebody who changed his mind.
        nft(&["add", "chain", "inet", "portcullis", "mine"]);
        nft(&["delete", "chain", "inet", "portcullis", "mine"]);
        assert!(node.is_told());
        assert!(node.maintain().unwrap().repaired.is_empty());
        quiet(&node, "after a look at it");
        // In a table of the same name and another family, and in others: nothing of ours is read.
        let reads = node.enforcer.reads_for_test();
        for table in ["ip portcullis", "inet other"] {
            let [family, name] = <[&str; 2]>::try_from(table.split(' ').collect::<Vec<_>>()).unwrap();
            nft(&["add", "table", family, name]);
            nft(&["delete", "table", family, name]);
            assert!(node.maintain().unwrap().repaired.is_empty());
            quiet(&node, table);
        }
        assert_eq!(node.enforcer.reads_for_test(), reads);
        // Interfaces.
        for line in ["link add cali9 type veth peer name other9", "link del cali9"] {
            ip(line);
            assert!(node.is_told(), "{line}");
            let _ = node.maintain().unwrap();
            quiet(&node, line);
        }
        node.enforcer.remove().unwrap();
        assert_eq!(node.enforcer.change_fd(), None);
    });
}

/// More is told than a socket holds: the table is read, once.
#[test]
fn what_was_not_heard_is_looked_for() {
    in_namespace(|| {
        let mut world = World::new(3);
        let mut enforcer = Enforcer::open(Options::from(DataplaneOptions::new())).unwrap();
        let bindings = world.bindings();
        let _ = enforcer.load(DesiredState::new(world.compiler.snapshot(), &bindings)).unwrap();
        let path = std::env::temp_dir().join(format!("portcullis-many-{}", nix::unistd::gettid()));
        let elements: Vec<String> =
            (0..60_000_u32).map(|n| core::net::Ipv4Addr::from(n).to_string()).collect();
        let many = format!(
            "add table inet other\nadd set inet other s {{ type ipv4_addr; }}\nadd element inet other s {{ {} }}\n",
            elements.join(", ")
        );
        std::fs::write(&path, many).unwrap();
        // The rule goes unheard behind so many elements.
        nft(&["-f", path.to_str().unwrap()]);
        nft(&["flush", "set", "inet", "other", "s"]);
        nft(&["-f", path.to_str().unwrap()]);
        nft(&["flush", "set", "inet", "other", "s"]);
        nft(&["-f", path.to_str().unwrap()]);
        std::fs::remove_file(path).unwrap();
        let handle = rules("forward").first().unwrap().1;
        replace("forward", handle, "accept");
        let delta = world.change();
        let bindings = world.bindings();
        let _ = enforcer.update(DesiredState::new(world.compiler.snapshot(), &bindings), &delta).unwrap();
        assert_eq!(enforcer.read_back(), Drift::None);
        assert!(!rules("forward").iter().any(|(rule, _)| rule == "accept"));
    });
}

/// A process that never reads counters keeps no more of policies that are gone than it says.
#[test]
fn what_is_kept_of_retired_policies_is_bounded() {
    in_namespace(|| {
        let mut world = World::new(8);
        let mut enforcer = Enforcer::open(Options::new()).unwrap();
        let bindings = world.bindings();
        let _ = enforcer.load(DesiredState::new(world.compiler.snapshot(), &bindings)).unwrap();
        let mut most = [0; 5];
        for _ in 0..300 {
            let delta = world.change();
            let bindings = world.bindings();
            let _ = enforcer.update(DesiredState::new(world.compiler.snapshot(), &bindings), &delta).unwrap();
            let sizes = enforcer.retired();
            most = core::array::from_fn(|at| most[at].max(sizes[at]));
        }
        // No packet was sent, so nothing counted waits; events of the latest decisions may.
        let [chains, order, carried, untold, decisions] = most;
        assert!(chains > 100 && chains == order && chains <= 2_048, "{most:?}");
        assert!(carried == 0 && untold == 0 && decisions <= chains, "{most:?}");
    });
}
