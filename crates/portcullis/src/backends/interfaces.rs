//! The node's interfaces, asked of the kernel.

use core::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use portcullis_core::backend::NodeInterfaces;

/// The interfaces and addresses of the network namespace of this thread, for
/// [`LocalNode::with_interfaces`](crate::local_node::LocalNode::with_interfaces). None are known where the kernel does
/// not tell.
#[must_use]
pub fn node_interfaces() -> NodeInterfaces {
    let mut node = NodeInterfaces::new();
    for entry in getifaddrs().into_iter().flatten() {
        let name = entry.interface_name.as_str();
        if let (None, Ok(index)) = (node.index(name), if_nametoindex(name)) {
            node = node.with_interface(name, index);
        }
        let address = entry.address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        if let Some(address) = address {
            node = node.with_address(name, address);
        }
    }
    node
}

#[cfg(test)]
mod tests {
    use super::node_interfaces;

    #[test]
    fn the_loopback_interface_is_found() {
        let node = node_interfaces();
        assert_eq!(node.index("lo"), Some(1));
        assert_eq!(node.interface_of(&"127.0.0.1".parse().unwrap()), Some("lo"));
    }
}
