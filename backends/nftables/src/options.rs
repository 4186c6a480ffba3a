//! What an embedder can choose.

use alloc::collections::BTreeSet;

use portcullis_core::backend::{DataplaneOptions, Interface, LowerError};
use portcullis_core::net::{Cidr, IpVersion};

use crate::command::Family;

/// Choices about the table: those that every dataplane takes, and nftables' own. Each setter returns the changed options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(crate) shared: DataplaneOptions,
    pub(crate) log_group: u16,
    pub(crate) mark: u32,
    pub(crate) limits: Limits,
}

/// How large the table may grow. An update beyond a limit is refused before anything is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most chains.
    pub chains: usize,
    /// Most sets and maps.
    pub sets: usize,
    /// Most elements of all sets and maps together.
    pub elements: usize,
}

impl Default for Limits {
    /// 8,192 chains and 4,096 sets, which nf_tables still changes in well under a second, and 4,000,000 elements.
    fn default() -> Self {
        Self { chains: 8_192, sets: 4_096, elements: 4_000_000 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl From<DataplaneOptions> for Options {
    /// Nflog group 4789, mark bit 12, the default limits.
    fn from(shared: DataplaneOptions) -> Self {
        Self { shared, log_group: 4789, mark: 0x1000, limits: Limits::default() }
    }
}

impl Options {
    /// The defaults of [`DataplaneOptions`], and those that [`Options::from`] adds.
    #[must_use]
    pub fn new() -> Self {
        Self::from(DataplaneOptions::new())
    }

    /// The nflog group that events go to.
    #[must_use]
    pub const fn with_log_group(mut self, group: u16) -> Self {
        self.log_group = group;
        self
    }

    /// The one bit of the packet mark that is ours. It is only used on nodes with untracked or pre-DNAT policy, to
    /// tell later hooks that such a policy allowed the packet; it is cleared again there. All other bits stay as
    /// they are.
    #[must_use]
    pub const fn with_mark(mut self, bit: u32) -> Self {
        self.mark = bit;
        self
    }

    /// How large the table may grow.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The choices that every dataplane takes. Their name is that of the tables; networks of services are not needed,
    /// because netfilter sees packets after destination NAT. Without [a check of
    /// claims](DataplaneOptions::with_check_neighbour_claims) there is no table of the family `arp`, so ARP passes closed interfaces,
    /// too. [`u32::MAX` events a second](DataplaneOptions::with_events_per_second) are no limit; with 0 there are none.
    #[must_use]
    pub const fn shared(&self) -> &DataplaneOptions {
        &self.shared
    }

    /// The nflog group that events go to.
    #[must_use]
    pub const fn log_group(&self) -> u16 {
        self.log_group
    }

    /// The families of the nodes that tunnels are accepted from.
    pub(crate) fn tunnel_families(&self) -> BTreeSet<IpVersion> {
        self.shared.tunnel_peers.iter().map(Cidr::version).collect()
    }

    /// The families that there is a table for.
    pub(crate) fn families(&self) -> BTreeSet<Family> {
        let arp = self.shared.check_neighbour_claims.then_some(Family::Arp);
        [Family::Inet].into_iter().chain(arp).collect()
    }

    /// Whether an interface is a workload's by its name.
    pub(crate) fn is_workloads(&self, interface: &Interface) -> bool {
        let prefixes = &self.shared.workload_interfaces;
        prefixes.iter().any(|prefix| interface.name().starts_with(prefix.name()))
    }

    /// Checks what neither the kernel nor `nft` would take.
    pub(crate) fn check(&self) -> Result<(), LowerError> {
        let name = self.shared.name.as_str();
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(part)
            && name.len() <= MAX_NAME
        {
            return Ok(());
        }
        let name = name.escape_debug();
        let reason = format!(
            "`{name}` is no name for a table: a letter, then letters, digits, `_` or `-`, {MAX_NAME} at most"
        );
        Err(LowerError::unsupported(None, reason))
    }
}

/// Longest name of a table that is used here; the kernel takes 255 bytes.
const MAX_NAME: usize = 128;
