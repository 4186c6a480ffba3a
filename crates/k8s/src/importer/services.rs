//! Services: what policy knows of them, and how clients reach them.

mod candidates;
mod listed;
mod plan;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use portcullis_core::model::{ServiceBackend, ServiceEndpoints, ServiceId, Update};

use crate::frontend::{Frontend, FrontendBackend};

use candidates::Candidates;
pub(crate) use listed::{
    Entry, Listed, Mirroring, OfEndpoints, OfSlice, SERVICE_NAME_LABEL, endpoints, seen, slice,
};
pub(crate) use plan::Plan;

pub(super) use candidates::Selectable;

/// The services of the input, and the objects that list backends.
#[derive(Debug, Default)]
pub(super) struct Services {
    services: BTreeMap<ServiceId, Plan>,
    slices: BTreeMap<ServiceId, Listed>,
    endpoints: BTreeMap<ServiceId, (Mirroring, Listed)>,
}

impl Services {
    pub(super) fn add(&mut self, plan: Plan) {
        self.services.insert(plan.frontend.id.clone(), plan);
    }

    pub(super) fn add_slice(&mut self, slice: OfSlice) {
        if let Some(id) = slice.service {
            self.slices.entry(id).or_default().extend(slice.listed);
        }
    }

    pub(super) fn add_endpoints(&mut self, endpoints: OfEndpoints) {
        self.endpoints.insert(endpoints.service, (endpoints.mirroring, endpoints.listed));
    }

    /// Adds the services to the model, and gives them as clients reach them, by name. `selectable` is what their selectors
    /// find; nothing where controllers write slices.
    pub(super) fn finish(
        mut self,
        selectable: Option<&Selectable>,
        updates: &mut Vec<Update>,
    ) -> Vec<Frontend> {
        let candidates =
            selectable.map_or_else(Candidates::default, |selectable| Candidates::new(selectable, updates));
        let mut found: Vec<ServiceEndpoints> = Vec::new();
        let mut frontends = Vec::new();
        for (id, plan) in self.services {
            let slices = self.slices.remove(&id);
            let endpoints = self.endpoints.remove(&id);
            let slices = slices.as_ref().map(Listed::entries);
            let endpoints = endpoints.as_ref().map(|(mirroring, listed)| (*mirroring, listed));
            let behind = Behind::new(&plan, slices, endpoints, plan.select(&candidates));
            found.push(ServiceEndpoints { id, backends: behind.seen().into_iter().collect() });
            frontends.push(behind.frontend());
        }
        let rest = self.slices.into_iter();
        found.extend(rest.map(|(id, slices)| ServiceEndpoints {
            id,
            backends: seen(slices.entries()).into_iter().collect(),
        }));
        updates.extend(found.into_iter().map(Update::Service));
        frontends
    }
}

/// What is behind a service: computed as policy sees it, and as clients reach it, only when asked for.
#[derive(Debug)]
pub(crate) struct Behind<'a, S> {
    plan: &'a Plan,
    told: Told<'a, S>,
}

/// What tells which backends there are.
#[derive(Debug)]
enum Told<'a, S> {
    Slices(S),
    /// `Endpoints` of a service with a selector, for which controllers write slices that are not in the input.
    Unsliced(&'a Listed),
    Mirrored(&'a Listed),
    /// Proxies read slices only, and nobody writes any.
    Skipped(&'a Listed),
    Selected(Vec<FrontendBackend>),
}

impl<'a, S: Iterator<Item = &'a Entry> + Clone> Behind<'a, S> {
    /// The backends that policy sees are those of the slices. Of a service without any, they are those that the
    /// controllers would write slices for: the pods that its selector selects, so that a manifest without slices means
    /// what it will mean in a cluster; or, for a service without selector, those of its `Endpoints`.
    /// Source: kubernetes `pkg/controller/endpointslicemirroring/endpointslicemirroring_controller.go`, `syncEndpoints`.
    pub(crate) fn new(
        plan: &'a Plan,
        slices: Option<S>,
        endpoints: Option<(Mirroring, &'a Listed)>,
        selected: Vec<FrontendBackend>,
    ) -> Self {
        let told = match (slices, plan.selector.is_some(), endpoints) {
            (Some(slices), _, _) => Told::Slices(slices),
            // What is behind it is known although none of it is in the input.
            (None, true, Some((_, listed))) if selected.is_empty() => Told::Unsliced(listed),
            (None, false, Some((Mirroring::Mirrored, listed))) => Told::Mirrored(listed),
            (None, false, Some((Mirroring::Skipped, listed))) => Told::Skipped(listed),
            (None, _, _) => Told::Selected(selected),
        };
        Self { plan, told }
    }

    /// As policy sees it.
    pub(crate) fn seen(&self) -> BTreeSet<ServiceBackend> {
        match &self.told {
            Told::Slices(slices) => seen(slices.clone()),
            Told::Mirrored(listed) => seen(listed.entries()),
            Told::Unsliced(_) | Told::Skipped(_) => BTreeSet::new(),
            Told::Selected(selected) => selected_as_seen(&self.plan.frontend, selected),
        }
    }

    /// As clients reach it.
    pub(crate) fn frontend(self) -> Frontend {
        let has_unmirrored_endpoints =
            matches!(&self.told, Told::Skipped(listed) if listed.entries().next().is_some());
        let backends = match self.told {
            Told::Slices(slices) => self.plan.listed(slices),
            Told::Unsliced(listed) | Told::Mirrored(listed) => self.plan.listed(listed.entries()),
            Told::Skipped(_) => Vec::new(),
            Told::Selected(selected) => selected,
        };
        Frontend { backends, has_unmirrored_endpoints, ..self.plan.frontend.clone() }
    }
}

/// Selected backends as policy sees them, whatever their state.
fn selected_as_seen(frontend: &Frontend, backends: &[FrontendBackend]) -> BTreeSet<ServiceBackend> {
    let port = |(index, number): &(usize, u16)| Some((frontend.ports.get(*index)?.protocol, *number));
    let of = |backend: &FrontendBackend| {
        let address = backend.address;
        let ports: Vec<_> = backend.targets.iter().filter_map(port).collect();
        ports.into_iter().map(move |port| ServiceBackend { address, port: Some(port) })
    };
    backends.iter().flat_map(of).collect()
}
