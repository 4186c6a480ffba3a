//! Why a packet was not decided by policy.

/// What happened to packets without a decision of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Dropped: nobody is bound to the interface, or, on a node with services, to the one that the packet came in by.
    UnknownInterface,
    /// Dropped: the packet is not what it says it is, or too short.
    Malformed,
    /// Dropped: a fragment whose first did not come before it or was denied, or one that could hide ports.
    Fragment,
    /// Dropped: the address is not one of the workload's.
    Address,
    /// Dropped: neither IP nor ARP.
    Ethertype,
    /// An event that was not sent, because there were too many.
    LostEvent,
    /// Passed: the flow was allowed before.
    Established,
    /// Passed: from the node itself, from a workload to itself, or to be decided where it leaves or is delivered.
    Exempt,
    /// Dropped: from a workload to the node itself, as
    /// [`DataplaneOptions::workload_to_host`](portcullis_core::backend::DataplaneOptions::workload_to_host) says.
    WorkloadToHost,
    /// Dropped: on a node with services, in flight while addresses got other classes. It comes through when it is sent again.
    Stale,
    /// Dropped: an untracked rule allowed it to the node itself, and pre-DNAT policy does not allow it to where destination NAT
    /// took it.
    Confined,
    /// Dropped: the flow was ended, and what the other end sends does not begin it anew.
    Cut,
    /// Dropped: an interface of the host brought a packet from the address of a workload of this node, or from
    /// [its networks](portcullis_core::backend::DataplaneOptions::local_nets).
    ForgedSource,
    /// Dropped: a tunnel that ends at this node, from elsewhere than its
    /// [peers](portcullis_core::backend::DataplaneOptions::tunnel_peers).
    TunnelPeer,
    /// Dropped: a workload claimed an address that is not its own, in ARP or a neighbour advertisement.
    NeighbourClaim,
    /// Passed, and not noted as a flow: the interface that the packet came in by has as many flows as it may.
    FlowLimit,
}

impl Reason {
    /// All of them, in the order of `bpf/layout.h`.
    pub const ALL: [Self; 16] = [
        Self::UnknownInterface,
        Self::Malformed,
        Self::Fragment,
        Self::Address,
        Self::Ethertype,
        Self::LostEvent,
        Self::Established,
        Self::Exempt,
        Self::WorkloadToHost,
        Self::Stale,
        Self::Confined,
        Self::Cut,
        Self::ForgedSource,
        Self::TunnelPeer,
        Self::NeighbourClaim,
        Self::FlowLimit,
    ];
}
