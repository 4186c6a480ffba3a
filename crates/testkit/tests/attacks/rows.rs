//! The attacks, by kind.

mod discovery;
mod fragments;
mod headers;
mod icmp_errors;
mod links;
mod sources;
mod tunnels;

use crate::table::Table;
use crate::world::World;

/// All of them, while the flows of `world` live. `with_networks`: the dataplane knows the networks of local workloads and
/// the nodes.
pub(crate) fn all(world: &World, networks: Networks) -> Table {
    let mut table = Table::default();
    sources::of_pods(&mut table, world);
    icmp_errors::about_others(&mut table, world);
    icmp_errors::to_third_parties(&mut table, world);
    discovery::as_data(&mut table, world);
    discovery::real(&mut table, world);
    tunnels::of_pods(&mut table, world);
    headers::flags(&mut table, world);
    headers::protocols(&mut table, world);
    headers::extensions(&mut table, world);
    fragments::all(&mut table, world);
    links::tags(&mut table, world);
    links::multicast(&mut table, world);
    links::source_route(&mut table, world);
    if networks == Networks::Known {
        sources::from_outside(&mut table, world);
        tunnels::to_the_node(&mut table, world);
    }
    table
}

/// Those that are questions of semantics: what discovery is, and what tunnels are.
pub(crate) fn semantics(world: &World) -> Table {
    let mut table = Table::default();
    discovery::as_data(&mut table, world);
    discovery::real(&mut table, world);
    tunnels::of_pods(&mut table, world);
    table
}

/// Whether the dataplane is told which networks are those of local workloads, and which nodes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Networks {
    Known,
    Unknown,
}
