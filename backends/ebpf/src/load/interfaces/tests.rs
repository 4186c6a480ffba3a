use super::*;

fn interface(name: &str) -> Interface {
    Interface::new(name).unwrap()
}

fn there(all: &[(&str, u32)]) -> There {
    let by_name = all.iter().map(|(name, index)| ((*name).to_owned(), *index)).collect();
    There { by_name, by_index: all.iter().map(|(name, index)| (*index, (*name).to_owned())).collect() }
}

#[test]
fn an_interface_that_was_made_anew_is_another_one() {
    let there = there(&[("veth1", 7), ("veth2", 9), ("moved", 8)]);
    for (named, found) in [
        (interface("veth1"), Some(7)),
        (interface("veth1").with_index(7), Some(7)),
        // Made anew under its name.
        (interface("veth2").with_index(5), None),
        // Its index is another's now.
        (interface("veth2").with_index(7), None),
        // It got another name.
        (interface("old").with_index(8), Some(8)),
        (interface("old").with_index(6), None),
        (interface("old"), None),
    ] {
        assert_eq!(there.index_of(&named), found, "{named:?}");
    }
}

#[test]
fn interfaces_of_workloads_that_nobody_bound_are_closed() {
    let there = there(&[("lo", 1), ("eth0", 2), ("cali0", 3), ("cali1", 4), ("calih", 5), ("veth9", 6)]);
    let mut bindings = Bindings::new();
    let id = EndpointId::workload("shop", "a");
    bindings.bind(id.clone(), Binding::WorkloadAnyAddress { interface: interface("cali0") });
    bindings.uplink(interface("calih"));
    let resolved = Resolved::new(&bindings, &there, &[interface("cali"), interface("nothing")]);
    let closed: Vec<_> = resolved.bindings.closed().map(Interface::name).collect();
    assert_eq!(closed, ["cali1"]);
    assert_eq!(resolved.bindings.check(), Ok(()));
    assert!(resolved.unreached.is_empty());
    let wanted = resolved.wanted();
    assert_eq!(wanted.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(wanted.values().map(|one| one.is_named).collect::<Vec<_>>(), [true, false, true]);
    // Bound to an index that is gone: the one of that name now is closed, and the endpoint is told.
    bindings.bind(id.clone(), Binding::WorkloadAnyAddress { interface: interface("cali0").with_index(77) });
    let resolved = Resolved::new(&bindings, &there, &[interface("cali")]);
    assert_eq!(resolved.bindings.closed().map(Interface::name).collect::<Vec<_>>(), ["cali0", "cali1"]);
    assert_eq!(resolved.unreached.len(), 1);
    assert_eq!(resolved.bindings.check(), Ok(()));
    assert_eq!(resolved.bindings.of(&id), None);
}
