//! The states of a flow, and how packets move it from one to the next.

use core::time::Duration;

use portcullis_core::packet::Protocol;

use crate::flows::packet::{FlowPacket, TcpFlags};

/// The state of a tracked flow. Each has one timeout, which starts anew with every packet that the state lets
/// prolong the flow.
///
/// A simplification of what Linux does in `net/netfilter/nf_conntrack_proto_*.c`: sequence numbers and windows are
/// not seen here. Default timeouts are those of `Documentation/networking/nf_conntrack-sysctl.rst`; the name of each
/// is given with its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum FlowState {
    /// TCP: asked for, not answered. 120 s, `tcp_timeout_syn_sent`.
    TcpSynSent,
    /// TCP: first seen in the middle, and not in the other direction yet. 300 s, `tcp_timeout_unacknowledged`.
    TcpPickedUp,
    /// TCP: answered by SYN and ACK. 60 s, `tcp_timeout_syn_recv`.
    TcpSynReceived,
    /// TCP: established. 432,000 s, `tcp_timeout_established`.
    TcpEstablished,
    /// TCP: who opened it has said FIN. 120 s, `tcp_timeout_fin_wait`.
    TcpOriginatorDone,
    /// TCP: who was asked has said FIN. 120 s, `tcp_timeout_fin_wait`.
    TcpResponderDone,
    /// TCP: both have said FIN. Only a new SYN prolongs it. 120 s, `tcp_timeout_time_wait`.
    TcpDone,
    /// TCP: ended by RST. Only a new SYN prolongs it. 10 s, `tcp_timeout_close`.
    TcpReset,
    /// UDP and UDP-Lite: not answered. 30 s, `udp_timeout`.
    UdpUnreplied,
    /// UDP and UDP-Lite: answered. 120 s, `udp_timeout_stream`.
    UdpReplied,
    /// An ICMP or ICMPv6 query that was not answered. 30 s, `icmp_timeout` and `icmpv6_timeout`.
    IcmpUnreplied,
    /// An ICMP or ICMPv6 query that was answered. 30 s, as before.
    IcmpReplied,
    /// Any other protocol, SCTP included: not answered. 600 s, `generic_timeout`.
    OtherUnreplied,
    /// Any other protocol: answered. 600 s, `generic_timeout`.
    OtherReplied,
}

impl FlowState {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::TcpSynSent,
        Self::TcpPickedUp,
        Self::TcpSynReceived,
        Self::TcpEstablished,
        Self::TcpOriginatorDone,
        Self::TcpResponderDone,
        Self::TcpDone,
        Self::TcpReset,
        Self::UdpUnreplied,
        Self::UdpReplied,
        Self::IcmpUnreplied,
        Self::IcmpReplied,
        Self::OtherUnreplied,
        Self::OtherReplied,
    ];

    /// How long a flow stays in this state without a packet, unless
    /// [set otherwise](crate::FlowLimits::with_timeout).
    #[must_use]
    pub const fn default_timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::TcpSynSent | Self::TcpOriginatorDone | Self::TcpResponderDone | Self::TcpDone => 120,
            Self::TcpPickedUp => 300,
            Self::TcpSynReceived => 60,
            Self::TcpEstablished => 432_000,
            Self::TcpReset => 10,
            Self::UdpReplied => 120,
            Self::UdpUnreplied | Self::IcmpUnreplied | Self::IcmpReplied => 30,
            Self::OtherUnreplied | Self::OtherReplied => 600,
        })
    }

    /// Whether the far end has answered.
    #[must_use]
    pub const fn is_replied(self) -> bool {
        !matches!(
            self,
            Self::TcpSynSent
                | Self::TcpPickedUp
                | Self::UdpUnreplied
                | Self::IcmpUnreplied
                | Self::OtherUnreplied
        )
    }

    /// Whether the connection is over, so that the next SYN begins another.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TcpDone | Self::TcpReset)
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The state of a flow that begins with `packet`; `None` when no flow begins so: answers, and TCP packets that
    /// end or answer a connection that is not known.
    ///
    /// A TCP packet with nothing but ACK picks a connection up, as Linux does by default (`nf_conntrack_tcp_loose`):
    /// policy has just allowed it, and after a restart nothing else would come.
    pub(super) fn first(packet: &FlowPacket<'_>) -> Option<Self> {
        Some(match packet.packet.protocol {
            Protocol::TCP => {
                let flags = packet.tcp.unwrap_or(TcpFlags::SYN);
                if flags.has(TcpFlags::RST) || flags.has(TcpFlags::FIN) {
                    return None;
                }
                match (flags.has(TcpFlags::SYN), flags.has(TcpFlags::ACK)) {
                    (true, false) => Self::TcpSynSent,
                    (false, true) => Self::TcpPickedUp,
                    (true, true) | (false, false) => return None,
                }
            }
            Protocol::UDP | Protocol::UDPLITE => Self::UdpUnreplied,
            Protocol::ICMP | Protocol::ICMPV6 => Self::IcmpUnreplied,
            _ => Self::OtherUnreplied,
        })
    }

    /// The state after a packet in `way`; `None` when the packet does not prolong the flow.
    pub(super) fn next(self, way: Way, packet: &FlowPacket<'_>) -> Option<Self> {
        let flags = packet.tcp.unwrap_or(TcpFlags::ACK);
        if self.is_over() {
            return None;
        }
        Some(match (self, way) {
            (Self::UdpUnreplied, Way::Reply) => Self::UdpReplied,
            (Self::IcmpUnreplied, Way::Reply) => Self::IcmpReplied,
            (Self::OtherUnreplied, Way::Reply) => Self::OtherReplied,
            _ if packet.packet.protocol != Protocol::TCP => self,
            _ if flags.has(TcpFlags::RST) => Self::TcpReset,
            (Self::TcpSynSent | Self::TcpPickedUp, Way::Original) => self,
            (Self::TcpOriginatorDone, Way::Reply) | (Self::TcpResponderDone, Way::Original)
                if flags.has(TcpFlags::FIN) =>
            {
                Self::TcpDone
            }
            (Self::TcpOriginatorDone | Self::TcpResponderDone, _) => self,
            (_, Way::Original) if flags.has(TcpFlags::FIN) => Self::TcpOriginatorDone,
            (_, Way::Reply) if flags.has(TcpFlags::FIN) => Self::TcpResponderDone,
            (Self::TcpSynSent, Way::Reply) if flags.has(TcpFlags::SYN) => Self::TcpSynReceived,
            (Self::TcpSynReceived, Way::Reply) => self,
            _ => Self::TcpEstablished,
        })
    }
}

/// In which direction of its flow a packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As the packet that the flow began with.
    Original,
    /// Against it.
    Reply,
}
