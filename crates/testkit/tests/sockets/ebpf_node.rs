//! What guards sockets of the node, where services lead to its processes.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis::backend::{Dataplane as _, DesiredState};
use portcullis::ebpf::NodeBackends;

use crate::compiled;
use crate::ebpf::{on_a_site_with_bpf, options, remove, start_enforcer};
use crate::ebpf_services::with_services_on;
use crate::node::{Pod, patience, tcp, udp};
use crate::services::{ADMIN, API, Flows, Masquerade, PODS, RULES, bound, kube_proxy, service};
use crate::wide::{NODE, Site, Tries, nft};

/// What the client and the vault, which has no policy, reach of the node through services.
fn through_services(site: &Site, admin: bool) -> Tries<'_> {
    let mut tries = Tries::default();
    let [client, vault] = [&site.pods[0], &site.pods[2]];
    tries.add("client", client, service(API), 8888, true);
    tries.add("client", client, service(ADMIN), 8888, admin);
    tries.add("vault", vault, service(ADMIN), 8888, true);
    tries
}

#[test]
fn what_guards_sockets_is_replaced_and_removed() {
    on_a_site_with_bpf(3, |site, pins| {
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}"), &site.pods);
        nft(&kube_proxy(Masquerade::All));
        let bindings = bound(site, &ids);
        let start = |options| start_enforcer(options, pins, compiler.snapshot(), &bindings);
        let pinned = || {
            let names = std::fs::read_dir(pins).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("to_node")).count()
        };
        // Without the guard there is nobody to ask: the test of the test.
        let unguarded = with_services_on(site).with_node_backends(NodeBackends::Unguarded);
        drop(start(unguarded.clone()).unwrap());
        through_services(site, true).check("unguarded");
        assert_eq!(pinned(), 0);
        drop(start(with_services_on(site)).unwrap());
        through_services(site, false).check("guarded, by a process that ended");
        assert_eq!(pinned(), 1);
        // Its place is never empty, while one process after the other takes over.
        let (stop, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut flows: Vec<Flows> =
            service(API).into_iter().map(|to| Flows::begin(&site.pods[0], to, 8888)).collect();
        let tried: Vec<_> = service(ADMIN)
            .into_iter()
            .flat_map(|to| [(to, tcp as fn(IpAddr, u16) -> bool), (to, udp)])
            .map(|(to, probe)| {
                let (stop, wrong) = (Arc::clone(&stop), Arc::clone(&wrong));
                site.pods[0].beside(move || {
                    let mut tried = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        wrong.fetch_add(u64::from(probe(to, 8888)), Ordering::Relaxed);
                        tried += 1;
                    }
                    tried
                })
            })
            .collect();
        for _ in 0..20 {
            drop(start(with_services_on(site)).unwrap());
            assert_eq!(pinned(), 1);
            flows.iter_mut().for_each(|flow| flow.go_on("while the guard is replaced"));
        }
        stop.store(true, Ordering::Relaxed);
        let tried: u64 = tried.into_iter().map(|tried| tried.recv().unwrap()).sum();
        let wrong = wrong.load(Ordering::Relaxed);
        eprintln!(
            "20 replacements: {tried} forbidden connections through a service to the node, {wrong} came about"
        );
        assert!(tried > 20 && wrong == 0);
        // Options that need no guard take it away again, and so does the end.
        drop(start(unguarded).unwrap());
        assert_eq!(pinned(), 0);
        through_services(site, true).check("unguarded again");
        let enforcer = start(with_services_on(site)).unwrap();
        remove(enforcer);
        assert!(!pins.exists());
        through_services(site, true).check("without the program");
    });
}

#[test]
fn the_guard_is_at_the_root_of_all_control_groups_unless_told_otherwise() {
    on_a_site_with_bpf(3, |site, pins| {
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}"), &site.pods);
        nft(&kube_proxy(Masquerade::All));
        let bindings = bound(site, &ids);
        let start = |backends| {
            // A bit that no other test uses, because packets of other tests' nodes pass the root as well.
            let capacity = portcullis::ebpf::Capacity { classes: 1_024, ..*options().capacity() };
            let options = with_services_on(site).with_mark(0x20).with_capacity(capacity);
            start_enforcer(options.with_node_backends(backends), pins, compiler.snapshot(), &bindings)
        };
        let enforcer = start(NodeBackends::Guarded).unwrap();
        through_services(site, false).check("guarded at the root");
        remove(enforcer);
        let failed = |backends| start(backends).map(drop).unwrap_err().to_string();
        let elsewhere = failed(NodeBackends::GuardedAt("/proc".into()));
        assert_eq!(elsewhere, "`/proc` is not in a cgroup2 hierarchy");
        // This thread has a table of mounts for itself.
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let folders = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let folders: Vec<_> = folders.filter_map(|line| line.split(' ').nth(1)).collect();
        folders.iter().for_each(|folder| nix::mount::umount(*folder).unwrap());
        let none = failed(NodeBackends::Guarded);
        assert!(none.starts_with("no cgroup2 hierarchy is mounted, so services"), "{none}");
        nix::mount::mount(
            Some("groups"),
            folders[folders.len() - 1],
            Some("cgroup2"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
    });
}

/// Whether a datagram from a pod to the service reaches this socket of the node.
fn reaches(from: &Pod, to: IpAddr, socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(patience())).unwrap();
    (0..2).any(|_| {
        let _ = from.run(move || udp(to, 8888)).recv().unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    })
}

/// The link stays pinned when its control group is removed. Another group of the same name has no guard until somebody looks.
#[test]
fn a_guard_that_is_detached_while_it_stays_pinned_is_noticed_and_put_back() {
    on_a_site_with_bpf(3, |site, pins| {
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}"), &site.pods);
        let [node, _] = NODE;
        nft(&format!(
            "table ip extra {{ chain before {{ type nat hook prerouting priority -100; \
             ip daddr 10.96.0.77 udp dport 8888 dnat to {node}:8081\n }}\n}}\n"
        ));
        let bindings = bound(site, &ids);
        let (outer, inner) = (site.group.folder.clone(), site.group.folder.join("inner"));
        let thread = nix::unistd::gettid().to_string();
        let remake = || {
            std::fs::create_dir(&inner).unwrap();
            std::fs::write(inner.join("cgroup.type"), "threaded").unwrap();
        };
        // A socket is of the group that its thread is in when it opens it.
        let open = || {
            std::fs::write(inner.join("cgroup.threads"), &thread).unwrap();
            let socket = UdpSocket::bind((node, 8081)).unwrap();
            std::fs::write(outer.join("cgroup.threads"), &thread).unwrap();
            socket
        };
        remake();
        let options = with_services_on(site).with_node_backends(NodeBackends::GuardedAt(inner.clone()));
        let mut enforcer = start_enforcer(options, pins, compiler.snapshot(), &bindings).unwrap();
        let mut maintain = || {
            let health = enforcer.maintain(DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
            health.repaired
        };
        let (client, vault, to) = (&site.pods[0], &site.pods[2], "10.96.0.77".parse().unwrap());
        let socket = open();
        assert!(!reaches(client, to, &socket) && reaches(vault, to, &socket));
        assert_eq!(maintain(), [""; 0]);
        drop(socket);
        std::fs::remove_dir(&inner).unwrap();
        remake();
        let socket = open();
        assert!(reaches(client, to, &socket), "nothing guards the new group");
        assert_eq!(maintain(), ["socket guard"]);
        assert!(!reaches(client, to, &socket) && reaches(vault, to, &socket));
        assert_eq!(maintain(), [""; 0]);
        drop(socket);
        remove(enforcer);
        std::fs::remove_dir(&inner).unwrap();
    });
}
