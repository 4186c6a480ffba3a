//! One pod is denied all the time, and what others are denied is told still.

use std::time::{Duration, Instant};

use portcullis::backend::{DataplaneOptions, LoggedEvents};

use crate::backends::{Variants, on_every};
use crate::frames::Ip;
use crate::packets::bound;
use crate::table::{Finding, Wire as _, holds};
use crate::world::Who::{B, Far, M, N};
use crate::world::{FAMILIES, World};

#[test]
fn a_flood_of_denied_packets_hides_no_denial_of_others() {
    on_every(Variants::Default, |under| {
        let world = World::new();
        let under = under.at(&world.site);
        let (compiler, ids) = world.policy();
        let options = DataplaneOptions::new().with_events(LoggedEvents::Denied);
        let mut dataplane = under.load(options, &compiler, &bound(&world, &ids));
        let mut found: Vec<Finding> = Vec::new();
        let (mut told, index) = (0, nix::net::if_::if_nametoindex(world.pod(N).interface.as_str()).unwrap());
        for family in FAMILIES {
            let [n, m, far] = [N, M, Far].map(|who| world.address(who, family));
            let frames: Vec<_> =
                (1..20_000).map(|port| world.link(N).ip(&Ip::udp((n, port), (far, 80), b"flood"))).collect();
            let (first, second) = frames.split_at(frames.len() / 2);
            first.iter().for_each(|frame| world.send(N, frame));
            let to = world.address(B, family);
            world.send(M, &world.link(M).ip(&Ip::udp((m, 4_444), (to, 5_555), b"one")));
            second.iter().for_each(|frame| world.send(N, frame));
            let (mut came, mut of_others) = (false, 0);
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end && !came {
                match dataplane.next_event().unwrap() {
                    Some(event) if event.packet.source == m => came = event.packet.destination_port == 5_555,
                    Some(_) => of_others += 1,
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            // What nobody will read is not lost by a limit.
            while let Some(event) = dataplane.next_event().unwrap() {
                of_others += usize::from(event.packet.source != m);
            }
            told += of_others + usize::from(came);
            let lost = dataplane.lost_events();
            let by_interface = dataplane.lost_events_by_interface();
            let denied: u64 = dataplane.counters().unwrap().iter().map(|(_, counter)| counter.packets).sum();
            eprintln!(
                "{}: {of_others} events of the flood, {lost} lost, {denied} counted",
                under.backend.name()
            );
            assert!(denied >= 19_999, "counters count all: {denied}");
            assert_eq!(told as u64 + lost, denied, "each denied packet is told or lost");
            assert_eq!(by_interface, [(index, lost)], "the flood lost its own");
            let wrong = (!came).then(|| format!("it was lost beside {of_others} of the flood"));
            found.push((format!("the event of one beside a flood, {family}"), wrong));
        }
        holds(under.backend.name(), &found);
        dataplane.remove().unwrap();
    });
}
