//! The mode of kube-proxy that forwards past the hooks that a table like ours has.

use nix::net::if_::if_nametoindex;

/// One line when kube-proxy is in mode `ipvs`: packets that IPVS forwards leave by the output hook, in place of the forward hook, so
/// that the ingress policy of workloads is not asked. The proxy keeps the addresses of services on this interface.
///
/// Source: Kubernetes `pkg/proxy/ipvs/proxier.go` (`DefaultDummyDevice`); Calico `felix/rules/static.go` (`KubeIPVSSupport`).
pub(crate) fn warning() -> Option<String> {
    if_nametoindex(INTERFACE).ok().filter(|index| *index != 0).map(|index| {
        format!(
            "interface {INTERFACE} (index {index}): kube-proxy in mode ipvs is not supported; what it forwards to workloads of \
             this node does not meet their ingress policy"
        )
    })
}

const INTERFACE: &str = "kube-ipvs0";
