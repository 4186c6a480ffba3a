//! Settings of all nodes and of single ones, from the objects that configure them.

use portcullis_core::settings::{NodeSettings, Settings, Tunnel};

use crate::calico::FelixSettings;

/// Which settings the objects say something about, of all nodes or of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Failsafe ports, inbound or outbound.
    pub failsafes: bool,
    /// What happens to traffic of workloads to their host.
    pub workload_to_host: bool,
    /// Tunnels that workloads may send.
    pub tunnels: bool,
}

/// The settings of every node: for each field what the node's own object says, else the one for all nodes, else the
/// default. Source: Calico `felix/config/config_params.go` (`Source`: the datastore's values for one host come before
/// those for all).
pub(crate) fn merge<'a>(
    felix: impl IntoIterator<Item = &'a FelixSettings> + Clone,
) -> (Settings, Configured) {
    let (mut settings, mut configured) = (Settings::default(), Configured::default());
    for says in felix.clone().into_iter().filter(|says| says.node.is_none()) {
        apply(says, &mut settings.every_node);
    }
    for says in felix {
        if let Some(node) = &says.node {
            let of_node = of_node(&settings, says);
            settings.nodes.insert(node.clone(), of_node);
        }
        let told = told(says);
        configured.failsafes |= told.failsafes;
        configured.workload_to_host |= told.workload_to_host;
        configured.tunnels |= told.tunnels;
    }
    (settings, configured)
}

/// The settings of a node for which `says` is, where those of every node are known.
pub(crate) fn of_node(settings: &Settings, says: &FelixSettings) -> NodeSettings {
    let mut of_node = settings.every_node.clone();
    apply(says, &mut of_node);
    of_node
}

/// What an object says something about.
pub(crate) const fn told(says: &FelixSettings) -> Configured {
    Configured {
        failsafes: says.inbound.is_some() || says.outbound.is_some(),
        workload_to_host: says.workload_to_host.is_some(),
        tunnels: says.allow_ipip.is_some() || says.allow_vxlan.is_some(),
    }
}

fn apply(says: &FelixSettings, settings: &mut NodeSettings) {
    if let Some(inbound) = &says.inbound {
        settings.failsafes.inbound.clone_from(inbound);
    }
    if let Some(outbound) = &says.outbound {
        settings.failsafes.outbound.clone_from(outbound);
    }
    if let Some(action) = says.workload_to_host {
        settings.workload_to_host = action;
    }
    for (allow, is_meant) in [
        (says.allow_ipip, (|tunnel| matches!(tunnel, Tunnel::Protocol(_))) as fn(&Tunnel) -> bool),
        (says.allow_vxlan, |tunnel| matches!(tunnel, Tunnel::Udp(_))),
    ] {
        let Some(allow) = allow else { continue };
        settings.tunnels.retain(|tunnel| !is_meant(tunnel));
        if !allow {
            settings.tunnels.extend(Tunnel::DEFAULT.iter().filter(|tunnel| is_meant(tunnel)));
        }
    }
    // In one order, whichever object says what: nodes with equal lists share programs.
    settings.tunnels.sort_unstable();
}
