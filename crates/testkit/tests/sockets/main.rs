//! The kernel backends under real sockets: TCP and UDP between pods of a node.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[path = "../common/backends.rs"]
mod backends;
#[path = "../common/cluster.rs"]
mod cluster;
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
mod nftables_ended;
#[path = "../common/node.rs"]
mod node;
mod older;
mod pod_life;
mod policies;
mod services;
mod soak;
mod sources;
mod start;
mod terminate;
mod to_node;
mod traffic;
#[path = "../common/wide.rs"]
mod wide;

use cluster::{compile, compiled, place, tighten};

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

/// What a backend cannot do: its name, the scenario, and why.
pub(crate) const CANNOT: &[(&str, &str, &str)] = &[
    (
        "nftables",
        "host_services::an_untracked_allow_is_for_the_node_itself",
        "connection tracking calls the answer to an untracked SYN invalid, so answers need an untracked rule of their own",
    ),
    (
        "nftables",
        "host_endpoints::host_endpoints_guard_a_node_that_masquerades_as_the_reference_says",
        "netfilter does not translate back what untracked policy took out of connection tracking",
    ),
];
