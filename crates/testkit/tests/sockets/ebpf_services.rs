//! The class that a packet carries past source NAT.

use portcullis::ebpf::{AttachMode, NodeBackends, Options, Reason};

use crate::backends::with_services;
use crate::compiled;
use crate::ebpf::{attached, on_a_site_with_bpf, remove, start_enforcer};
use crate::node::{Pod, ip};
use crate::services::{
    ADMIN, API, Flows, Masquerade, PODS, REMOTE, RULES, SERVER, STRANGER, VAULT, bound, kube_proxy, service,
};
use crate::wide::{Site, Tries, nft};

/// On a node that rewrites destinations; what guards its sockets sees those of this test only.
pub(crate) fn with_services_on(site: &Site) -> Options {
    let options = attached(AttachMode::Auto).with_dataplane(with_services());
    options.with_node_backends(NodeBackends::GuardedAt(site.group.folder.clone()))
}

/// Two enforcers, one of which is replaced while the other is not yet.
#[test]
fn classes_of_another_process_are_not_taken_for_our_own() {
    on_a_site_with_bpf(3, |site, pins| {
        nft(&kube_proxy(Masquerade::All));
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}"), &site.pods);
        let bindings = bound(site, &ids);
        std::fs::create_dir_all(pins).unwrap();
        let start = |name: &str| {
            start_enforcer(with_services_on(site), &pins.join(name), compiler.snapshot(), &bindings).unwrap()
        };
        let check = |when: &str, allowed: bool| {
            let mut tries = Tries::default();
            tries.add("client", &site.pods[0], service(SERVER), 8888, allowed);
            // Whose source can still be told.
            tries.add("client", &site.pods[0], service(API), 8888, true);
            tries.add("client", &site.pods[0], service(ADMIN), 8888, false);
            tries.check(when);
        };
        // Both see every packet, the second first; the mark is that of the other.
        let (one, two) = (start("one"), start("two"));
        check("at first", true);
        let mut flows = Flows::begin(&site.pods[0], service(SERVER)[0], 8888);
        drop(two);
        let two = start("two");
        check("between one and the other", false);
        flows.go_on("between one and the other");
        assert!(two.reasons().unwrap()[&Reason::Stale] > 0);
        drop(one);
        let one = start("one");
        check("in the end", true);
        flows.go_on("in the end");
        [one, two].into_iter().for_each(remove);
        std::fs::remove_dir(pins).unwrap();
    });
}

/// Who sent a packet cannot be told when it came in by an interface that nobody is bound to.
#[test]
fn packets_that_crossed_a_bridge_are_dropped() {
    on_a_site_with_bpf(3, |site, pins| {
        nft(&kube_proxy(Masquerade::Hairpin));
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}"), &site.pods);
        let bindings = bound(site, &ids);
        // The client's interface becomes a port, and the bridge does what the interface did.
        let Pod { interface, addresses: [v4, v6], .. } = &site.pods[0];
        ip(&format!(
            "link add br0 type bridge\nlink set br0 up\nlink set {interface} master br0\n\
             addr add 169.254.1.1/32 dev br0\naddr del fe80::1/64 dev {interface}\naddr add fe80::1/64 dev br0 nodad\n\
             route replace {v4}/32 dev br0\nroute replace {v6}/128 dev br0\n"
        ));
        site.pods[0].run(|| ip("-4 neigh flush dev eth0\n-6 neigh flush dev eth0\n")).recv().unwrap();
        let tries = |allowed: bool| {
            let mut tries = Tries::default();
            for last in [SERVER, VAULT, REMOTE, STRANGER] {
                tries.add("client", &site.pods[0], service(last), 8888, allowed);
            }
            tries
        };
        tries(true).check("without policy");
        let enforcer = start_enforcer(with_services_on(site), pins, compiler.snapshot(), &bindings).unwrap();
        tries(false).check("with policy");
        assert!(enforcer.reasons().unwrap()[&Reason::UnknownInterface] > 0);
        remove(enforcer);
    });
}
