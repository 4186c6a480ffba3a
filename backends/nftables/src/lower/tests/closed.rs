//! Closed interfaces, and updates that cannot be expressed.

use portcullis_core::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _, LowerErrorKind,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::model::{Endpoint, EndpointId, Update};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::settings::Settings;

use super::table::{Destination, Table, Way};
use crate::command::AddressKind;
use crate::lower::Lowering;
use crate::options::Options;
use crate::update::Existing;

const CLOSED: &str = "veth0";

fn interface(name: &str) -> Interface {
    Interface::new(name).unwrap()
}

fn binding() -> Binding {
    Binding::workload(interface(CLOSED), ["10.0.0.1".parse().unwrap()])
}

/// One workload that is denied everything, because it has no policy and no profile.
fn compiler() -> (Compiler, EndpointId) {
    let id = EndpointId::workload("shop", "web");
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    let mut endpoint = Endpoint::new(id.clone());
    endpoint.addresses = vec!["10.0.0.1".parse().unwrap()];
    compiler.apply(Update::Endpoint(endpoint)).unwrap();
    drop(compiler.commit());
    (compiler, id)
}

/// The directions in which packets of the interface pass: from it, to it, from it to the host, from the host to it.
fn passes(table: &Table, name: &str, protocol: Protocol, icmp: u8) -> [bool; 4] {
    let addresses =
        if protocol == Protocol::ICMPV6 { ["fe80::1", "fe80::2"] } else { ["10.0.0.1", "10.0.0.2"] };
    let [own, other] = addresses.map(|text| text.parse().unwrap());
    let through = |chain: &str, from, to, input: &str, output: &str| {
        let packet = Packet::new(from, to, protocol).to_port(80).with_icmp(icmp, 0);
        let way = || Way::through(&packet, input, output);
        let comes_in = input.is_empty() || !table.run("raw_prerouting", &mut way()).dropped;
        comes_in && !table.run(chain, &mut way()).dropped
    };
    [
        through("forward", own, other, name, "eth0"),
        through("forward", other, own, "eth0", name),
        through("input", own, other, name, ""),
        through("output", other, own, "", name),
    ]
}

/// Neighbours on the link of an interface whose workload has no program find the host, and nothing passes that only looks so. No message may
/// come from `stranger`; a host's neighbours have any address.
fn discovers(table: &Table, name: &str, stranger: &str) {
    let try_it = |chain: &str, [from, to]: [&str; 2], kind, change: fn(&mut Way<'_>)| {
        let packet =
            Packet::new(from.parse().unwrap(), to.parse().unwrap(), Protocol::ICMPV6).with_icmp(kind, 0);
        let mut way = Way::through(&packet, name, if chain == "forward" { "eth0" } else { "" });
        way.hops = if matches!(kind, 133 | 135 | 136) { 255 } else { 1 };
        change(&mut way);
        !table.run("raw_prerouting", &mut way.clone()).dropped && !table.run(chain, &mut way).dropped
    };
    let local: fn(&mut Way<'_>) = |way| way.destination = Destination::OfThisHost(AddressKind::Local);
    for (ends, kind) in [
        (["fe80::1", "ff02::1:ff00:2"], 135),
        (["::", "ff02::1:ff00:2"], 135),
        (["fe80::1", "ff02::2"], 133),
        (["fe80::1", "fe80::2"], 136),
        (["fe80::1", "ff02::1"], 130),
        (["::", "ff02::16"], 143),
    ] {
        assert!(try_it("input", ends, kind, |_| {}), "{kind} {ends:?}");
        assert!(!try_it("forward", ends, kind, |_| {}), "{kind} {ends:?}");
        let spoils: [fn(&mut Way<'_>); 3] =
            [|way| way.hops = 64, |way| way.hops ^= 254, |way| way.length = 600];
        for spoil in spoils {
            assert!(!try_it("input", ends, kind, spoil), "{kind} {ends:?}");
        }
        let passes = try_it("input", [stranger, ends[1]], kind, |_| {});
        assert_eq!(passes, stranger.starts_with("fe80"), "another's source: {kind} {ends:?}");
    }
    assert!(try_it("input", ["fe80::1", "fd00::2"], 136, local));
    assert!(!try_it("input", ["fe80::1", "fd00::2"], 136, |_| {}), "an address that is not the host's");
    assert!(!try_it("input", ["fe80::1", "fd00::2"], 130, local), "a listener of one");
    assert!(!try_it("input", ["fd00::1", "ff02::1"], 130, |_| {}), "a listener with a global address");
    assert!(!try_it("input", ["fe80::1", "ff05::1"], 135, |_| {}));
    for kind in [134, 137, 128] {
        assert!(!try_it("input", ["fe80::1", "ff02::1"], kind, |way| way.hops = 255), "{kind}");
    }
    let v4 = Packet::new("10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap(), Protocol::ICMPV6)
        .with_icmp(135, 0);
    let mut way = Way::through(&v4, name, "");
    (way.hops, way.destination) = (255, Destination::OfThisHost(AddressKind::Local));
    let comes_in = !table.run("raw_prerouting", &mut way.clone()).dropped;
    assert!(!comes_in || table.run("input", &mut way).dropped);
}

/// No discovery passes between the host and an interface that nobody has an address at, and no ARP.
fn is_cut_off(table: &Table, name: &str) {
    let ends = ["fe80::1", "ff02::1", "::", "fe80::2"].map(|text| text.parse().unwrap());
    for (from, to) in [(0, 1), (0, 3), (2, 1), (3, 0)] {
        for (kind, hops) in [(130, 1), (133, 255), (135, 255), (136, 255), (143, 1)] {
            let packet = Packet::new(ends[from], ends[to], Protocol::ICMPV6).with_icmp(kind, 0);
            let mut comes_in = Way { hops, ..Way::through(&packet, name, "") };
            let way = &mut comes_in.clone();
            assert!(table.run("raw_prerouting", way).dropped || table.run("input", &mut comes_in).dropped);
            let mut goes_out = Way { hops, ..Way::through(&packet, "", name) };
            assert!(table.run("output", &mut goes_out).dropped, "{kind} {from} {to}");
        }
    }
    let nothing = Packet::new(ends[0], ends[1], Protocol(0));
    for (chain, input, output) in [("arp_input", name, ""), ("arp_output", "", name)] {
        for sender in ["10.0.0.1", "0.0.0.0"] {
            let mut way = Way { arp: sender.parse().ok(), ..Way::through(&nothing, input, output) };
            assert!(table.run(chain, &mut way).dropped, "{chain} {sender}");
        }
    }
}

/// What is sent to an interface of a workload's name passes from its binding on, in flows that connection tracking knows as well.
#[test]
fn what_is_sent_to_an_interface_of_a_workload_s_name_waits_for_its_binding() {
    let (compiler, id) = compiler();
    let options = Options::from(DataplaneOptions::new().with_workload_interfaces(interface("veth")));
    let mut bindings = Bindings::new();
    let desired = DesiredState::new(compiler.snapshot(), &bindings);
    let (mut lowering, update) = Lowering::load(options, desired, &Existing::default()).unwrap();
    let mut table = Table::default();
    update.stages().iter().for_each(|stage| table.apply(&stage.commands));
    let [from, to] = ["192.0.2.1", "10.0.0.1"].map(|text| text.parse().unwrap());
    let packet = Packet::new(from, to, Protocol::UDP).to_port(80);
    let passes = |table: &Table, output| {
        ["forward", "output"].map(|chain| {
            let input = if chain == "forward" { "eth0" } else { "" };
            let mut way = Way::through(&packet, input, output);
            way.state = Some(crate::command::ConnectionState::Established);
            !table.run(chain, &mut way).dropped
        })
    };
    for round in 0..2 {
        assert_eq!((passes(&table, CLOSED), passes(&table, "eth1")), ([false; 2], [true; 2]), "{round}");
        is_cut_off(&table, CLOSED);
        bindings.bind(id.clone(), binding());
        let delta = compiler.snapshot().diff(compiler.snapshot());
        let bound = DesiredState::new(compiler.snapshot(), &bindings);
        let update = lowering.update(bound, &delta).unwrap();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        assert_eq!(passes(&table, CLOSED), [true; 2], "{round}");
        bindings.unbind(&id);
        let unbound = DesiredState::new(compiler.snapshot(), &bindings);
        let update = lowering.update(unbound, &delta).unwrap();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
    }
}

#[test]
fn a_closed_interface_passes_nothing_and_no_batch_opens_it() {
    let named = DataplaneOptions::new().with_workload_interfaces(interface("veth"));
    for (options, checks) in [DataplaneOptions::new(), named]
        .into_iter()
        .flat_map(|options| [(options.clone(), true), (options, false)])
    {
        let options = Options::from(options.with_check_neighbour_claims(checks));
        let (compiler, id) = compiler();
        let snapshot = compiler.snapshot();
        let mut bindings = Bindings::new();
        bindings.close(interface(CLOSED));
        let mut table = Table::default();
        let desired = DesiredState::new(snapshot, &bindings);
        let (mut lowering, update) = Lowering::load(options, desired, &Existing::default()).unwrap();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        let shut = [false; 4];
        assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0), shut);
        assert_eq!(passes(&table, "eth1", Protocol::TCP, 0), [true; 4]);
        for kind in [130, 133, 135, 136] {
            assert_eq!(passes(&table, CLOSED, Protocol::ICMPV6, kind), shut);
        }
        if checks {
            is_cut_off(&table, CLOSED);
        } else {
            // Neighbour discovery with the host goes on; what only looks like it does not.
            discovers(&table, CLOSED, "fd00::77");
        }
        assert_eq!(passes(&table, CLOSED, Protocol::ICMPV6, 128), shut);

        // Its workload comes and goes; policy denies it everything, but for what the host sends.
        let delta = snapshot.diff(snapshot);
        for round in 0..3 {
            bindings.bind(id.clone(), binding());
            let update = lowering.update(DesiredState::new(snapshot, &bindings), &delta).unwrap();
            for stage in update.stages() {
                table.apply(&stage.commands);
                assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0)[..3], shut[..3], "{round}");
            }
            assert!(passes(&table, CLOSED, Protocol::TCP, 0)[3], "the host reaches its workloads");
            bindings.unbind(&id);
            bindings.close(interface(CLOSED));
            let update = lowering.update(DesiredState::new(snapshot, &bindings), &delta).unwrap();
            for stage in update.stages() {
                table.apply(&stage.commands);
                assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0)[..3], shut[..3], "{round}");
            }
            assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0), shut);
        }
        assert!(bindings.reopen(CLOSED));
        let update = lowering.update(DesiredState::new(snapshot, &bindings), &delta).unwrap();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        let named = !lowering.options.shared.workload_interfaces.is_empty();
        assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0)[0], !named, "its name still tells a workload");
    }
}

/// Packets that no bound workload's addresses belong to, at the interface of one and at one that tells a workload by its name.
#[test]
fn what_looks_like_neighbour_discovery_is_not_forwarded_for_unknown_addresses() {
    for options in
        [Options::new(), DataplaneOptions::new().with_workload_interfaces(interface("veth")).into()]
    {
        let (compiler, id) = compiler();
        let bindings = Bindings::from([(id, binding())]);
        let desired = DesiredState::new(compiler.snapshot(), &bindings);
        let (_, update) = Lowering::load(options, desired, &Existing::default()).unwrap();
        let mut table = Table::default();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        for kind in [130, 133, 135, 136] {
            assert_eq!(passes(&table, CLOSED, Protocol::ICMPV6, kind), [false, false, false, true], "{kind}");
        }
        discovers(&table, CLOSED, "fd00::77");
        assert_eq!(passes(&table, CLOSED, Protocol::ICMPV6, 128), [false, false, false, true]);
    }
}

/// Whatever the order in which a host endpoint and its policy come, its interface is not open in between.
#[test]
fn a_host_endpoint_that_the_snapshot_does_not_know_is_denied_everything() {
    let all = || Binding::AllInterfaces { interfaces: Vec::new() };
    let named = || Binding::Host { interfaces: vec![interface(CLOSED)] };
    for (binding, guards_others) in [(named(), false), (all(), true)] {
        let (mut compiler, workload) = compiler();
        let id = EndpointId::host("node-1");
        let bindings =
            Bindings::from([(id.clone(), binding), (workload, Binding::workload(interface("w1"), []))]);
        let snapshot = compiler.snapshot().clone();
        let mut table = Table::default();
        let desired = DesiredState::new(&snapshot, &bindings);
        let (mut lowering, update) = Lowering::load(Options::new(), desired, &Existing::default()).unwrap();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0), [false; 4]);
        assert_eq!(passes(&table, CLOSED, Protocol::ICMPV6, 135), [false; 4]);
        discovers(&table, CLOSED, "fe80::77");
        assert_eq!(passes(&table, "eth1", Protocol::TCP, 0), [!guards_others; 4]);
        assert_eq!(passes(&table, "lo", Protocol::TCP, 0)[2..], [true; 2]);
        assert!(passes(&table, "w1", Protocol::TCP, 0)[3], "the host reaches its workloads");

        // It becomes known: without policy, its forwarded traffic passes, and its own does not.
        let mut endpoint = Endpoint::new(id.clone());
        endpoint.addresses = vec!["10.0.0.1".parse().unwrap()];
        compiler.apply(Update::Endpoint(endpoint)).unwrap();
        let delta = compiler.commit();
        let known = DesiredState::new(compiler.snapshot(), &bindings);
        let update = lowering.update(known, &delta).unwrap();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0)[..2], [true; 2]);

        // And it goes again.
        compiler.apply(Update::RemoveEndpoint(id)).unwrap();
        let delta = compiler.commit();
        let gone = DesiredState::new(compiler.snapshot(), &bindings);
        let update = lowering.update(gone, &delta).unwrap();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        assert_eq!(passes(&table, CLOSED, Protocol::TCP, 0), [false; 4]);
    }
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    let (compiler, id) = compiler();
    let refused = |bindings: &Bindings, options: Options| {
        let desired = DesiredState::new(compiler.snapshot(), bindings);
        Lowering::load(options, desired, &Existing::default()).map(drop).unwrap_err()
    };
    let any = || Binding::WorkloadAnyAddress { interface: interface(CLOSED) };
    let two = Bindings::from([(id.clone(), any()), (EndpointId::workload("shop", "db"), any())]);
    let error = refused(&two, Options::new());
    assert_eq!(error.to_string(), "shop/web: shop/db has any address at interface veth0, too");
    let mut both = Bindings::from([(id, binding())]);
    both.close(interface(CLOSED));
    assert!(matches!(refused(&both, Options::new()).kind(), LowerErrorKind::Bindings(_)));
    for name in ["", "7up", "a b", "x; flush ruleset", &"x".repeat(200)] {
        let options = Options::from(DataplaneOptions::new().with_name(name));
        let error = refused(&Bindings::new(), options).to_string();
        assert!(error.contains("is no name for a table"), "{error}");
    }
}
