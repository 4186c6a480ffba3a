//! The kernel backends under real sockets: TCP and UDP between pods of a node.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod backends;
mod contract;
mod contract_kernel;
mod contract_recording;
mod ebpf;
mod ebpf_attachments;
mod ebpf_flow_tables;
mod ebpf_node;
mod ebpf_services;
mod foreign;
mod host_endpoints;
mod host_judge;
mod host_scenarios;
mod host_services;
mod host_uplink;
mod kill;
mod lifecycle;
mod nftables;
mod node;
mod policies;
mod services;
mod terminate;
mod to_node;
mod traffic;
mod wide;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::Delta;
use portcullis::model::{Cluster, Endpoint, EndpointId, Update};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;

use node::Pod;

/// Gives the endpoint the addresses of the pod.
fn place(mut endpoint: Endpoint, pod: &Pod) -> Endpoint {
    endpoint.addresses = pod.addresses.to_vec();
    endpoint.node = Some("node".into());
    endpoint
}

pub(crate) const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
";

pub(crate) const SHUT: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: shop}
spec: {podSelector: {matchLabels: {app: server}}}
";

pub(crate) const ONLY_80: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-80, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{ports: [{port: 80}]}]
";

/// Compiles `text`, whose first endpoints are the pods.
fn compiled(text: &str, pods: &[Pod]) -> (Compiler, Vec<EndpointId>) {
    let scenario = Scenario::parse("test", text, LoadOptions::new()).unwrap();
    let mut cluster = scenario.cluster().clone();
    let ids: Vec<EndpointId> = cluster.endpoints().keys().cloned().collect();
    for (id, pod) in ids.iter().zip(pods) {
        let endpoint = cluster.endpoints()[id].clone();
        cluster.apply(Update::Endpoint(place(endpoint, pod)));
    }
    (compile(&cluster, &Settings::default()), ids)
}

/// Compiles all of `cluster`.
fn compile(cluster: &Cluster, settings: &Settings) -> Compiler {
    let mut compiler = Compiler::new(settings.clone(), CompileScope::All);
    cluster.updates().for_each(|update| compiler.apply(update).unwrap());
    let _ = compiler.commit();
    compiler
}

/// Adds the policies of `text`, or puts them in the place of those of their names.
fn tighten(compiler: &mut Compiler, text: &str) -> Delta {
    let scenario = Scenario::parse("policies", text, LoadOptions::new()).unwrap();
    for policy in scenario.cluster().policies().values() {
        compiler.apply(Update::Policy(policy.clone())).unwrap();
    }
    compiler.commit()
}
