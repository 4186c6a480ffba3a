//! The node's interfaces, asked of the kernel.

use alloc::format;
use core::net::IpAddr;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use portcullis_core::backend::{DataplaneError, DataplaneErrorKind, NodeInterfaces};

/// The interfaces and addresses of the network namespace of this thread, for
/// [`LocalNode::ending_newly_denied`](crate::local_node::LocalNode::ending_newly_denied).
///
/// # Errors
/// When the kernel does not tell.
pub fn node_interfaces() -> Result<NodeInterfaces, DataplaneError> {
    let mut node = NodeInterfaces::new();
    for entry in getifaddrs().map_err(unreadable)? {
        let name = entry.interface_name.as_str();
        if node.index(name).is_none() {
            match if_nametoindex(name) {
                Ok(index) => node = node.with_interface(name, index),
                // It went in between.
                Err(Errno::ENODEV | Errno::ENXIO) => continue,
                Err(error) => return Err(unreadable(error)),
            }
        }
        let address = entry.address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        if let Some(address) = address {
            node = node.with_address(name, address);
        }
    }
    Ok(node)
}

fn unreadable(error: Errno) -> DataplaneError {
    let reason = format!("the interfaces of the node cannot be read: {error}");
    DataplaneError::new(DataplaneErrorKind::Environment, reason)
}

#[cfg(test)]
mod tests {
    use super::node_interfaces;

    #[test]
    fn the_loopback_interface_is_found() {
        let node = node_interfaces().unwrap();
        assert_eq!(node.index("lo"), Some(1));
        assert_eq!(node.interface_of(&"127.0.0.1".parse().unwrap()), Some("lo"));
    }
}
