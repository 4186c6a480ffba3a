//! A private network namespace in which packets go the way that a hook guards.

use core::fmt;
use core::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};

use tun_rs::{DeviceBuilder, SyncDevice};

use crate::apply::{ApplyError, Events, LogMessage};

/// The namespace of the calling thread, and its interfaces. It ends with the thread, also when that is killed: nothing is
/// left behind.
pub(super) struct Wire {
    devices: [SyncDevice; 5],
    raw: [OwnedFd; 2],
    local: Events,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In through the guarded interface, and out through another.
    In,
    /// In through another interface, and out through the guarded one.
    Out,
    /// In through the guarded interface of the host, for its own processes.
    ToHost,
    /// From processes of the host, out through the guarded interface.
    FromHost,
}

impl Way {
    /// The interface that an endpoint has to be bound to.
    pub(super) const fn guarded(self) -> &'static str {
        match self {
            Self::In => "g0",
            Self::Out => "g1",
            Self::ToHost | Self::FromHost => "h0",
        }
    }
}

/// Why there is no wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WireError(String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for WireError {}

/// Guarded and far ends of the two forwarded ways, and the host's interface.
const DEVICES: [&str; 5] = ["g0", "o0", "g1", "o1", "h0"];
/// The nflog group that tells of packets that came to the host.
const LOCAL_GROUP: u16 = 65_535;

/// Every packet is decided for itself, so none is tracked. What comes to the host is noted after the policy and goes no
/// further: the host would answer it. Types of neighbour discovery would be, too, so they are stopped as others.
const HELPER: &str = "table inet portcullis-oracle {
    chain raw_in { type filter hook prerouting priority -310; policy accept; notrack; }
    chain raw_out { type filter hook output priority -310; policy accept; notrack; }
    chain to_host {
        type filter hook input priority 300; policy accept;
        iifname h0 log prefix local group 65535 queue-threshold 1
        iifname h0 drop
    }
}
";

impl Wire {
    /// Moves the calling thread to a namespace of its own and sets it up.
    pub(super) fn open() -> Result<Self, WireError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
            WireError(format!(
                "cannot make a network namespace ({}); root is needed",
                errno.desc().to_lowercase()
            ))
        })?;
        // Before any interface is there, so that all of them begin with it.
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/default/accept_local", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/addr_gen_mode", "1"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ] {
            std::fs::write(format!("/proc/sys/{name}"), value)
                .map_err(|error| WireError(format!("cannot set {name}: {error}")))?;
        }
        let open = |name: &str| {
            let device = DeviceBuilder::new()
                .name(name)
                .build_sync()
                .map_err(|error| WireError(format!("cannot make a TUN device (/dev/net/tun): {error}")))?;
            device
                .set_nonblocking(true)
                .map_err(|error| WireError(format!("cannot use a TUN device: {error}")))?;
            Ok(device)
        };
        let [a, b, c, d, e] = DEVICES;
        let devices = [open(a)?, open(b)?, open(c)?, open(d)?, open(e)?];
        for (family, host) in [("-4", "198.18.255.254/32"), ("-6", "100::ffff/128")] {
            feed("ip", "package iproute2", &[family, "-batch", "-"], &links(host))?;
        }
        feed("nft", "package nftables", &["-f", "-"], HELPER)?;
        let raw = |family, kind| {
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, kind)
                .map_err(|errno| WireError(format!("cannot open a raw socket: {}", errno.desc())))
        };
        let raw =
            [raw(AddressFamily::Inet, SockProtocol::Raw)?, raw(AddressFamily::Inet6, SockProtocol::Raw)?];
        let failed = |error: ApplyError| WireError(error.to_string());
        let mut local = Events::open().map_err(failed)?;
        local.listen(LOCAL_GROUP).map_err(failed)?;
        Ok(Self { devices, raw, local })
    }

    /// Sends `packet`; whether it came out. What events the policy sent is for the caller to read.
    pub(super) fn pass(&mut self, way: Way, packet: &[u8], to: IpAddr) -> Result<bool, WireError> {
        let [g0, o0, g1, o1, h0] = &self.devices;
        match way {
            Way::In => through(g0, o0, packet),
            Way::Out => through(o1, g1, packet),
            Way::ToHost => {
                write(h0, packet)?;
                let mut came = false;
                while let Some(LogMessage { packet: seen, .. }) = next(&mut self.local)? {
                    came |= is_same(&seen, packet);
                }
                Ok(came)
            }
            Way::FromHost => {
                send(&self.raw, packet, to)?;
                Ok(came_out(h0, packet))
            }
        }
    }
}

fn next(events: &mut Events) -> Result<Option<LogMessage>, WireError> {
    events.next(core::time::Duration::ZERO).map_err(|error| WireError(error.to_string()))
}

/// Sends as a process of the host would. A policy that drops says so as a missing permission.
fn send(raw: &[OwnedFd; 2], packet: &[u8], to: IpAddr) -> Result<(), WireError> {
    let [v4, v6] = raw;
    let flags = MsgFlags::empty();
    let sent = match to {
        IpAddr::V4(to) => sendto(v4.as_raw_fd(), packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), flags),
        IpAddr::V6(to) => {
            let to = SocketAddrV6::new(to, 0, 0, 0);
            sendto(v6.as_raw_fd(), packet, &SockaddrIn6::from(to), flags)
        }
    };
    match sent {
        Ok(_) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(WireError(format!("cannot send to {to}: {}", errno.desc().to_lowercase()))),
    }
}

/// Writes to one device and looks whether the packet leaves through the other. The kernel does all of that while it
/// takes the packet.
fn through(from: &SyncDevice, to: &SyncDevice, packet: &[u8]) -> Result<bool, WireError> {
    write(from, packet)?;
    Ok(came_out(to, packet))
}

fn write(device: &SyncDevice, packet: &[u8]) -> Result<(), WireError> {
    device.send(packet).map(drop).map_err(|error| WireError(format!("cannot write to a TUN device: {error}")))
}

fn came_out(device: &SyncDevice, packet: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    let mut came = false;
    while let Ok(count) = device.recv(&mut buffer) {
        came |= buffer.get(..count).is_some_and(|seen| is_same(seen, packet));
    }
    came
}

/// Whether what was seen is what was sent, one hop later: time to live and checksum of the IPv4 header differ.
fn is_same(seen: &[u8], sent: &[u8]) -> bool {
    let fixed = |packet: &[u8]| {
        let mut packet = packet.to_vec();
        let changing: &[usize] =
            if packet.first().is_some_and(|first| first >> 4 == 4) { &[8, 10, 11] } else { &[7] };
        for at in changing {
            if let Some(byte) = packet.get_mut(*at) {
                *byte = 0;
            }
        }
        packet
    };
    let shown = seen.len().min(sent.len());
    sent.get(..shown).is_some_and(|sent| shown > 0 && fixed(seen) == fixed(sent))
}

/// Routes that depend on nothing but the interface a packet came in through. `host` is an address for the host to send
/// from; its packets carry their own.
fn links(host: &str) -> String {
    let mut lines = String::from("link set lo up\n");
    for device in DEVICES {
        lines.push_str(&format!("link set {device} up\n"));
    }
    lines.push_str(&format!("addr add {host} dev h0\nroute add default dev h0\n"));
    for (table, input, output) in [(100, "g0", "o0"), (101, "o1", "g1")] {
        lines.push_str(&format!("rule add pref 10 iif {input} lookup {table}\n"));
        lines.push_str(&format!("route add default dev {output} table {table}\n"));
    }
    lines.push_str("rule add pref 10 iif h0 lookup 102\nroute add local default dev lo table 102\n");
    // The table of local addresses would otherwise be asked first.
    lines.push_str("rule add pref 32000 lookup local\nrule del pref 0\n");
    lines
}

/// Runs a program in this namespace with `input`.
fn feed(program: &str, from: &str, arguments: &[&str], input: &str) -> Result<(), WireError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => WireError(format!("there is no program `{program}` ({from})")),
        _ => WireError(format!("cannot run `{program}`: {error}")),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(WireError(format!("`{program}` fails: {}", said.trim())));
    }
    written.transpose().map_err(failed).map(drop)
}
