//! Tables of flows: copied when their size changes, and cut when policy tightens.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use portcullis::backend::{Dataplane as _, DataplaneOptions, LoggedEvents};
use portcullis::ebpf::{Capacity, Options};

use crate::ebpf::{BACKENDS, bind, kube_proxy, on_a_node_with_bpf, options, remove, start_enforcer};
use crate::node::{Pod, carries, connect, tcp};
use crate::traffic::datagrams;
use crate::{PODS, SHUT, compiled};

/// The names of all tables of flows that are pinned.
fn tables(pins: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pins).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("flows_")).collect();
    names.sort();
    names
}

fn sized(flows: u32) -> Options {
    let capacity = Capacity { flows_v4: flows, flows_v6: flows / 2, ..*options().capacity() };
    options()
        .with_capacity(capacity)
        .with_dataplane(DataplaneOptions::new().with_events(LoggedEvents::Denied))
}

/// Policy denies everything that is not established; a transfer and idle flows go on while tables grow and shrink.
#[test]
fn flows_outlive_a_change_of_the_size_of_their_table() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (open, ids) = compiled(PODS, pods);
        let (shut, _) = compiled(&format!("{PODS}{SHUT}"), pods);
        let bindings = bind(pods, &ids);
        drop(start_enforcer(sized(4_096), pins, open.snapshot(), &bindings).unwrap());
        let to = pods[1].addresses;
        let mut idle = pods[0].run(move || to.map(|to| connect(to, 8080))).recv().unwrap();
        assert!(idle.iter_mut().all(carries));
        let mut flow = pods[0].run(move || connect(to[0], 80)).recv().unwrap();
        assert!(carries(&mut flow));
        let mut enforcer = start_enforcer(sized(4_096), pins, shut.snapshot(), &bindings).unwrap();
        let (stop, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let going = || {
            let stop = Arc::clone(&stop);
            move || !stop.load(Ordering::Relaxed)
        };
        let (transferring, count) = (going(), Arc::clone(&moved));
        let transfer = pods[0].beside(move || {
            while transferring() && carries(&mut flow) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            carries(&mut flow)
        });
        let sizes = [65_536, 1_024, 131_072, 2_048, 16_384];
        let mut resize = |size| {
            let next = start_enforcer(sized(size), pins, shut.snapshot(), &bindings).unwrap();
            // What it dropped until the next took over, and a little of what came after.
            let events: Vec<_> = std::iter::from_fn(|| enforcer.next_event().unwrap()).collect();
            enforcer = next;
            assert_eq!(tables(pins), [format!("flows_v4-1-{size}"), format!("flows_v6-1-{}", size / 2)]);
            events
        };
        for size in sizes.into_iter().cycle().take(15) {
            assert_eq!(resize(size), [], "something of an established flow was dropped");
        }
        let sending = going();
        let flood = pods[0].beside(move || datagrams(to[0], sending));
        let mut denied = 0;
        for size in sizes {
            let events = resize(size);
            assert!(events.iter().all(|event| event.packet.destination_port == 8080), "{events:?}");
            denied += events.len();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(transfer.recv().unwrap(), "the transfer broke off");
        let (tried, answered) = flood.recv().unwrap();
        assert!(idle.iter_mut().all(carries), "an idle flow was lost");
        assert!(!pods[0].run(move || tcp(to[0], 80)).recv().unwrap());
        let moved = moved.load(Ordering::Relaxed);
        eprintln!(
            "20 sizes: {moved} round trips, {tried} forbidden datagrams, {answered} answered, {denied} events"
        );
        assert!(moved > 1_000 && tried > 1_000 && denied > 0);
        assert_eq!(answered, 0);
        // A process that was killed before it removed the earlier tables: they are read again, and go.
        drop(enforcer);
        let enforcer = start_enforcer(sized(4_096), pins, shut.snapshot(), &bindings).unwrap();
        assert!(idle.iter_mut().all(carries));
        remove(enforcer);
    });
}

/// The flows that the old policy allows and the new one denies stop, whoever sends; others go on.
#[test]
fn flows_that_policy_denies_now_are_cut() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (open, ids) = compiled(PODS, pods);
        let (shut, _) = compiled(&format!("{PODS}{SHUT}"), pods);
        let bindings = bind(pods, &ids);
        drop(start_enforcer(options(), pins, open.snapshot(), &bindings).unwrap());
        let (client, server) = (&pods[0], &pods[1]);
        let to = server.addresses;
        let back = client.addresses;
        let mut cut = client.run(move || to.map(|to| connect(to, 80))).recv().unwrap();
        let mut kept = server.run(move || back.map(|back| connect(back, 8080))).recv().unwrap();
        let datagrams = client.run(move || associate(to[0])).recv().unwrap();
        let mut download = download(client, server);
        let mut enforcer = start_enforcer(options(), pins, shut.snapshot(), &bindings).unwrap();
        assert!(cut.iter_mut().chain(&mut kept).all(carries) && is_answered(&datagrams));
        assert!(flows_on(&mut download));
        // Nothing to do where nothing tightened.
        assert_eq!(enforcer.cut_tightened(shut.snapshot(), shut.snapshot()).unwrap(), 0);
        assert_eq!(enforcer.cut_tightened(shut.snapshot(), open.snapshot()).unwrap(), 0);
        assert!(cut.iter_mut().chain(&mut kept).all(carries) && is_answered(&datagrams));
        // At the server: two connections, the datagrams, the download. The sender's side is allowed as before.
        assert_eq!(enforcer.cut_tightened(open.snapshot(), shut.snapshot()).unwrap(), 4);
        assert!(cut.iter_mut().all(|flow| !carries(flow)) && !is_answered(&datagrams));
        assert!(kept.iter_mut().all(carries));
        assert!(!flows_on(&mut download), "the server's own packets brought the flow back");
        assert_eq!(enforcer.cut_tightened(open.snapshot(), shut.snapshot()).unwrap(), 0);
        // What the server sends is allowed, and does not bring back what it answers to.
        assert!(cut.iter_mut().all(|flow| !carries(flow)));
        // Over a restart, with tables of another size.
        drop(enforcer);
        let enforcer = start_enforcer(sized(2_048), pins, shut.snapshot(), &bindings).unwrap();
        assert!(cut.iter_mut().all(|flow| !carries(flow)) && kept.iter_mut().all(carries));
        drop(enforcer);
        let enforcer = start_enforcer(options(), pins, open.snapshot(), &bindings).unwrap();
        assert!(client.run(move || tcp(to[0], 80)).recv().unwrap());
        remove(enforcer);
    });
}

/// A UDP socket whose peer has answered once.
fn associate(to: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).unwrap();
    socket.connect((to, 80)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    assert!(is_answered(&socket));
    socket
}

fn is_answered(socket: &UdpSocket) -> bool {
    socket.send(b"hello").is_ok() && socket.recv(&mut [0; 16]).is_ok()
}

/// A connection on which the server sends and sends.
fn download(client: &Pod, server: &Pod) -> TcpStream {
    let to = server.addresses[0];
    let serve = move || {
        let listener = TcpListener::bind((to, 9_000)).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[0; 1_400]).is_ok() {
                std::thread::sleep(Duration::from_micros(200));
            }
        });
    };
    server.run(serve).recv().unwrap();
    client.run(move || connect(to, 9_000)).recv().unwrap()
}

/// Whether more comes than can have been on its way: the window fills when nothing is acknowledged.
fn flows_on(download: &mut TcpStream) -> bool {
    let mut buffer = vec![0; 1 << 16];
    let deadline = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < deadline {
        if !download.read(&mut buffer).is_ok_and(|count| count > 0) {
            return false;
        }
    }
    true
}

/// What the client's policy in [`BACKENDS`] allows.
const EGRESS: &str = "egress: [{to: [{podSelector: {matchLabels: {app: server}}}], ports: [{port: 80}]}]";

/// Through a service and source NAT: the sender's policy is asked about the backend; the receiver's cannot be asked.
#[test]
fn flows_through_services_are_cut_at_the_sender() {
    on_a_node_with_bpf(3, |pods, pins| {
        let (open, ids) = compiled(BACKENDS, pods);
        let (shut, _) = compiled(&BACKENDS.replace(EGRESS, "egress: []"), pods);
        let bindings = bind(pods, &ids);
        kube_proxy();
        let options = || {
            options().with_dataplane(DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap()))
        };
        let mut enforcer = start_enforcer(options(), pins, open.snapshot(), &bindings).unwrap();
        let service: IpAddr = [10, 96, 0, 10].into();
        let mut flow = pods[0].run(move || connect(service, 8888)).recv().unwrap();
        let vault = pods[2].addresses[0];
        let mut other = pods[1].run(move || connect(vault, 8080)).recv().unwrap();
        assert!(carries(&mut flow) && carries(&mut other));
        drop(enforcer);
        enforcer = start_enforcer(options(), pins, shut.snapshot(), &bindings).unwrap();
        assert!(carries(&mut flow) && carries(&mut other));
        assert_eq!(enforcer.cut_tightened(open.snapshot(), shut.snapshot()).unwrap(), 1);
        assert!(!carries(&mut flow) && carries(&mut other));
        remove(enforcer);
    });
}

#[test]
fn the_bytes_of_maps_are_those_that_the_kernel_accounts() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (engine, ids) = compiled(PODS, pods);
        let bindings = bind(pods, &ids);
        let large = Options::new();
        let enforcer = start_enforcer(large, pins, engine.snapshot(), &bindings).unwrap();
        let bytes = enforcer.memory().unwrap();
        let capacity = Capacity::default();
        let total: u64 = bytes.values().sum();
        eprintln!("default capacity: {total} bytes of maps: {bytes:?}");
        for (map, entries) in [
            ("endpoints", capacity.endpoints),
            ("addresses_v4", capacity.addresses_v4),
            ("addresses_v6", capacity.addresses_v6),
            ("flows_v4", capacity.flows_v4),
            ("flows_v6", capacity.flows_v6),
        ] {
            eprintln!("{map}: {} bytes an entry", bytes[map] / u64::from(entries));
        }
        // Before Linux 6.4 the kernel tells an estimate, without its own share of each entry.
        let pages = u64::from(capacity.pages) * 1_024;
        assert!((pages..pages + 128 * 1_024).contains(&bytes["pages"]), "{bytes:?}");
        assert!((60 << 20..130 << 20).contains(&total), "{total}");
        remove(enforcer);
        let small = start_enforcer(options(), pins, engine.snapshot(), &bindings).unwrap();
        assert!(small.memory().unwrap()["addresses_v4"] < bytes["addresses_v4"] / 10);
        remove(small);
    });
}
