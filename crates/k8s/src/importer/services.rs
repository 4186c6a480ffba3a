//! Services: what policy knows of them, and how clients reach them.

mod listed;
mod plan;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::{
    Endpoint, EndpointId, EndpointKind, ServiceBackend, ServiceEndpoints, ServiceId, Update,
};

use crate::error::{ConvertError, Warning};
use crate::frontend::{BackendState, Frontend, FrontendBackend};
use crate::names::Names;
use crate::service::{EndpointSlice, Endpoints, Service};
use crate::workload::{Hosting, PodRecord};

use listed::{Listed, Mirroring};
use plan::Plan;

/// The services of the input, and the objects that list backends.
#[derive(Debug, Default)]
pub(super) struct Services {
    services: BTreeMap<ServiceId, Plan>,
    slices: BTreeMap<ServiceId, Listed>,
    endpoints: BTreeMap<ServiceId, (Mirroring, Listed)>,
}

/// What a service's selector may find: endpoints of the model are known by their states, pods in their node's network
/// are given whole.
#[derive(Debug, Default)]
pub(super) struct Selectable {
    states: BTreeMap<EndpointId, BackendState>,
    on_hosts: Vec<(Endpoint, BackendState)>,
}

impl Selectable {
    /// Notes what services need of `pods`. Finished ones are behind no service.
    ///
    /// Source: kubernetes `staging/src/k8s.io/endpointslice/utils.go`, `ShouldPodBeInEndpoints`.
    pub(super) fn of(pods: &[PodRecord]) -> Self {
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

impl Services {
    pub(super) fn add(
        &mut self,
        service: &Service,
        names: &mut Names,
    ) -> Result<Vec<Warning>, Vec<ConvertError>> {
        let (plan, warnings) = Plan::read(service, names)?;
        self.services.insert(plan.frontend.id.clone(), plan);
        Ok(warnings)
    }

    pub(super) fn add_slice(
        &mut self,
        slice: &EndpointSlice,
        names: &mut Names,
    ) -> Result<Vec<Warning>, Vec<ConvertError>> {
        let (slice, warnings) = listed::slice(slice, names)?;
        if let Some(id) = slice.service {
            self.slices.entry(id).or_default().extend(slice.listed);
        }
        Ok(warnings)
    }

    pub(super) fn add_endpoints(
        &mut self,
        endpoints: &Endpoints,
        names: &mut Names,
    ) -> Result<Vec<Warning>, Vec<ConvertError>> {
        let (read, warnings) = listed::endpoints(endpoints, names)?;
        self.endpoints.insert(read.service, (read.mirroring, read.listed));
        Ok(warnings)
    }

    /// Adds the services to the model, and gives them as clients reach them, by name.
    ///
    /// The backends that policy sees are those of the slices. Of a service without any, they are those that the
    /// controllers would write slices for: the pods that its selector selects, so that a manifest without slices means
    /// what it will mean in a cluster; or, for a service without selector, those of its `Endpoints`.
    /// Source: kubernetes `pkg/controller/endpointslicemirroring/endpointslicemirroring_controller.go`, `syncEndpoints`.
    pub(super) fn finish(mut self, selectable: &Selectable, updates: &mut Vec<Update>) -> Vec<Frontend> {
        let candidates = candidates(selectable, updates);
        let mut found: Vec<ServiceEndpoints> = Vec::new();
        let mut frontends = Vec::new();
        for (id, plan) in self.services {
            let slices = self.slices.remove(&id);
            let endpoints = self.endpoints.remove(&id);
            let selected = plan.select(&candidates);
            let (seen, reached) = match (slices, plan.selector.is_some(), endpoints) {
                (Some(slices), _, _) => (slices.seen(), plan.listed(&slices)),
                // What is behind it is known although none of it is in the input.
                (None, true, Some((_, listed))) if selected.is_empty() => {
                    (BTreeSet::new(), plan.listed(&listed))
                }
                (None, false, Some((Mirroring::Mirrored, listed))) => (listed.seen(), plan.listed(&listed)),
                (None, false, Some((Mirroring::Skipped, listed))) => (BTreeSet::new(), plan.listed(&listed)),
                (None, _, _) => (seen(&plan.frontend, &selected), selected),
            };
            found.push(ServiceEndpoints { id, backends: seen.into_iter().collect() });
            frontends.push(Frontend { backends: reached, ..plan.frontend });
        }
        let rest = self.slices.into_iter();
        found.extend(
            rest.map(|(id, slices)| ServiceEndpoints { id, backends: slices.seen().into_iter().collect() }),
        );
        updates.extend(found.into_iter().map(Update::Service));
        frontends
    }
}

/// The backends as policy sees them, whatever their state.
fn seen(frontend: &Frontend, backends: &[FrontendBackend]) -> BTreeSet<ServiceBackend> {
    let port = |(index, number): &(usize, u16)| Some((frontend.ports.get(*index)?.protocol, *number));
    let of = |backend: &FrontendBackend| {
        let address = backend.address;
        let ports: Vec<_> = backend.targets.iter().filter_map(port).collect();
        ports.into_iter().map(move |port| ServiceBackend { address, port: Some(port) })
    };
    backends.iter().flat_map(of).collect()
}

/// The endpoints and host-network pods that a selector may select.
fn candidates<'a>(selectable: &'a Selectable, updates: &'a [Update]) -> Vec<Candidate<'a>> {
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

/// A pod that a selector may select.
#[derive(Debug)]
struct Candidate<'a> {
    endpoint: &'a Endpoint,
    addresses: &'a [IpAddr],
    state: BackendState,
}
