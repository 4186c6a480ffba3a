//! Generated clusters, as changes of the model. The same seed gives the same objects.
//!
//! The shapes are those that other projects publish or test with; `README.md` lists them. The code is our own.

mod build;
mod hostile;
mod namespaces;
mod rules;

use portcullis::model::{Cluster, Update};

pub(crate) use build::{Names, Random, pod};
pub(crate) use namespaces::{w3a_pod, w3a_policy};

/// A cluster, by the name it has in the design notes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static str,
    /// Hands every object to the sink, in the order in which an API server would list the kinds.
    pub(crate) generate: fn(&mut dyn FnMut(Update)),
    /// Endpoints and policies that there must be in the end.
    pub(crate) counts: (usize, usize),
    /// The node whose endpoints get programs; all without one.
    pub(crate) node: Option<&'static str>,
}

impl Workload {
    /// All objects in one list.
    pub(crate) fn updates(&self) -> Vec<Update> {
        let mut updates = Vec::new();
        (self.generate)(&mut |update| updates.push(update));
        updates
    }

    /// Whether the cluster has as many endpoints and policies as it should.
    pub(crate) fn check(&self, cluster: &Cluster) -> Result<(), String> {
        let counts = (cluster.endpoints().len(), cluster.policies().len());
        if counts == self.counts { Ok(()) } else { Err(format!("{}: {counts:?} objects", self.name)) }
    }
}

const fn of(
    name: &'static str,
    shape: &'static str,
    generate: fn(&mut dyn FnMut(Update)),
    counts: (usize, usize),
) -> Workload {
    Workload { name, shape, generate, counts, node: None }
}

/// Every workload.
pub(crate) const ALL: [Workload; 13] = [
    of("w1", "240 namespaces x 10 pods x 20 policies of 25 peers and ports", namespaces::w1, (2_400, 4_800)),
    of("w2", "30k pods, 6k label sets, 30k policies", namespaces::w2, (30_000, 30_000)),
    of("w3a", "25k namespaces, 100k pods, 75k policies", namespaces::w3a, (100_000, 75_000)),
    of("w3b", "100 namespaces x 1,000 pods x 101 policies", namespaces::w3b, (100_000, 10_100)),
    of("w3c", "1 namespace, 10k pods, 10k policies that select every pod", namespaces::w3c, (10_000, 10_000)),
    of("w3d", "1 namespace, 10k pods, a policy for each", namespaces::w3d, (10_000, 10_000)),
    of("w3e", "1k namespaces, 100k pods, 10k cluster policies", namespaces::w3e, (100_000, 10_000)),
    Workload {
        name: "w4",
        shape: "250k endpoints, 200 of them local, 10k label policies",
        generate: namespaces::w4,
        counts: (250_000, 10_000),
        node: Some("node-0"),
    },
    of("w5", "1,000 rules with 44,596 CIDR entries", rules::w5, (1, 1)),
    of("w6", "12,500 rules in a tier that passes, then a base policy", rules::w6, (10, 2)),
    of("w7a", "100k pods, each with a label value of its own", hostile::w7a, (100_000, 1_000)),
    of("w7b", "1,000 port ranges on 1,500 pods of one node", hostile::w7b, (1_500, 1_000)),
    of("w7c", "50k CIDRs with exceptions", hostile::w7c, (1, 1)),
];

/// The workload of this name.
pub(crate) fn find(name: &str) -> Option<Workload> {
    ALL.into_iter().find(|workload| workload.name == name)
}
