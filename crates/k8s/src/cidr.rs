//! Networks as the Kubernetes APIs spell them.

use alloc::format;
use core::net::IpAddr;

use portcullis_core::net::{Cidr, HostBits};
use portcullis_core::quote::quoted;

use crate::context::Context;
use crate::path::Path;

/// `text` as a network; notes an error when it is none.
///
/// Host bits are cleared with a warning (decision D21). Leading zeros, zones, a missing prefix and IPv4-mapped
/// addresses are refused. Source: kubernetes `apimachinery/pkg/util/validation/ip.go`.
pub(crate) fn parse(text: &str, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Cidr> {
    let address = text.split_once('/').and_then(|(address, _)| address.parse::<IpAddr>().ok());
    if let Some(IpAddr::V6(v6)) = address
        && v6.to_ipv4_mapped().is_some()
    {
        cx.error(path, format!("{} has an IPv4-mapped address, write the IPv4 network", quoted(text)));
        return None;
    }
    match Cidr::parse_lenient(text) {
        Ok((net, bits)) => {
            if bits == HostBits::Set {
                cx.warn(path, format!("{} has bits set beyond its prefix, read as `{net}`", quoted(text)));
            }
            Some(net)
        }
        Err(error) => {
            cx.error(path, format!("{} is not a network: {error}", quoted(text)));
            None
        }
    }
}
