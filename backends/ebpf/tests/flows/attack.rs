//! Frames in any order, most of them about flows that there are or nearly are.

use std::time::{Duration, Instant};

use portcullis_testkit::generate::Generator;

use crate::frames::{Body, Frame, SCTP, TCP, UDP};
use crate::model::{Node, V, W, Way};
use crate::with_node;

/// After this long, flows may be forgotten, which the model does not do.
const SHORTEST_SILENCE: Duration = Duration::from_secs(25);

fn pick<T: Clone>(generator: &mut Generator, items: &[T]) -> T {
    items[generator.below(items.len() as u64) as usize].clone()
}

fn any(generator: &mut Generator) -> Frame {
    let v4 = generator.below(2) == 0;
    let ends: &[&str] = if v4 {
        &["10.0.0.9", "10.0.0.9", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.8", "10.0.0.19"]
    } else {
        &["fd00::9", "fd00::9", "fd00::1", "fd00::1", "fd00::2", "fd00::8", "fd00::19", "fe80::1"]
    };
    let (source, destination) = (pick(generator, ends), pick(generator, ends));
    let ports = [53, 80, 81, 5_000, 5_001];
    let (from, to) = (pick(generator, &ports), pick(generator, &ports));
    let body = match generator.below(8) {
        0..3 => Body::Ports(TCP, from, to, generator.below(64) as u8),
        3 | 4 => Body::Ports(UDP, from, to, 0),
        5 => Body::Ports(SCTP, from, to, generator.below(3) as u8),
        6 => {
            let kinds: &[u8] = if v4 { &[0, 8, 8, 13, 14, 5] } else { &[128, 129, 128, 130, 134, 135, 136] };
            Body::Message(pick(generator, kinds), 0, generator.below(3) as u16)
        }
        _ => Body::Other(47),
    };
    Frame::new(source, destination, body)
}

/// A frame that has to do with one that was there before.
fn about(generator: &mut Generator, frame: &Frame) -> Frame {
    let mut next = match generator.below(8) {
        0 | 1 => frame.back(),
        2 => frame.flags(generator.below(64) as u8),
        3 => frame.back().flags(generator.below(64) as u8),
        4 | 5 => {
            let kind =
                if frame.is_v4() { pick(generator, &[3, 11, 12]) } else { 1 + generator.below(4) as u8 };
            frame.error(kind)
        }
        6 => {
            // An answer to a message, or the question of an answer.
            let mut back = frame.back();
            if let Body::Message(kind, code, id) = back.body {
                let kind = match kind {
                    8 => 0,
                    0 => 8,
                    128 => 129,
                    129 => 128,
                    other => other ^ 1,
                };
                back.body = Body::Message(kind, code, id);
            }
            back
        }
        _ => frame.clone(),
    };
    // Now and then one field is another.
    match generator.below(12) {
        0 => next.source = any(generator).source,
        1 => next.destination = any(generator).destination,
        2 => next.body = any(generator).body,
        _ => {}
    }
    next
}

fn dress(generator: &mut Generator, mut frame: Frame) -> Frame {
    if generator.below(3) == 0 {
        let offset = pick(generator, &[0, 0, 0, 1, 2, 3, 100]);
        frame = frame.part(generator.below(4) as u16, offset, generator.below(2) == 0 || offset == 0);
    }
    if generator.below(10) == 0 {
        frame.tags = pick(generator, &[vec![0x8100], vec![0x88a8, 0x8100]]);
    }
    if !frame.is_v4() && generator.below(6) == 0 {
        frame.extensions = pick(generator, &[vec![0], vec![60, 43], vec![0, 60]]);
    }
    frame
}

/// Both ways: nothing passes that may not, and nothing is lost that may.
#[test]
fn no_sequence_of_frames_gets_through_what_the_model_does_not_let_pass() {
    with_node(|_| {
        let wanted: u64 = std::env::var("PORTCULLIS_PACKETS").map_or(20_000, |value| value.parse().unwrap());
        let (mut sent, mut passed, mut seed) = (0_u64, 0_u64, 0);
        while sent < wanted {
            // Few flows at a time, so that none has to make room.
            let mut node = Node::new();
            let mut generator = Generator::new(seed);
            let mut seen: Vec<Frame> = Vec::new();
            let started = Instant::now();
            for _ in 0..1_000 {
                let frame = match seen.len() {
                    0 => any(&mut generator),
                    _ if generator.below(4) == 0 => any(&mut generator),
                    _ => {
                        let old = pick(&mut generator, &seen[seen.len().saturating_sub(12)..]);
                        about(&mut generator, &old)
                    }
                };
                if frame.is_v4() != frame.destination.is_ipv4() {
                    continue;
                }
                let frame = dress(&mut generator, frame);
                let interface = pick(&mut generator, &[W, W, W, V]);
                let way = match generator.below(9) {
                    0..4 => Way::Out,
                    4..8 => Way::In { from: 99 },
                    _ => Way::In { from: pick(&mut generator, &[0, interface]) },
                };
                let [came, may] = node.pass(interface, way, &frame);
                if started.elapsed() > SHORTEST_SILENCE {
                    break;
                }
                assert_eq!(came, may, "seed {seed}, frame {sent}: {way:?} at {interface}: {frame:?}");
                sent += 1;
                passed += u64::from(came);
                if came || generator.below(4) == 0 {
                    // Errors inside errors inside errors need not grow for ever.
                    seen.extend((frame.packet().len() < 300).then_some(frame));
                }
            }
            seed += 1;
        }
        println!("{sent} frames, {passed} passed");
        assert!(passed > sent / 20 && passed < sent);
    });
}
