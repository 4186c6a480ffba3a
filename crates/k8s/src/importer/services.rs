//! Services: what policy knows of them, and how clients reach them.

mod candidates;
mod listed;
mod plan;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use portcullis_core::model::{ServiceBackend, ServiceEndpoints, ServiceId, Update};

use crate::error::{ConvertErrors, Warning};
use crate::frontend::{Frontend, FrontendBackend};
use crate::names::Names;
use crate::service::{EndpointSlice, Endpoints, Service};

use candidates::Candidates;
use listed::{Listed, Mirroring};
use plan::Plan;

pub(super) use candidates::Selectable;

/// The services of the input, and the objects that list backends.
#[derive(Debug, Default)]
pub(super) struct Services {
    services: BTreeMap<ServiceId, Plan>,
    slices: BTreeMap<ServiceId, Listed>,
    endpoints: BTreeMap<ServiceId, (Mirroring, Listed)>,
}

impl Services {
    pub(super) fn add(
        &mut self,
        service: &Service,
        names: &mut Names,
    ) -> Result<Vec<Warning>, ConvertErrors> {
        let (plan, warnings) = Plan::read(service, names)?;
        self.services.insert(plan.frontend.id.clone(), plan);
        Ok(warnings)
    }

    pub(super) fn add_slice(
        &mut self,
        slice: &EndpointSlice,
        names: &mut Names,
    ) -> Result<Vec<Warning>, ConvertErrors> {
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
    ) -> Result<Vec<Warning>, ConvertErrors> {
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
        let candidates = Candidates::new(selectable, updates);
        let mut found: Vec<ServiceEndpoints> = Vec::new();
        let mut frontends = Vec::new();
        for (id, mut plan) in self.services {
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
                // Proxies read slices only, and nobody writes any.
                (None, false, Some((Mirroring::Skipped, listed))) => {
                    plan.frontend.has_unmirrored_endpoints = listed.entries().next().is_some();
                    (BTreeSet::new(), Vec::new())
                }
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
