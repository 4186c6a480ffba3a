//! The flows that the Linux kernel tracks (ctnetlink): listed and deleted.
//!
//! The nftables backend ends flows with it. The eBPF backend, which has flow tables of its own, fills them from it when it takes
//! a node over that runs already. Linux only. Listing needs `CAP_NET_ADMIN` in the network namespace, as deleting does.
//!
//! ```no_run
//! let mut conntrack = portcullis_conntrack::Conntrack::open()?;
//! conntrack.list(|flow| println!("{:?}", flow.first))?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod attributes;
mod flow;
mod socket;

pub use flow::{Flow, TcpState, Tuple};

use std::io::{Error, ErrorKind};

use attributes::{NESTED, put};
use socket::{Answer, Socket};

/// Connection tracking of one network namespace: that of the thread which opened it.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()? })
    }

    /// Hands every flow of both families to `each`. Flows that come or go meanwhile may be left out. What is no flow of an IP
    /// protocol is left out.
    ///
    /// # Errors
    /// When the kernel does not answer or has no connection tracking.
    pub fn list(&mut self, mut each: impl FnMut(Flow)) -> Result<(), Error> {
        self.socket.send(GET, DUMP, UNSPECIFIED, &[])?;
        self.socket.receive(|answer| match answer {
            Answer::Message(content) => {
                flow::read(content).into_iter().for_each(&mut each);
                true
            }
            Answer::Acknowledged => false,
        })
    }

    /// Makes the kernel forget a flow: its next packet begins another. Whether it was still there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, flow: &Flow) -> Result<bool, Error> {
        let family = if flow.first.source.is_ipv6() { INET6 } else { INET };
        let mut content = Vec::new();
        put(&mut content, flow::TUPLE_FIRST | NESTED, &flow.key);
        if let Some(zone) = &flow.zone {
            put(&mut content, flow::ZONE, zone);
        }
        self.socket.send(DELETE, ACKNOWLEDGE, family, &content)?;
        match self.socket.receive(|answer| matches!(answer, Answer::Message(_))) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// `NFNL_SUBSYS_CTNETLINK << 8` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
/// `NLM_F_DUMP`, `NLM_F_ACK`.
const DUMP: u16 = 0x300;
const ACKNOWLEDGE: u16 = 4;
/// `AF_UNSPEC`, `AF_INET`, `AF_INET6`.
const UNSPECIFIED: u8 = 0;
const INET: u8 = 2;
const INET6: u8 = 10;
