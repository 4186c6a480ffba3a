//! What the kernel tells about interfaces and their filters (rtnetlink(7)).

use core::ffi::c_int;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::error::{Context as _, LoadError};

/// A socket that is readable once an interface came, went or changed, or filters of one did.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// For the network namespace of this thread.
    pub(crate) fn start() -> Result<Self, LoadError> {
        let what = "cannot watch interfaces";
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute);
        let socket = socket.context(what)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, LINKS | FILTERS)).context(what)?;
        Ok(Self(socket))
    }

    /// Whether something was told since the last call.
    pub(crate) fn is_told(&self) -> bool {
        let mut told = false;
        loop {
            match recv(self.0.as_raw_fd(), &mut [0; 32], MsgFlags::empty()) {
                // More than the socket holds was told.
                Ok(_) | Err(Errno::ENOBUFS) => told = true,
                Err(Errno::EINTR) => {}
                Err(_) => return told,
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }

    pub(crate) fn fd(&self) -> c_int {
        self.0.as_raw_fd()
    }
}

/// `RTMGRP_LINK`, `RTMGRP_TC`.
const LINKS: u32 = 1;
const FILTERS: u32 = 8;
