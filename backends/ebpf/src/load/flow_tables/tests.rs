use portcullis_core::packet::Icmp;
use portcullis_testkit::kernel_can_be_asked;

use super::*;
use crate::load::object::{self, Behaviour};
use crate::options::{Capacity, Options};

fn state(seen: u64, flags: u32) -> State {
    let [a, b, c, d, e, f, g, h] = seen.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), flags, 0, 7, 0]
}

#[test]
fn flags_are_those_of_the_kernel_program() {
    let header = include_str!("../../../bpf/flows.h");
    let ours = [
        ("SENT_LOCAL", SENT & 1),
        ("SENT_REMOTE", SENT & 2),
        ("BEGAN_LOCAL", BEGAN_LOCAL),
        ("MIDWAY", MIDWAY),
        ("DEFERRED", DEFERRED),
    ];
    for (name, value) in ours {
        assert!(header.contains(&format!("#define {name} {value}\n")), "{name}");
    }
}

#[test]
fn a_flow_is_asked_about_as_it_began() {
    let key = |ports, protocol| {
        [u32::from_ne_bytes([10, 0, 0, 1]), u32::from_ne_bytes([10, 0, 0, 2]), ports, 7, protocol]
    };
    let [one, two]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
    let began = key(40_000 << 16 | 80, 6).flow(state(1, BEGAN_LOCAL | SENT));
    let packet = Packet::new(one, two, Protocol::TCP).from_port(40_000).to_port(80);
    assert_eq!(began, Flow { interface: 7, began_local: true, packet, is_known: true });
    let came = key(80 << 16 | 40_000, 17).flow(state(1, SENT));
    let packet = Packet::new(two, one, Protocol::UDP).from_port(40_000).to_port(80);
    assert_eq!(came, Flow { interface: 7, began_local: false, packet, is_known: true });
    // Either end may have begun what was not seen to begin.
    let ways: Vec<bool> =
        key(80 << 16 | 40_000, 6).ways(state(1, SENT | MIDWAY)).map(|flow| flow.began_local).collect();
    assert_eq!(ways, [false, true]);
    assert_eq!(key(80 << 16 | 40_000, 6).ways(state(1, SENT)).count(), 1);
    assert!(!key(80 << 16 | 40_000, 6).flow(state(1, SENT | DEFERRED)).is_known);
    // A ping from here, one from there, and an answer that no question came before.
    for (ports, flags, kind) in
        [(8 << 8 | 1, BEGAN_LOCAL, 8), (8 << 8 | 2, 0, 8), (8 << 8 | 2, BEGAN_LOCAL, 0)]
    {
        let flow = key(5 << 16 | ports, 1).flow(state(1, flags));
        assert_eq!((flow.packet.icmp, flow.is_known), (Some(Icmp { kind, code: 0 }), true));
    }
    assert!(!key(0, 58).flow(state(1, 0)).is_known);
}

#[test]
fn the_newer_of_two_entries_counts_and_nobody_who_sent_is_forgotten() {
    let (old, new) = (state(5, 1 | 4), state(9, 2));
    assert_eq!(merged(new, old), state(9, 3));
    assert_eq!(merged(old, new), state(9, 7));
    assert_eq!(merged(state(9, 1), state(9, 1 | 2 | MIDWAY)), state(9, 3 | MIDWAY));
}

/// Tables that are loaded, without a program.
fn tables() -> Option<FlowTables> {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return None;
    }
    let options = Options::new().with_capacity(Capacity::SMALL);
    let mut ebpf =
        object::load(object::OBJECT, &options, Behaviour { track: 1, ..Behaviour::PLAIN }, &[]).unwrap();
    Some(FlowTables::open(&mut ebpf).unwrap())
}

#[test]
fn where_not_all_flows_fit_the_newest_are_kept() {
    let Some(mut tables) = tables() else { return };
    // In no order, and three times as many as fit.
    let number = |n: u32| n.wrapping_mul(1_000_003) % 3_072;
    let entry = |n: u32| ([0, 0, n, 1, 6], state(n.into(), 1));
    put(&mut tables.v4, (0..3_072).map(|n| entry(number(n))).collect()).unwrap();
    let kept = |tables: &FlowTables| -> BTreeSet<u32> {
        read(&tables.v4).unwrap().into_keys().map(|[_, _, ports, _, _]| ports).collect()
    };
    assert_eq!(kept(&tables), (3_072 - 896..3_072).collect());
    // Again, into the full table, with some more: it keeps those that were there already as well as those that were not.
    put(&mut tables.v4, (2_000..3_500).map(entry).collect()).unwrap();
    assert_eq!(kept(&tables), (3_500 - 896..3_500).collect());
}

/// A process was killed after it had filled a table. The next one finds it so, and a live one that went on.
#[test]
fn a_full_table_from_a_broken_start_keeps_the_newest_too() {
    let Some(mut tables) = tables() else { return };
    let entry = |n: u32, seen: u32| ([0, 0, n, 1, 6], state(seen.into(), 1));
    let broken = (0..1_000).map(|n| entry(n, n));
    put(&mut tables.v4, broken.collect()).unwrap();
    // Flow 300 is seen now and then, the others never again, and 400 new ones came.
    let live = (0..1_000).map(|n| entry(n, if n == 300 { 1_001 } else { n }));
    put(&mut tables.v4, live.chain((1_000..1_400).map(|n| entry(n, n + 2))).collect()).unwrap();
    let kept = read(&tables.v4).unwrap();
    assert_eq!(kept.len(), 896);
    assert_eq!(kept.get(&[0, 0, 300, 1, 6]), Some(&state(1_001, 1)));
    assert!((505..1_400).all(|n| kept.contains_key(&[0, 0, n, 1, 6])));
}

/// The second copy adds to the first, and takes nothing back of what the new programs noted.
#[test]
fn a_second_copy_adds_what_happened_in_between() {
    let Some(mut tables) = tables() else { return };
    let key = |ports| [1, 2, ports, 3, 6];
    let first = vec![(key(1), state(10, 1)), (key(2), state(10, 1))];
    put(&mut tables.v4, first).unwrap();
    tables.v4.insert(key(2), state(30, 1 | 2), 0).unwrap();
    let second = vec![(key(1), state(20, 1 | 2)), (key(2), state(20, 1 | 4)), (key(3), state(20, 2))];
    put(&mut tables.v4, second).unwrap();
    let found: Vec<_> = read(&tables.v4).unwrap().into_iter().collect();
    assert_eq!(found, [(key(1), state(20, 3)), (key(2), state(30, 3)), (key(3), state(20, 2))]);
}

/// In the first layout a flag told the flows that had been ended, and nothing told who pays.
#[test]
fn entries_of_the_first_layout_are_converted() {
    let Some(mut tables) = tables() else { return };
    let mut earlier: HashMap<_, KeyV4, FirstState> = HashMap::create(16, 0).unwrap();
    let first = |seen: u64, flags| -> FirstState {
        let [a, b, ..] = state(seen, 0);
        [a, b, flags, 9]
    };
    earlier.insert([1, 2, 1, 3, 6], first(100, SENT), 0).unwrap();
    earlier.insert([1, 2, 2, 3, 6], first(200, SENT | BEGAN_LOCAL | FIRST_TERMINATED), 0).unwrap();
    let data = || MapData::from_id(earlier_id(&earlier)).unwrap();
    put(&mut tables.v4, earlier_flows(1, data()).unwrap()).unwrap();
    cut(&mut tables.cuts_v4, earlier_cuts(1, true, data()).unwrap()).unwrap();
    let found: Vec<_> = read(&tables.v4).unwrap().into_iter().collect();
    let [a, b, flags, ..] = state(100, SENT);
    assert_eq!(found, [([1, 2, 1, 3, 6], [a, b, flags, 9, 3, 0])]);
    let cuts: Vec<_> = read(&tables.cuts_v4).unwrap().into_iter().collect();
    let [a, b, ..] = state(200, 0);
    assert_eq!(cuts, [([1, 2, 2, 3, 6], [a, b, BEGAN_LOCAL, 0])]);
}

/// More than there is room for is an error, and the flows do not go on all the same.
#[test]
fn cuts_that_do_not_fit_are_told() {
    let Some(mut tables) = tables() else { return };
    let entry = |n: u32| ([0, 0, n, 1, 6], state(n.into(), 1));
    put(&mut tables.v4, (0..800).map(entry).collect()).unwrap();
    assert_eq!(tables.end(|_| true).unwrap(), 800);
    put(&mut tables.v4, (800..1_600).map(entry).collect()).unwrap();
    let error = tables.end(|_| true).unwrap_err().to_string();
    assert!(error.contains("holds 1024 flows that were ended"), "{error}");
    assert_eq!(tables.lengths().unwrap(), [0, 0]);
    // Time makes room.
    tables.forget_cuts(2_000, 1_500).unwrap();
    assert_eq!(read(&tables.cuts_v4).unwrap().len(), 300 + 800 - (800 - 224));
}

fn earlier_id(map: &HashMap<MapData, KeyV4, FirstState>) -> u32 {
    use aya::maps::IterableMap as _;
    map.map().info().unwrap().id()
}

#[test]
fn an_unknown_layout_is_not_read() {
    let at = |name: &str| Earlier::at(name, PathBuf::from(name)).map(|found| (found.is_v6, found.layout));
    assert_eq!(at("flows_v6-3-1024"), Some((true, 3)));
    assert_eq!([at("7-ingress"), at("flows_v5-1-2"), at("flows_v4")], [None; 3]);
    let Some(tables) = tables() else { return };
    use aya::maps::IterableMap as _;
    let data = MapData::from_id(tables.v4.map().info().unwrap().id()).unwrap();
    assert_eq!(earlier_flows::<KeyV4>(LAYOUT + 1, data).unwrap(), []);
}
