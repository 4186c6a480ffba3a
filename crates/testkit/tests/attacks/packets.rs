//! The table of packets on each backend.

use std::time::Instant;

use portcullis::backend::{Bindings, DataplaneOptions, Interface};
use portcullis::model::EndpointId;

use crate::KNOWN;
use crate::backends::{Variants, bind, interface, on_every};
use crate::rows::{Networks, all};
use crate::table::{arrives_unguarded, findings, wrong};
use crate::world::World;

/// What each dataplane is told where it knows the node's networks.
pub(crate) fn options(networks: Networks) -> DataplaneOptions {
    let options = DataplaneOptions::new();
    match networks {
        Networks::Unknown => options,
        Networks::Known => {
            let nets = ["10.0.9.0/24", "fd00:9::/64"].map(|text| text.parse().unwrap());
            let peers = ["172.16.9.0/24", "fd00:16::/64"].map(|text| text.parse().unwrap());
            let options = options.with_workload_interfaces(Interface::new("cali").unwrap());
            let options = nets.into_iter().fold(options, DataplaneOptions::with_local_net);
            peers.into_iter().fold(options, DataplaneOptions::with_tunnel_peers)
        }
    }
}

/// Every pod is bound, and the uplink is one.
pub(crate) fn bound(world: &World, ids: &[EndpointId]) -> Bindings {
    let mut bindings = bind(&world.site.pods, ids);
    bindings.uplink(interface(&world.site.second.interface));
    bindings
}

#[test]
fn no_frame_gets_where_policy_says_that_it_must_not() {
    on_every(Variants::Default, |under| {
        let begin = Instant::now();
        let mut world = World::new();
        let under = under.at(&world.site);
        let name = under.backend.name();
        world.begin_flows();
        arrives_unguarded(&all(&world, Networks::Known), &world);
        let (compiler, ids) = world.policy();
        let bindings = bound(&world, &ids);
        let mut all_wrong = Vec::new();
        for networks in [Networks::Unknown, Networks::Known] {
            let mut dataplane = under.load(options(networks), &compiler, &bindings);
            world.begin_flows();
            let table = all(&world, networks);
            let found = findings(&table, &table.run(&world));
            let held = found.iter().filter(|(_, wrong)| wrong.is_none()).count();
            eprintln!(
                "{name}, networks {networks:?}: {held} of {} rows hold, {:?}",
                found.len(),
                begin.elapsed()
            );
            all_wrong
                .extend(wrong(name, &found, KNOWN).into_iter().map(|row| format!("{networks:?}: {row}")));
            all_wrong.extend(world.broken_flows().into_iter().map(|flow| format!("{flow} is broken")));
            dataplane.remove().unwrap();
        }
        assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
    });
}
