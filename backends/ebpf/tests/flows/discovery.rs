//! Neighbour and listener discovery, and what only looks like it (decision D23).

use std::process::Command;

use super::{W6, X6, play, udp, with_node};
use crate::frames::{Body, Frame};
use crate::model::{IN, OUT, V, W};

/// Addresses that both workloads of the test have.
const OWN: &str = W6;

/// A message as it is sent: with the hop limit of its kind.
fn message(source: &str, destination: &str, kind: u8) -> Frame {
    let mut frame = Frame::new(source, destination, Body::Message(kind, 0, 0));
    // Who advertises names an address of its own.
    if kind == 136 {
        frame = frame.target(if source.starts_with("fe") { source } else { OWN });
    }
    frame.hops(if matches!(kind, 130..=132 | 143) { 1 } else { 255 })
}

#[test]
fn neighbours_and_listeners_of_the_link_are_exempt() {
    with_node(|mut node| {
        let mut frames = Vec::new();
        for kind in [133, 135, 136] {
            for source in [W6, "fe80::1", "febf::1", "::"] {
                for destination in ["ff02::1", "ff02::1:ff00:1", "ff02::2", "fe80::2", "febf::2"] {
                    frames.push((OUT, message(source, destination, kind).data(8), true));
                }
            }
            for destination in ["ff02::1:ff00:9", "fe80::9", W6] {
                frames.push((IN, message(X6, destination, kind).data(8), true));
                frames.push((IN, message("fe80::2", destination, kind), true));
            }
        }
        for kind in [130, 131, 132, 143] {
            for (source, destination) in [("fe80::1", "ff02::16"), ("::", "ff02::1"), ("fe80::1", "ff02::2")]
            {
                // With the router alert, which is a hop-by-hop header.
                let mut report = message(source, destination, kind).data(192);
                report.extensions = vec![0];
                frames.extend([(OUT, report.clone(), true), (IN, report, true)]);
            }
        }
        play(&mut node, &frames);
    });
}

/// Policy allows W no ICMPv6 but echo, and nobody else's address is its own.
#[test]
fn what_only_looks_like_discovery_is_not() {
    with_node(|mut node| {
        let mut frames = Vec::new();
        for kind in [130, 131, 132, 133, 135, 136, 143] {
            let is_listener = matches!(kind, 130..=132 | 143);
            let plain = message("fe80::1", "ff02::1", kind);
            let mut cut = plain.clone();
            cut.body = Body::Message(kind, 1, 0);
            let mut long = plain.clone().data(24);
            long.extensions = vec![60; 8];
            for frame in [
                plain.clone().hops(64),
                plain.clone().hops(254),
                plain.clone().hops(if is_listener { 255 } else { 1 }),
                plain.clone().hops(0),
                plain.clone().data(600),
                plain.clone().data(if is_listener {
                    209
                } else if kind == 136 {
                    65
                } else {
                    81
                }),
                plain.clone().part(3, 0, true),
                plain.clone().part(4, 100, false),
                cut,
                // Where the message goes.
                message("fe80::1", X6, kind),
                message(W6, X6, kind),
                message(W6, "fd00::77", kind),
                message("fe80::1", "ff01::1", kind),
                message("fe80::1", "ff05::1", kind),
                message("fe80::1", "ff0e::1", kind),
                message("fe80::1", "fec0::1", kind),
                message("fe80::1", "::", kind),
                // Whose address it has.
                message(X6, "ff02::1", kind),
                message("fd00::77", "ff02::1", kind),
                message("2001:db8::1", "fe80::2", kind),
                message("fec0::1", "ff02::1", kind),
                message("ff02::1", "ff02::1", kind),
                message("::1", "ff02::1", kind),
                message("::ffff:10.0.0.9", "ff02::1", kind),
                Frame::new("10.0.0.9", "10.0.0.1", Body::Other(58)),
                Frame::new("10.0.0.9", "224.0.0.1", Body::Other(58)),
            ] {
                frames.push((OUT, frame, false));
            }
            if is_listener {
                frames.push((OUT, message(W6, "ff02::16", kind), false));
                frames.push((IN, message(X6, "ff02::1", kind), false));
                frames.push((IN, message("fe80::1", W6, kind), false));
            } else {
                frames.push((OUT, long, false));
            }
            frames.push((IN, message("fe80::1", "fd00::77", kind), false));
            frames.push((IN, plain.clone().hops(64), false));
            frames.push((IN, plain.data(600), false));
            frames.push((IN, message(X6, W6, kind).hops(254), false));
        }
        // What routers say, and everything else.
        for kind in [128, 129, 134, 137, 138, 139, 141, 144, 151, 255] {
            for hops in [1, 255] {
                frames.push((OUT, message("fe80::1", "ff02::1", kind).hops(hops), false));
                frames.push((IN, message("fe80::1", "ff02::1", kind).hops(hops), false));
            }
        }
        let mut udp = udp("fe80::1", "ff02::1", 135 << 8, 135 << 8);
        udp.hops = 255;
        frames.push((OUT, udp, false));
        play(&mut node, &frames);
        // As IPv4, whatever its first byte is.
        for kind in [130, 133, 135, 136, 143] {
            let mut bytes = Frame::new("10.0.0.9", "10.0.0.1", Body::Other(58)).bytes();
            (bytes[14 + 8], bytes[14 + 20], bytes[14 + 21]) = (255, kind, 0);
            assert!(!node.sandbox.from_workload(W, &bytes).unwrap(), "{kind}");
        }
        // A packet that says that it is short, in front of something longer.
        let mut bytes = message("fe80::1", "ff02::1", 135).bytes();
        assert!(node.sandbox.from_workload(W, &bytes).unwrap());
        bytes.extend([7; 600]);
        assert!(!node.sandbox.from_workload(W, &bytes).unwrap());
    });
}

/// An address of the node counts, and one behind the same interface of the node; nothing that the node would forward.
#[test]
fn the_routes_of_the_node_say_what_is_forwarded() {
    with_node(|mut node| {
        let run = |line: &str| {
            let done = Command::new("sh").args(["-c", line]).status().unwrap();
            assert!(done.success(), "{line}");
        };
        run("ip link set lo up && ip link set v up && ip link set u up");
        run("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        run("ip -6 addr add 2001:db8::1/128 dev lo");
        run(
            "ip link add bridge0 type bridge && ip link set bridge0 up && ip -6 addr add fd77::1/64 dev bridge0 nodad",
        );
        run("ip -6 route add fd00::8/128 dev v");
        run(
            "ip -6 route add 2001:db8:2::/64 dev bridge0 && ip -6 route add 2001:db8:3::/64 via fd77::9 dev bridge0",
        );
        let mut out = |source: &str, destination: &str, kind: u8| {
            node.sandbox.from_workload(V, &message(source, destination, kind).bytes()).unwrap()
        };
        let own = "fd00::8";
        for kind in [133, 135, 136] {
            // Addresses of the node, at this interface or another.
            assert!(
                out(own, "2001:db8::1", kind) && out(own, "fd77::1", kind) && out("fe80::8", "fd77::1", kind)
            );
            // Others, which the node would forward: on a link of its own, and behind a router.
            assert!(
                !out(own, "2001:db8:2::7", kind)
                    && !out(own, "2001:db8:3::7", kind)
                    && !out(own, "fd77::5", kind)
            );
            assert!(!out("fd00::77", "2001:db8::1", kind), "another's source");
        }
        assert!(!out("fe80::8", "2001:db8::1", 131), "about listeners");
        // The workload's interface is a port of the bridge now, where neighbours have each other's addresses.
        run("ip -6 route replace fd00::8/128 dev bridge0");
        let mut out = |source: &str, destination: &str, kind: u8| {
            node.sandbox.from_workload(V, &message(source, destination, kind).bytes()).unwrap()
        };
        assert!(out(own, "fd77::5", 136) && out(own, "2001:db8:2::7", 135));
        assert!(!out(own, "2001:db8:3::7", 136), "behind a router");
        assert!(!out("fd00::77", "fd77::5", 136), "another's source");
    });
}
