//! Which interfaces and addresses the endpoints of a node have.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::num::NonZeroU32;

use crate::label::Name;
use crate::model::EndpointId;
use crate::net::canonical;
use crate::quote::quoted;

/// A network interface of the node: its name, and the kernel's index where that is known.
///
/// Backends that work with indexes look an unknown one up when they apply, and fail for that endpoint alone when there is
/// no such interface. An interface that was made anew under an old name has another index; give the index, so that
/// it counts as another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface {
    name: Name,
    index: Option<NonZeroU32>,
}

impl Interface {
    /// Longest name in bytes; the kernel's `IFNAMSIZ` less the final zero.
    pub const MAX_LEN: usize = 15;

    /// The interface of this name.
    ///
    /// # Errors
    /// When the name is empty, longer than [`Interface::MAX_LEN`], or holds what the kernel or the nft language does not
    /// take: space, control characters, `/`, `:`, `"`, `*`, `\`, or bytes beyond ASCII.
    pub fn new(name: &str) -> Result<Self, InterfaceError> {
        let bad = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '"' | '*' | '\\');
        if name.is_empty() || name.len() > Self::MAX_LEN || name.contains(bad) || matches!(name, "." | "..") {
            return Err(InterfaceError(name.into()));
        }
        Ok(Self { name: name.into(), index: None })
    }

    /// The same with the kernel's index (`ip link`, `if_nametoindex`); 0 is not known.
    #[must_use]
    pub fn with_index(mut self, index: u32) -> Self {
        self.index = NonZeroU32::new(index);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The kernel's index, where it is known.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        self.index.map(NonZeroU32::get)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is no interface name: 1 to 15 printable ASCII characters without `/`, `:`, `*`, `\"` and `\\`",
    quoted(.0)
)]
pub struct InterfaceError(String);

/// Where the packets of one endpoint pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// A workload behind one host-side interface. Only packets with one of these addresses are its own; others that pass
    /// the interface are dropped. Several workloads may share an interface where the backend can tell them apart by
    /// address.
    Workload {
        /// The host's end of its interface.
        interface: Interface,
        /// Its addresses; IPv4-mapped ones stand for their IPv4 address.
        addresses: Vec<IpAddr>,
    },
    /// A workload behind one host-side interface, with any address. For networks that keep sources honest themselves.
    /// There is no exemption for traffic to itself (decision D10), because no address is known to be its own.
    WorkloadAnyAddress {
        /// The host's end of its interface.
        interface: Interface,
    },
    /// A host endpoint on these interfaces of the host, which are no workload's.
    Host {
        /// The interfaces.
        interfaces: Vec<Interface>,
    },
    /// The host endpoint for all interfaces (`*`), one on a node at most (decision D24).
    ///
    /// It guards the interfaces of the host that have no host endpoint of their own, and those of workloads whether or not
    /// there are other host endpoints: packets from a workload meet its pre-DNAT policy and, when they are forwarded, its
    /// forward ingress policy; packets forwarded to a workload meet its forward egress policy; packets from a workload to
    /// the host meet its host ingress policy where [host policy](crate::settings::WorkloadToHost::HostPolicy) decides
    /// about them. Packets of the host itself to its workloads meet none of it (decision D11); its untracked policy does
    /// not act on workloads (decision D25). It also stands for the node itself: where a backend guards the node's own
    /// sockets, it does so for this endpoint.
    ///
    /// Source: Calico `felix/rules/static.go` (`filterForwardChain`, `StaticManglePreroutingChain`), which dispatches by
    /// interface with `*` as the default.
    AllInterfaces {
        /// The interfaces of the host that no [`Binding::Host`] has. Backends that hook each interface need their names;
        /// those of workloads are known already.
        interfaces: Vec<Interface>,
    },
}

impl Binding {
    /// A workload with these addresses.
    #[must_use]
    pub fn workload(interface: Interface, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::Workload { interface, addresses: addresses.into_iter().map(canonical).collect() }
    }

    /// Whether it is that of a workload.
    #[must_use]
    pub const fn is_workload(&self) -> bool {
        matches!(self, Self::Workload { .. } | Self::WorkloadAnyAddress { .. })
    }

    /// The interfaces it takes.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        match self {
            Self::Workload { interface, .. } | Self::WorkloadAnyAddress { interface } => {
                core::slice::from_ref(interface)
            }
            Self::Host { interfaces } | Self::AllInterfaces { interfaces } => interfaces,
        }
    }
}

/// The endpoints of a node and the interfaces that have none.
///
/// An interface that is in none of the three lists is not touched: what passes there is not policy's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    endpoints: BTreeMap<EndpointId, Binding>,
    /// By name, as the uplinks are: an interface of that name has one role, whatever its index.
    closed: BTreeMap<Name, Interface>,
    uplinks: BTreeMap<Name, Interface>,
}

impl Bindings {
    /// No endpoints.
    #[must_use]
    pub const fn new() -> Self {
        Self { endpoints: BTreeMap::new(), closed: BTreeMap::new(), uplinks: BTreeMap::new() }
    }

    /// Binds `id`, in place of the binding it had. An interface that was [closed](Bindings::close) by this name is
    /// that endpoint's from now on. An endpoint that is bound and not in the snapshot is denied everything,
    /// a host endpoint also at its failsafe ports, which are not known then: what it forwards, and what its node receives and
    /// sends, but for neighbour discovery and loopback.
    pub fn bind(&mut self, id: EndpointId, binding: Binding) {
        for interface in binding.interfaces() {
            self.closed.remove(interface.name());
        }
        self.endpoints.insert(id, binding);
    }

    /// Takes the binding of `id` away. Its interface is not guarded from then on: [close](Bindings::close) one that
    /// stays.
    pub fn unbind(&mut self, id: &EndpointId) -> Option<Binding> {
        self.endpoints.remove(id)
    }

    /// An interface whose workload is not known yet, or not any more: nothing passes it in either direction but ARP and what
    /// the backend exempts everywhere. Takes the place of a closed interface of the same name.
    pub fn close(&mut self, interface: Interface) {
        self.closed.insert(interface.name.clone(), interface);
    }

    /// Takes the interface of this name out of the closed ones, for example when it is gone. Whether it was one.
    pub fn reopen(&mut self, name: &str) -> bool {
        self.closed.remove(name).is_some()
    }

    /// An interface of the host that no host endpoint guards: everything passes. On a node with services, eBPF has
    /// to see the packets of all uplinks, because what workloads send to services is decided where it leaves. Takes the
    /// place of an uplink of the same name.
    pub fn uplink(&mut self, interface: Interface) {
        self.uplinks.insert(interface.name.clone(), interface);
    }

    /// Forgets the uplink of this name. Whether there was one.
    pub fn remove_uplink(&mut self, name: &str) -> bool {
        self.uplinks.remove(name).is_some()
    }

    /// The binding of `id`.
    #[must_use]
    pub fn of(&self, id: &EndpointId) -> Option<&Binding> {
        self.endpoints.get(id)
    }

    /// The endpoints with their bindings, by identity.
    pub fn endpoints(&self) -> impl Iterator<Item = (&EndpointId, &Binding)> {
        self.endpoints.iter()
    }

    /// The closed interfaces.
    pub fn closed(&self) -> impl Iterator<Item = &Interface> {
        self.closed.values()
    }

    /// The uplinks.
    pub fn uplinks(&self) -> impl Iterator<Item = &Interface> {
        self.uplinks.values()
    }

    /// The endpoint for all interfaces, when there is one.
    #[must_use]
    pub fn all_interfaces(&self) -> Option<&EndpointId> {
        self.endpoints
            .iter()
            .find_map(|(id, binding)| matches!(binding, Binding::AllInterfaces { .. }).then_some(id))
    }

    /// Whether nothing is bound, closed or an uplink.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.closed.is_empty() && self.uplinks.is_empty()
    }

    /// Checks what no backend can do: two endpoints for all interfaces, or an interface that is in two roles at
    /// once (a workload's and a host's, two hosts', closed and bound). Two workloads may name one interface.
    ///
    /// # Errors
    /// The first conflict, by name of the interface.
    pub fn check(&self) -> Result<(), BindingError> {
        let mut roles: BTreeMap<&str, Role<'_>> = BTreeMap::new();
        let mut cover: Option<&EndpointId> = None;
        for (id, binding) in &self.endpoints {
            if matches!(binding, Binding::AllInterfaces { .. }) {
                if let Some(first) = cover {
                    return Err(BindingError::TwoForAll { first: first.clone(), second: id.clone() });
                }
                cover = Some(id);
            }
            let role = if binding.is_workload() { Role::Workload } else { Role::Host(id) };
            for interface in binding.interfaces() {
                take_role(&mut roles, interface, role)?;
            }
        }
        for interface in self.closed.values() {
            take_role(&mut roles, interface, Role::Closed)?;
        }
        for interface in self.uplinks.values() {
            take_role(&mut roles, interface, Role::Uplink)?;
        }
        Ok(())
    }
}

impl FromIterator<(EndpointId, Binding)> for Bindings {
    fn from_iter<I: IntoIterator<Item = (EndpointId, Binding)>>(bindings: I) -> Self {
        let mut all = Self::new();
        bindings.into_iter().for_each(|(id, binding)| all.bind(id, binding));
        all
    }
}

impl<const N: usize> From<[(EndpointId, Binding); N]> for Bindings {
    fn from(bindings: [(EndpointId, Binding); N]) -> Self {
        bindings.into_iter().collect()
    }
}

/// What an interface is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role<'a> {
    Workload,
    Host(&'a EndpointId),
    Closed,
    Uplink,
}

fn take_role<'a>(
    roles: &mut BTreeMap<&'a str, Role<'a>>,
    interface: &'a Interface,
    role: Role<'a>,
) -> Result<(), BindingError> {
    match roles.insert(interface.name(), role) {
        Some(before) if before != role => Err(BindingError::TwoRoles { interface: interface.clone() }),
        _ => Ok(()),
    }
}

/// Why bindings contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingError {
    /// There is one host endpoint for all interfaces on a node at most.
    #[error("{first} and {second} are both bound to all interfaces")]
    TwoForAll {
        /// The first by identity.
        first: EndpointId,
        /// The second.
        second: EndpointId,
    },
    /// An interface is a workload's, a host endpoint's, closed or an uplink, but not two of these.
    #[error("interface {interface} has two roles: a workload's, a host endpoint's, closed or uplink")]
    TwoRoles {
        /// The interface.
        interface: Interface,
    },
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec;

    use super::*;

    fn interface(name: &str) -> Interface {
        Interface::new(name).unwrap()
    }

    fn workload(name: &str, on: &str) -> (EndpointId, Binding) {
        let binding = Binding::workload(interface(on), ["::ffff:10.0.0.7".parse().unwrap()]);
        (EndpointId::workload("shop", name), binding)
    }

    fn host(name: &str, on: &[&str]) -> (EndpointId, Binding) {
        let interfaces = on.iter().map(|name| interface(name)).collect();
        (EndpointId::host(name), Binding::Host { interfaces })
    }

    #[test]
    fn names_that_the_kernel_or_nft_would_read_otherwise_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a:b",
            "veth*",
            "a\"b",
            "a\\b",
            "sixteen-letters!",
            "\u{e9}th0",
            "a\n",
        ] {
            let error = Interface::new(bad).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(interface("fifteen-letters").with_index(0).index(), None);
        assert_eq!(interface("veth0").with_index(7).index(), Some(7));
    }

    #[test]
    fn an_interface_has_one_role() {
        let two = |bindings: Bindings| bindings.check().unwrap_err().to_string();
        let shared = Bindings::from([workload("a", "veth0"), workload("b", "veth0")]);
        assert_eq!(shared.check(), Ok(()));
        assert!(two([workload("a", "veth0"), host("h", &["veth0"])].into()).contains("interface veth0"));
        assert!(two([host("g", &["eth0"]), host("h", &["eth1", "eth0"])].into()).contains("interface eth0"));
        let all = |name: &str| (EndpointId::host(name), Binding::AllInterfaces { interfaces: vec![] });
        assert!(two([all("x"), all("y")].into()).contains("hep/x and hep/y"));
        let mut closed = Bindings::from([workload("a", "veth0")]);
        closed.close(interface("veth0"));
        assert!(two(closed).contains("interface veth0"));
        let mut uplink = Bindings::from([host("h", &["eth0"])]);
        uplink.uplink(interface("eth0"));
        assert!(two(uplink).contains("interface eth0"));
    }

    #[test]
    fn a_closed_interface_becomes_its_workload_s() {
        let mut bindings = Bindings::new();
        bindings.close(interface("veth0").with_index(7));
        bindings.close(interface("veth1"));
        let (id, binding) = workload("a", "veth0");
        bindings.bind(id.clone(), binding);
        assert_eq!(bindings.closed().map(Interface::name).collect::<Vec<_>>(), ["veth1"]);
        assert_eq!(bindings.check(), Ok(()));
        let Some(Binding::Workload { addresses, .. }) = bindings.unbind(&id) else { panic!() };
        assert_eq!(addresses, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert!(bindings.reopen("veth1") && bindings.is_empty());
    }

    #[test]
    fn interfaces_are_told_apart_by_name() {
        let mut bindings = Bindings::new();
        for index in [7, 8] {
            bindings.close(interface("veth0").with_index(index));
            bindings.uplink(interface("eth0").with_index(index));
        }
        // The interface was made anew: the last index holds.
        assert_eq!(bindings.closed().map(Interface::index).collect::<Vec<_>>(), [Some(8)]);
        assert_eq!(bindings.uplinks().map(Interface::index).collect::<Vec<_>>(), [Some(8)]);
        assert!(!bindings.reopen("eth0") && !bindings.remove_uplink("veth0"));
        assert!(bindings.reopen("veth0") && bindings.remove_uplink("eth0") && bindings.is_empty());
        assert!(!bindings.reopen("veth0") && !bindings.remove_uplink("eth0"));
    }
}
