//! The pods that selectors of services may select.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::{Endpoint, EndpointId, EndpointKind, Update};

use crate::frontend::BackendState;
use crate::workload::{Hosting, PodRecord};

/// What a service's selector may find: endpoints of the model are known by their states, pods in their node's network
/// are given whole.
#[derive(Debug, Default)]
pub(in crate::importer) struct Selectable {
    states: BTreeMap<EndpointId, BackendState>,
    on_hosts: Vec<(Endpoint, BackendState)>,
}

impl Selectable {
    /// Notes what services need of `pods`. Finished ones are behind no service.
    ///
    /// Source: kubernetes `staging/src/k8s.io/endpointslice/utils.go`, `ShouldPodBeInEndpoints`.
    pub(in crate::importer) fn of(pods: &[PodRecord]) -> Self {
        let mut selectable = Self::default();
        for pod in pods {
            match pod.hosting {
                Hosting::Own => drop(selectable.states.insert(pod.endpoint.id.clone(), pod.state)),
                Hosting::Host => {
                    let mut endpoint = pod.endpoint.clone();
                    if endpoint.addresses.is_empty() {
                        endpoint.addresses.clone_from(&pod.host_addresses);
                    }
                    selectable.on_hosts.push((endpoint, pod.state));
                }
                Hosting::Finished => {}
            }
        }
        selectable
    }
}

/// A pod that a selector may select.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) addresses: &'a [IpAddr],
    pub(super) state: BackendState,
}

/// The pods that selectors may select, by namespace and label, so that a service looks at few of them.
#[derive(Debug, Default)]
pub(super) struct Candidates<'a> {
    all: Vec<Candidate<'a>>,
    /// Positions in `all`, in order.
    by_label: BTreeMap<(&'a str, &'a str, &'a str), Vec<usize>>,
}

impl<'a> Candidates<'a> {
    /// The endpoints of `updates`, and the host-network pods.
    pub(super) fn new(selectable: &'a Selectable, updates: &'a [Update]) -> Self {
        let all = list(selectable, updates);
        let mut by_label: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, candidate) in all.iter().enumerate() {
            let endpoint = candidate.endpoint;
            let Some(namespace) = &endpoint.id.namespace else { continue };
            for (key, value) in endpoint.labels.iter() {
                by_label.entry((namespace.as_str(), key.as_str(), value.as_str())).or_default().push(index);
            }
        }
        Self { all, by_label }
    }

    /// The pods of `namespace` with every label of `selector`, which is not empty.
    pub(super) fn selected<'s>(
        &'s self,
        namespace: &'s Name,
        selector: &'s BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'s Candidate<'a>> {
        let labels = selector.iter();
        let found = labels.map(|(key, value)| self.with(namespace, key, value));
        let rarest = found.min_by_key(|found| found.len()).unwrap_or_default();
        rarest.iter().filter_map(|index| self.all.get(*index)).filter(move |candidate| {
            selector.iter().all(|(key, value)| candidate.endpoint.labels.value(key) == Some(value))
        })
    }

    /// Positions of the pods of `namespace` that have a label.
    fn with<'s>(&'s self, namespace: &'s str, key: &'s str, value: &'s str) -> &'s [usize] {
        self.by_label.get(&(namespace, key, value)).map(Vec::as_slice).unwrap_or_default()
    }
}

fn list<'a>(selectable: &'a Selectable, updates: &'a [Update]) -> Vec<Candidate<'a>> {
    let nodes: BTreeMap<&Name, &[IpAddr]> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Node(node) => Some((&node.name, node.addresses.as_slice())),
            _ => None,
        })
        .collect();
    let own = updates.iter().filter_map(|update| match update {
        Update::Endpoint(endpoint) if endpoint.id.kind == EndpointKind::Workload => {
            let state = selectable.states.get(&endpoint.id).copied().unwrap_or(BackendState::Ready);
            Some(Candidate { endpoint, addresses: &endpoint.addresses, state })
        }
        _ => None,
    });
    let on_hosts = selectable.on_hosts.iter().map(|(endpoint, state)| {
        let of_node = endpoint.node.as_ref().and_then(|node| nodes.get(node)).copied();
        let addresses = match endpoint.addresses.as_slice() {
            [] => of_node.unwrap_or_default().get(..1).unwrap_or_default(),
            own => own,
        };
        Candidate { endpoint, addresses, state: *state }
    });
    own.chain(on_hosts).collect()
}
