//! The programs of workloads with a table of flows, frame by frame, against a model of what may pass. As root only.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "test helpers stop at the first surprise"
)]

mod attack;
mod frames;
mod model;
mod reuse;

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use portcullis_testkit::kernel_can_be_asked;

use frames::{ACK, Body, FIN, Frame, RST, SCTP, SYN, TCP, UDP};
use model::{IN, Node, OUT, V, W, Way};

const W4: &str = "10.0.0.9";
const X4: &str = "10.0.0.1";
const Y4: &str = "10.0.0.2";
const W6: &str = "fd00::9";
const X6: &str = "fd00::1";
const Y6: &str = "fd00::2";

/// Runs a test in a network namespace that has both interfaces.
pub(crate) fn with_node(test: impl FnOnce(Node) + Send + 'static) {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let index = V.to_string();
        let arguments = ["link", "add", "v", "index", &index, "type", "veth", "peer", "name", "u"];
        let made = Command::new("ip").args(arguments).status();
        assert!(made.unwrap().success());
        test(Node::new());
    };
    std::thread::spawn(run).join().unwrap_or_else(|error| std::panic::resume_unwind(error));
}

/// Sends frames one after the other; each passes or not, as it says here and as the model says.
fn play(node: &mut Node, frames: &[(Way, Frame, bool)]) {
    for (number, (way, frame, wanted)) in frames.iter().enumerate() {
        let [passed, model] = node.pass(W, *way, frame);
        assert_eq!([passed, model], [*wanted; 2], "number {number}: {way:?} {frame:?}");
    }
}

fn tcp(source: &str, destination: &str, from: u16, to: u16, flags: u8) -> Frame {
    Frame::new(source, destination, Body::Ports(TCP, from, to, flags))
}

fn udp(source: &str, destination: &str, from: u16, to: u16) -> Frame {
    Frame::new(source, destination, Body::Ports(UDP, from, to, 0))
}

#[test]
fn answers_pass_in_both_directions_and_a_new_syn_is_asked_about() {
    with_node(|mut node| {
        for (w, x) in [(W4, X4), (W6, X6)] {
            let out = tcp(w, x, 5_000, 80, SYN);
            // To a port that nothing allows, so that only the flow lets it pass.
            let back = out.back();
            play(
                &mut node,
                &[
                    (IN, back.flags(SYN | ACK), false),
                    (OUT, out.clone(), true),
                    (IN, back.flags(SYN | ACK), true),
                    (OUT, out.flags(ACK), true),
                    (IN, back.flags(FIN | ACK), true),
                    (IN, back.flags(RST), true),
                    // The same ports, but a connection of the other end.
                    (IN, back.flags(SYN), false),
                    (IN, back.flags(SYN | FIN), false),
                    (IN, tcp(x, w, 80, 5_001, ACK), false),
                    (IN, tcp(x, w, 81, 5_000, ACK), false),
                    (IN, udp(x, w, 80, 5_000), false),
                    (OUT, tcp(w, x, 5_000, 81, ACK), false),
                ],
            );
            let into = tcp(x, w, 6_000, 80, SYN);
            play(
                &mut node,
                &[
                    (OUT, into.back().flags(ACK), false),
                    (IN, into.clone(), true),
                    (OUT, into.back().flags(SYN | ACK), true),
                    (OUT, into.back().flags(SYN), false),
                    (IN, into.flags(ACK), true),
                ],
            );
        }
    });
}

#[test]
fn datagrams_sctp_and_pings_have_flows_and_who_asks_is_part_of_it() {
    with_node(|mut node| {
        let ask = udp(W4, X4, 5_000, 53);
        let init = Frame::new(W6, X6, Body::Ports(SCTP, 5_000, 80, 1));
        let data = |frame: &Frame| frame.flags(0);
        let ping = Frame::new(W4, X4, Body::Message(8, 0, 7));
        let pong = |id| Frame::new(X4, W4, Body::Message(0, 0, id));
        play(
            &mut node,
            &[
                (IN, ask.back(), false),
                (OUT, ask.clone(), true),
                (IN, ask.back(), true),
                (IN, udp(Y4, W4, 53, 5_000), false),
                (IN, data(&init).back(), false),
                (OUT, init.clone(), true),
                (IN, data(&init).back(), true),
                (IN, init.back(), false),
                (IN, pong(7), false),
                (OUT, ping, true),
                (IN, pong(7), true),
                (IN, pong(8), false),
                // The other end asks: that is another flow, and the answer of `y` to nobody's question is none.
                (OUT, Frame::new(W4, Y4, Body::Message(0, 0, 7)), false),
                (OUT, Frame::new(W4, X4, Body::Message(0, 0, 7)), false),
                (IN, Frame::new(X4, W4, Body::Message(8, 0, 7)), true),
                (OUT, Frame::new(W4, X4, Body::Message(0, 0, 7)), true),
            ],
        );
    });
}

#[test]
fn errors_pass_when_they_are_about_a_flow_and_go_to_its_end() {
    with_node(|mut node| {
        for (w, x, y, kind) in [(W4, X4, Y4, 3), (W6, X6, Y6, 1)] {
            let sent = tcp(w, x, 5_000, 80, SYN);
            let stray = |about: &Frame, destination: &str| {
                let mut error = about.error(kind);
                error.source = y.parse().unwrap();
                error.destination = destination.parse().unwrap();
                error
            };
            play(
                &mut node,
                &[
                    (IN, sent.error(kind), false),
                    (OUT, sent.clone(), true),
                    (IN, sent.error(kind), true),
                    // Routers on the way may send it, but only to who sent the packet.
                    (IN, stray(&sent, w), true),
                    (IN, stray(&sent.back(), w), false),
                    (IN, tcp(w, x, 5_001, 80, SYN).error(kind), false),
                    (IN, tcp(w, x, 5_000, 81, SYN).error(kind), false),
                    (IN, tcp(x, w, 80, 5_000, ACK).error(kind), false),
                    // About what the other end sent: from here to there.
                    (OUT, sent.back().error(kind), true),
                    (OUT, udp(x, w, 80, 5_000).error(kind), false),
                    // Out of the error of an error comes nothing.
                    (IN, sent.error(kind).error(kind), false),
                ],
            );
            // To or from another address that `w` has, too.
            let other = if w == W4 { "10.0.0.19" } else { "fd00::19" };
            let mut from_other = sent.back().error(kind);
            from_other.source = other.parse().unwrap();
            play(&mut node, &[(IN, stray(&sent, other), false), (OUT, from_other, true)]);
            // About a packet of the flow, but to a third party: it would carry data there.
            for about in [sent.back(), sent.clone()] {
                let mut astray = about.error(kind);
                (astray.source, astray.destination) = (w.parse().unwrap(), y.parse().unwrap());
                play(&mut node, &[(OUT, astray.clone(), false)]);
                (astray.source, astray.destination) = (y.parse().unwrap(), w.parse().unwrap());
                play(&mut node, &[(IN, astray, about == sent)]);
            }
            // An error that leaves by `w` about a packet to somebody else.
            let mut foreign = sent.back().error(kind);
            if let Body::Error(_, about) = &mut foreign.body {
                about.destination = y.parse().unwrap();
            }
            play(&mut node, &[(OUT, foreign, false)]);
        }
    });
}

#[test]
fn later_fragments_follow_a_first_one_that_passed() {
    with_node(|mut node| {
        for (w, x) in [(W4, X4), (W6, X6)] {
            let good = udp(w, x, 5_000, 53);
            let bad = udp(w, x, 5_000, 54);
            play(
                &mut node,
                &[
                    // Before the first.
                    (OUT, good.clone().part(1, 185, false), false),
                    (OUT, good.clone().part(1, 0, true), true),
                    (OUT, good.clone().part(1, 185, false), true),
                    (OUT, good.clone().part(1, 3, true), true),
                    // Another packet, another direction, another end, another protocol.
                    (OUT, good.clone().part(2, 185, false), false),
                    (IN, good.back().part(1, 185, false), false),
                    (OUT, udp(w, if w == W4 { Y4 } else { Y6 }, 5_000, 53).part(1, 185, false), false),
                    (OUT, tcp(w, x, 5_000, 53, ACK).part(1, 185, false), false),
                    // The first was denied.
                    (OUT, bad.clone().part(3, 0, true), false),
                    (OUT, bad.clone().part(3, 185, false), false),
                    // What could write over the ports.
                    (OUT, good.clone().part(1, 1, true), false),
                    (OUT, good.clone().part(1, 2, false), false),
                    // Answers in fragments.
                    (IN, good.back().part(9, 0, true), true),
                    (IN, good.back().part(9, 100, false), true),
                ],
            );
        }
        // A first fragment that ends inside its ports.
        let whole = tcp(W4, X4, 5_000, 80, SYN).part(5, 0, true).bytes();
        for length in 14 + 20..14 + 40 {
            let mut bytes = whole[..length].to_vec();
            bytes[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
            assert!(!node.sandbox.from_workload(W, &bytes).unwrap(), "{length}");
        }
        assert!(node.sandbox.from_workload(W, &whole).unwrap());
    });
}

#[test]
fn tags_and_extension_headers_hide_nothing() {
    with_node(|mut node| {
        let tagged = |tags: &[u16], mut frame: Frame| {
            frame.tags = tags.to_vec();
            frame
        };
        for (w, x) in [(W4, X4), (W6, X6)] {
            for tags in [&[0x8100][..], &[0x88a8, 0x8100]] {
                play(
                    &mut node,
                    &[
                        (OUT, tagged(tags, tcp(w, x, 5_000, 81, SYN)), false),
                        (OUT, tagged(tags, tcp(w, x, 5_000, 80, SYN)), true),
                        (IN, tagged(tags, tcp(x, w, 80, 5_000, ACK)), true),
                        (IN, tagged(tags, tcp(x, w, 80, 5_001, ACK)), false),
                    ],
                );
            }
            let deep = tagged(&[0x88a8, 0x8100, 0x8100], tcp(w, x, 5_000, 80, SYN));
            assert!(!node.sandbox.from_workload(W, &deep.bytes()).unwrap());
        }
        for chain in [&[0][..], &[0, 43, 60], &[51, 60, 60], &[0, 60, 43, 51, 60, 60, 60]] {
            let with = |mut frame: Frame| {
                frame.extensions = chain.to_vec();
                frame
            };
            play(
                &mut node,
                &[
                    (OUT, with(udp(W6, X6, 5_000, 54)), false),
                    (OUT, with(udp(W6, X6, 5_000, 53)), true),
                    (OUT, with(udp(W6, X6, 5_000, 53)).part(4, 0, true), true),
                    (OUT, with(udp(W6, X6, 5_000, 53)).part(4, 100, false), true),
                ],
            );
        }
        // More than is looked at.
        let mut long = udp(W6, X6, 5_000, 53);
        long.extensions = vec![60; 9];
        assert!(!node.sandbox.from_workload(W, &long.bytes()).unwrap());
    });
}

#[test]
fn other_addresses_are_dropped_but_for_neighbour_discovery() {
    with_node(|mut node| {
        let message = |source: &str, destination: &str, kind| {
            Frame::new(source, destination, Body::Message(kind, 0, 0))
        };
        play(
            &mut node,
            &[
                (OUT, tcp(X4, Y4, 5_000, 80, SYN), false),
                (OUT, tcp(X4, W4, 5_000, 80, SYN), false),
                (IN, tcp(X4, Y4, 5_000, 80, SYN), false),
                (OUT, tcp(X6, W6, 5_000, 80, SYN), false),
                (OUT, message("fe80::1", "ff02::1", 135), true),
                (OUT, message("fe80::1", "ff02::2", 133), true),
                (IN, message("fe80::1", "ff02::1", 136), true),
                (IN, message("fe80::1", "ff02::1", 134), false),
                (OUT, message("fe80::1", "ff02::1", 128), false),
                (OUT, message("fe80::1", "ff02::1", 135).part(3, 100, false), false),
                (OUT, Frame::new("fe80::1", "ff02::1", Body::Ports(UDP, 135, 135, 0)), false),
                (OUT, message("10.0.0.7", "10.0.0.1", 135), false),
                // To itself, and from the node.
                (OUT, tcp(W4, W4, 5_000, 81, SYN), true),
                (Way::In { from: W }, tcp(W4, W4, 5_000, 81, SYN), true),
                (Way::In { from: 0 }, tcp(Y4, W4, 5_000, 81, SYN), true),
                (OUT, tcp(W4, Y4, 81, 5_000, SYN | ACK), true),
            ],
        );
    });
}

#[test]
fn what_one_interface_allowed_says_nothing_about_another() {
    with_node(|mut node| {
        let sent = tcp(W4, X4, 5_000, 80, SYN);
        play(&mut node, &[(OUT, sent.clone(), true), (OUT, sent.flags(ACK), true)]);
        // `v` has this address, too.
        assert_eq!(node.pass(V, OUT, &sent.flags(ACK)), [false; 2]);
        assert_eq!(node.pass(V, IN, &sent.back().flags(ACK)), [false; 2]);
        // Nobody is bound to this one.
        assert!(!node.sandbox.to_workload(1_000_000, 99, &sent.bytes()).unwrap_or(false));
        // `v` may talk with nobody, whatever `w` did with the same ends.
        let flow = tcp("10.0.0.8", X4, 5_000, 80, SYN);
        assert_eq!(node.pass(V, OUT, &flow), [false; 2]);
        assert_eq!(node.pass(V, IN, &flow.back().flags(ACK)), [false; 2]);
        // The node may talk with it, which again says nothing about `w`.
        assert_eq!(node.pass(V, Way::In { from: 0 }, &flow.back()), [true; 2]);
        assert_eq!(node.pass(V, OUT, &flow.flags(ACK)), [true; 2]);
        assert_eq!(node.pass(W, OUT, &flow.flags(ACK)), [false; 2]);
    });
}

/// The shortest of the times: 30 seconds of silence.
#[test]
fn silence_ends_a_flow_and_fragments_in_half() {
    with_node(|mut node| {
        let ping = Frame::new(W4, X4, Body::Message(8, 0, 7));
        let pong = Frame::new(X4, W4, Body::Message(0, 0, 7)).bytes();
        let talk = tcp(W4, X4, 5_000, 80, SYN);
        let (first, later) =
            (udp(W4, X4, 5_000, 53).part(1, 0, true), udp(W4, X4, 5_000, 53).part(1, 100, false));
        for frame in [&ping, &talk, &first] {
            assert!(node.sandbox.from_workload(W, &frame.bytes()).unwrap());
        }
        assert!(node.sandbox.to_workload(W, 99, &pong).unwrap());
        assert!(node.sandbox.from_workload(W, &later.bytes()).unwrap());
        std::thread::sleep(core::time::Duration::from_millis(31_500));
        assert!(!node.sandbox.to_workload(W, 99, &pong).unwrap());
        assert!(!node.sandbox.from_workload(W, &later.bytes()).unwrap());
        assert!(node.sandbox.to_workload(W, 99, &talk.back().flags(SYN | ACK).bytes()).unwrap());
    });
}
