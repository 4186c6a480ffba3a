//! What a question about the cluster needs beside the model.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, ServiceId, Update};

use super::World;
use super::part::Part;
use crate::error::Warning;
use crate::form::{Form, WorkloadRecord};
use crate::frontend::Frontend;
use crate::importer::owners::Owners;
use crate::importer::{PodPlace, WorkloadPods, complete, doubts};
use crate::workload::PodRecord;

impl World {
    /// The whole model, as changes to an empty one. Costs as much as there are objects.
    pub fn model(&self) -> impl Iterator<Item = Update> + '_ {
        self.parts().into_iter().filter_map(|part| self.derive(&part))
    }

    /// Where a pod is that is no endpoint; `None` for one that is, or that is not known.
    #[must_use]
    pub fn place(&self, pod: &EndpointId) -> Option<PodPlace> {
        self.pod(pod)?.place()
    }

    /// The workload endpoints of the model that have an address, by identity. Two pods can have one for a while: one of the
    /// objects is stale.
    pub fn endpoints_at(&self, address: IpAddr) -> impl Iterator<Item = &EndpointId> {
        self.usage.addresses.of(&address)
    }

    /// The workloads of a namespace that have pods, by name: as owner references, labels and names tell. Costs as much as
    /// there are pods in the namespace.
    #[must_use]
    pub fn workloads(&self, namespace: &Name) -> BTreeMap<EndpointId, Vec<WorkloadPods>> {
        let forms =
            |kind| self.objects.of_namespace(kind, namespace).filter_map(|(_, held)| held.form.as_ref());
        let pods: Vec<&PodRecord> = forms("Pod")
            .filter_map(|form| match form {
                Form::Pod(pod) => Some(&**pod),
                _ => None,
            })
            .collect();
        let workloads: Vec<&WorkloadRecord> = WORKLOADS
            .into_iter()
            .flat_map(forms)
            .filter_map(|form| match form {
                Form::Workload(workload) => Some(&**workload),
                _ => None,
            })
            .collect();
        let autoscalers = forms("HorizontalPodAutoscaler").filter_map(|form| match form {
            Form::Autoscaler(autoscaler) => Some(&**autoscaler),
            _ => None,
        });
        let owners = Owners::new(pods.iter().copied(), workloads.iter().copied(), autoscalers);
        let ids = pods.iter().map(|pod| pod.endpoint.id.clone());
        let of_calico = self.pods_of_calico(namespace).cloned();
        let named: BTreeSet<EndpointId> = ids.chain(of_calico).collect();
        owners.by_name(&named)
    }

    /// A service as clients reach it.
    #[must_use]
    pub fn frontend(&self, service: &ServiceId) -> Option<Frontend> {
        self.plan(service).map(|plan| self.frontend_of(plan))
    }

    /// The services that clients reach at an address: one of their own, an external one or one of a load balancer.
    pub fn services_at(&self, address: IpAddr) -> impl Iterator<Item = &ServiceId> {
        self.usage.frontends.of(&address)
    }

    /// All services as clients reach them, by name. Costs as much as there are services.
    pub fn frontends(&self) -> impl Iterator<Item = Frontend> + '_ {
        let services = self.objects.of_kind("Service");
        services.filter_map(|(_, held)| match &held.form {
            Some(Form::Service(plan)) => Some(self.frontend_of(plan)),
            _ => None,
        })
    }

    /// Doubts that only show when all objects are known, for the objects as they are. Costs as much as there are objects:
    /// for a report, not for each event.
    #[must_use]
    pub fn doubts(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let (mut given, mut implied) = (Vec::new(), Vec::new());
        for part in self.parts() {
            let Some(update) = self.derive(&part) else { continue };
            match &part {
                Part::Namespace(name) if self.is_implied(name) => implied.push(update),
                _ => given.push(update),
            }
        }
        complete::tiers(&mut given, &mut warnings);
        doubts::unknown_namespaces(&given, &mut warnings);
        doubts::shared_addresses(&given, &mut warnings);
        given.extend(implied);
        complete::untracked_on_wildcards(&given, &mut warnings);
        warnings
    }

    /// Whether nothing describes a namespace that is part of the model.
    fn is_implied(&self, namespace: &Name) -> bool {
        self.form("Namespace", None, namespace).is_none()
            && self.carrier(&alloc::format!("kns.{namespace}")).is_none()
    }
}

/// The kinds of what makes pods.
const WORKLOADS: [&str; 7] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"];
