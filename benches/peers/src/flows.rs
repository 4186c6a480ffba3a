//! The policies and flows that every engine gets: policy `i` lets peers with label `app = a<i mod 1000>` connect to
//! port `1000 + i`. Everything else is denied.

use crate::Random;

/// Number of peers, each with a label of its own.
pub const PEERS: usize = 1_000;

/// One flow to the endpoint.
#[derive(Clone, Copy)]
pub struct Flow {
    pub peer: usize,
    pub port: u16,
    pub allowed: bool,
}

/// The port of policy `i`.
pub fn port(policy: usize) -> u16 {
    (1_000 + policy % 60_000) as u16
}

/// Flows, half of them allowed, spread evenly over the policies. What is denied misses in the port only.
pub fn flows(policies: usize, count: usize) -> Vec<Flow> {
    let mut random = Random(0x5eed_0001);
    (0..count)
        .map(|at| {
            let policy = random.below(policies);
            let peer = policy % PEERS;
            if at % 2 == 0 {
                Flow { peer, port: port(policy), allowed: true }
            } else {
                Flow { peer, port: 80, allowed: false }
            }
        })
        .collect()
}
