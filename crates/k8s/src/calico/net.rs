//! Addresses and networks of Calico objects.

use alloc::format;
use core::net::IpAddr;

use portcullis_core::net::{Cidr, HostBits, canonical};
use portcullis_core::quote::quoted;

use crate::context::Context;
use crate::path::Path;

/// Reads a network. Bits beyond the prefix are cleared (decision D21), and an address without a prefix length is
/// that address alone, both with a warning: Calico's validator refuses either, its dataplane reads them this way.
///
/// Source: Calico `libcalico-go/lib/net/ipnet.go`.
pub(super) fn network(cx: &mut Context<'_>, path: &Path<'_>, text: &str) -> Option<Cidr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let net = Cidr::host(address);
        cx.warn(path, format!("{} has no prefix length and is read as `{net}`", quoted(text)));
        return Some(net);
    }
    parse(cx, path, text)
}

/// Reads a network or an address of a network set, where both are equally allowed.
pub(super) fn network_or_address(cx: &mut Context<'_>, path: &Path<'_>, text: &str) -> Option<Cidr> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(Cidr::host(address)),
        Err(_) => parse(cx, path, text),
    }
}

/// Reads an address that may be written as a network of one address.
pub(super) fn single_address(cx: &mut Context<'_>, path: &Path<'_>, text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(canonical(address));
    }
    match Cidr::parse_lenient(text) {
        Ok((net, _)) if net.address() == net.last_address() => Some(net.address()),
        Ok(_) => {
            cx.error(path, format!("{} holds more than one address", quoted(text)));
            None
        }
        Err(error) => {
            cx.error(path, format!("{} is not an address: {error}", quoted(text)));
            None
        }
    }
}

/// Reads an address.
pub(super) fn address(cx: &mut Context<'_>, path: &Path<'_>, text: &str) -> Option<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(canonical(address)),
        Err(_) => {
            cx.error(path, format!("{} is not an IP address", quoted(text)));
            None
        }
    }
}

fn parse(cx: &mut Context<'_>, path: &Path<'_>, text: &str) -> Option<Cidr> {
    match Cidr::parse_lenient(text) {
        Ok((net, HostBits::Clear)) => Some(net),
        Ok((net, HostBits::Set)) => {
            cx.warn(path, format!("{} has bits set beyond its prefix and is read as `{net}`", quoted(text)));
            Some(net)
        }
        Err(error) => {
            cx.error(path, format!("{} is not a network: {error}", quoted(text)));
            None
        }
    }
}
