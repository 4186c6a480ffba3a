//! Holds what was timed to the reference evaluator.

use core::error::Error;
use core::net::IpAddr;

use portcullis::compile::Compiler;
use portcullis::ir::{Interpreter, Snapshot};
use portcullis::model::{Cluster, EndpointId};
use portcullis::net::Cidr;
use portcullis::packet::{Packet, Protocol};
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};

use crate::workloads::Random;

/// Compares sampled verdicts and causes, and returns how many were allowed and denied.
pub(crate) fn sample(compiler: &Compiler, samples: u32) -> Result<(u32, u32), Box<dyn Error>> {
    let (cluster, snapshot) = (compiler.cluster(), compiler.snapshot());
    let sampler = Sampler::new(cluster, snapshot);
    let settings = Settings::default();
    let (reference, interpreter) = (Reference::new(cluster, &settings), Interpreter::new(snapshot));
    let mut random = Random::new(0xc0ffee);
    let (mut allowed, mut denied) = (0, 0);
    for _ in 0..samples {
        let (endpoint, hook, packet) = sampler.packet(&mut random).ok_or("no endpoint to sample")?;
        let (want, have) =
            (reference.decide(endpoint, hook, &packet), interpreter.decide(endpoint, hook, &packet));
        if want != have {
            return Err(format!("{endpoint} {hook} {packet:?}: {have:?} instead of {want:?}").into());
        }
        match have.verdict {
            Verdict::Allow => allowed += 1,
            _ => denied += 1,
        }
    }
    if allowed == 0 || denied == 0 {
        return Err(format!("{allowed} allowed and {denied} denied: the samples show nothing").into());
    }
    Ok((allowed, denied))
}

/// Picks packets that have a fair chance to hit a rule.
struct Sampler<'a> {
    endpoints: Vec<(&'a EndpointId, IpAddr)>,
    prefixes: Vec<&'a Cidr>,
}

impl<'a> Sampler<'a> {
    fn new(cluster: &'a Cluster, snapshot: &'a Snapshot) -> Self {
        let address = |id| cluster.endpoints().get(id)?.addresses.first().copied();
        let endpoints = snapshot.endpoints.keys().filter_map(|id| Some((id, address(id)?))).collect();
        Self { endpoints, prefixes: snapshot.addresses.keys().collect() }
    }

    fn packet(&self, random: &mut Random) -> Option<(&'a EndpointId, Hook, Packet)> {
        let mut pick = |count: usize| {
            let below = random.below(u32::try_from(count).unwrap_or(u32::MAX));
            usize::try_from(below).unwrap_or_default()
        };
        let at = pick(self.endpoints.len());
        let (endpoint, own) = *self.endpoints.get(at)?;
        // A neighbour in the order of names, which is often of the same namespace, or any prefix.
        let far = match pick(3) {
            0 => self.endpoints.get((at + 1 + pick(4)) % self.endpoints.len())?.1,
            1 => self.prefixes.get(pick(self.prefixes.len()))?.address(),
            _ => self.prefixes.get(pick(self.prefixes.len()))?.last_address(),
        };
        let hook = if pick(4) == 0 { Hook::WorkloadEgress } else { Hook::WorkloadIngress };
        let (source, destination) = if hook == Hook::WorkloadEgress { (own, far) } else { (far, own) };
        let ports = [80, 443, 8_080, 22, 8_000 + pick(10), 1_000 + pick(50), 1 + pick(11_000), pick(65_536)];
        let port = u16::try_from(*ports.get(pick(ports.len()))?).ok()?;
        Some((endpoint, hook, Packet::new(source, destination, Protocol::TCP).to_port(port)))
    }
}
