//! Each part of the model, from the objects and counts as they are.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::{Labels, Name};
use portcullis_core::model::{
    Endpoint, EndpointId, EndpointKind, Namespace, Node, Policy, PolicyId, Profile, Rule, ServiceAccount,
    ServiceEndpoints, ServiceId, Tier, Update,
};

use super::World;
use super::key::Place;
use super::part::Part;
use crate::form::{Carrier, Form, ProfileRecord};
use crate::frontend::Frontend;
use crate::gap::{self, Gap};
use crate::importer::complete;
use crate::importer::services::{self, Behind, Entry, Plan};
use crate::importer::{BaselineReading, services::Listed};
use crate::safe_form;
use crate::standing::Clarity;
use crate::tier;
use crate::workload::{Hosting, PodRecord};

impl World {
    /// `part` as it has to be in the model; `None` when it is not there.
    pub(super) fn derive(&self, part: &Part) -> Option<Update> {
        match part {
            Part::Policy(id) => self.policy(id).map(Update::Policy),
            Part::Endpoint(id) => self.endpoint(id).cloned().map(Update::Endpoint),
            Part::NetworkSet(id) => {
                let kind = if id.namespace.is_some() { "NetworkSet" } else { "GlobalNetworkSet" };
                match self.form(kind, id.namespace.as_ref(), &id.name)? {
                    Form::NetworkSet(set) => {
                        let mut set = set.clone();
                        if self.is_unknown(id.namespace.as_ref(), None) {
                            gap::mark(&mut set.labels);
                        }
                        Some(Update::NetworkSet(set))
                    }
                    _ => None,
                }
            }
            Part::ServiceAccount(namespace, name) => {
                self.service_account(namespace, name).map(Update::ServiceAccount)
            }
            Part::Node(name) => self.node(name).map(Update::Node),
            Part::Service(id) => self.service(id).map(Update::Service),
            Part::Namespace(name) => self.namespace(name).map(Update::Namespace),
            Part::Profile(name) => match self.objects.held("Profile", &cluster_wide(name)) {
                Some(held) => match &held.form {
                    Some(Form::Profile(record)) => {
                        let mut profile = record.profile.clone();
                        self.guard(&mut profile.ingress);
                        self.guard(&mut profile.egress);
                        Some(Update::Profile(profile))
                    }
                    // A missing profile denies (decision D6), and so does one that is not known.
                    _ => None,
                },
                None if self.usage.profiles.contains(name) => {
                    complete::implicit_profile(name).map(Update::Profile)
                }
                None => None,
            },
            Part::Tier(name) => self.tier(name).map(Update::Tier),
        }
    }

    pub(super) fn form(&self, kind: &str, namespace: Option<&Name>, name: &Name) -> Option<&Form> {
        self.objects.form(kind, &Place { namespace: namespace.cloned(), name: name.clone() })
    }

    /// Whether nothing is known of a namespace that exists, or of a service account in it: then its labels are not, and a
    /// selector that asks for a label to be missing would find it so.
    fn is_unknown(&self, namespace: Option<&Name>, account: Option<&Name>) -> bool {
        let unknown = &self.usage.unknown;
        let Some(namespace) = namespace.filter(|_| !unknown.is_empty()) else { return false };
        unknown.contains(&(namespace.clone(), None))
            || account.is_some_and(|account| unknown.contains(&(namespace.clone(), Some(account.clone()))))
    }

    /// What is not known of objects that rules ask for.
    fn gaps(&self) -> impl Iterator<Item = &Gap> + Clone {
        let gaps = self.usage.gaps.iter();
        gaps.filter_map(|(kind, place)| self.objects.held(kind, place)?.gap.as_ref())
    }

    fn guard(&self, rules: &mut [Rule]) {
        if !self.usage.gaps.is_empty() {
            gap::guard(rules, self.gaps());
        }
    }

    /// A policy as its object says it.
    pub(super) fn written(&self, id: &PolicyId) -> Option<&Policy> {
        let policies = self.policies_of(id)?.0;
        policies.iter().find(|policy| policy.id == *id)
    }

    /// The policies of the object that a policy is of, and how much of the object they say.
    fn policies_of(&self, id: &PolicyId) -> Option<(&[Policy], Clarity)> {
        // The policies that stand beside an object's own have its name and a `#`, which no name of an object has.
        let object = id.name.split_once('#').map_or_else(|| id.name.clone(), |(name, _)| Name::new(name));
        let held = self.objects.held(&id.kind, &Place { namespace: id.namespace.clone(), name: object })?;
        match &held.form {
            Some(Form::Policies(policies)) => Some((policies, held.clarity)),
            _ => None,
        }
    }

    fn policy(&self, id: &PolicyId) -> Option<Policy> {
        if id.kind.as_str() == gap::CLOSING {
            let is_there = self.gaps().any(Gap::marks_endpoints);
            return gap::closing().into_iter().find(|policy| is_there && policy.id == *id);
        }
        let (policies, clarity) = self.policies_of(id)?;
        match policies.iter().find(|policy| policy.id == *id) {
            Some(policy) if self.is_tier_unknown(&policy.tier) => Some(safe_form::closed(policy)),
            Some(policy) => {
                let mut policy = policy.clone();
                self.guard(&mut policy.ingress);
                self.guard(&mut policy.egress);
                Some(policy)
            }
            // A policy that may select other pods than its author meant keeps nothing away from them.
            None if self.options.baseline == BaselineReading::PerPod && clarity != Clarity::Unclear => {
                policies.iter().filter_map(complete::shield_of).find(|shield| shield.id == *id)
            }
            None => None,
        }
    }

    /// Whether a tier exists and its position and end are not known.
    fn is_tier_unknown(&self, tier: &Name) -> bool {
        let held = self.objects.held("Tier", &cluster_wide(tier));
        held.is_some_and(|held| held.form.is_none()) && !tier::is_built_in(tier)
    }

    pub(super) fn tier(&self, name: &Name) -> Option<Tier> {
        match self.objects.held("Tier", &cluster_wide(name)).map(|held| &held.form) {
            Some(Some(Form::Tier(tier))) => Some(tier.clone()),
            // Its policies are in the closed tier.
            Some(_) if !tier::is_built_in(name) => None,
            _ => {
                let of_use = [tier::shield(), tier::closed()];
                let of_use = of_use.into_iter().filter(|tier| self.usage.own_tiers.contains(&tier.name));
                tier::built_in().chain(of_use).find(|tier| tier.name == *name)
            }
        }
    }

    /// An endpoint of the model.
    pub(super) fn endpoint(&self, id: &EndpointId) -> Option<&Endpoint> {
        let endpoint = match id.kind {
            EndpointKind::Host => match self.form("HostEndpoint", None, &id.name)? {
                Form::Endpoint(endpoint) => endpoint,
                _ => return None,
            },
            // A WorkloadEndpoint says more than the pod that it was made from.
            EndpointKind::Workload => match self.workload_endpoint(id) {
                Some((_, Clarity::Unclear)) => return None,
                Some((endpoint, _)) => endpoint,
                None if self.has_lost_endpoints(id.namespace.as_ref()) => return None,
                None => self.pod(id).filter(|pod| pod.hosting == Hosting::Own).map(|pod| &pod.endpoint)?,
            },
        };
        let is_unknown = self.is_unknown(id.namespace.as_ref(), endpoint.service_account.as_ref());
        (!is_unknown).then_some(endpoint)
    }

    pub(super) fn pod(&self, id: &EndpointId) -> Option<&PodRecord> {
        match self.form("Pod", id.namespace.as_ref(), &id.name)? {
            Form::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    /// What the first WorkloadEndpoint of a pod says, and whether it says all: otherwise the pod is closed.
    fn workload_endpoint(&self, id: &EndpointId) -> Option<(&Endpoint, Clarity)> {
        let place = self.workload_endpoints_of(id).next()?;
        let held = self.objects.held("WorkloadEndpoint", place)?;
        match &held.form {
            Some(Form::Endpoint(endpoint)) => Some((endpoint, held.clarity)),
            _ => None,
        }
    }

    /// Whether a WorkloadEndpoint of a namespace may be that of any pod in it.
    fn has_lost_endpoints(&self, namespace: Option<&Name>) -> bool {
        namespace.is_some_and(|namespace| self.usage.lost_endpoints.has(namespace))
    }

    pub(super) fn profile(&self, name: &Name) -> Option<&Profile> {
        match self.form("Profile", None, name)? {
            Form::Profile(record) => Some(&record.profile),
            _ => None,
        }
    }

    /// The WorkloadEndpoints of a pod, of which the first counts.
    pub(super) fn workload_endpoints_of(&self, id: &EndpointId) -> impl Iterator<Item = &Place> {
        self.usage.workload_endpoints.of(id)
    }

    /// The pods of a namespace that have a WorkloadEndpoint.
    pub(super) fn pods_of_calico(&self, namespace: &Name) -> impl Iterator<Item = &EndpointId> {
        let from = self.usage.workload_endpoints.keys_from(EndpointId::workload(namespace.clone(), ""));
        let namespace = namespace.clone();
        from.take_while(move |id| id.namespace.as_ref() == Some(&namespace))
    }

    fn service_account(&self, namespace: &Name, name: &Name) -> Option<ServiceAccount> {
        let place = Place { namespace: Some(namespace.clone()), name: name.clone() };
        match self.objects.held("ServiceAccount", &place) {
            Some(held) => match &held.form {
                Some(Form::ServiceAccount(account)) => Some(account.clone()),
                _ => None,
            },
            None => match self.carrier(&format!("ksa.{namespace}.{name}"))? {
                Carrier::ServiceAccount(account) => Some(account.clone()),
                Carrier::Namespace(_) => None,
            },
        }
    }

    /// Whose labels a profile carries.
    pub(super) fn carrier(&self, profile: &str) -> Option<&Carrier> {
        match self.form("Profile", None, &Name::new(profile))? {
            Form::Profile(record) => {
                let ProfileRecord { carrier, .. } = &**record;
                carrier.as_ref()
            }
            _ => None,
        }
    }

    fn node(&self, name: &Name) -> Option<Node> {
        match self.objects.held("Node", &cluster_wide(name)) {
            Some(held) => match &held.form {
                Some(Form::Node(node)) => Some(node.clone()),
                _ => None,
            },
            None => {
                let addresses = self.usage.addresses_of_node(name)?.collect();
                Some(Node { name: name.clone(), labels: Labels::new(), addresses })
            }
        }
    }

    fn namespace(&self, name: &Name) -> Option<Namespace> {
        if let Some(held) = self.objects.held("Namespace", &cluster_wide(name)) {
            return match &held.form {
                Some(Form::Namespace(namespace)) => Some(namespace.clone()),
                _ => None,
            };
        }
        if let Some(Carrier::Namespace(namespace)) = self.carrier(&format!("kns.{name}")) {
            return Some(complete::named(namespace.clone()));
        }
        self.usage.namespaces.contains(name).then(|| complete::bare_namespace(name))
    }

    fn service(&self, id: &ServiceId) -> Option<ServiceEndpoints> {
        let seen = match self.plan(id) {
            Some(plan) => self.behind(plan).seen(),
            None => {
                let mut slices = self.slices(id).peekable();
                slices.peek()?;
                services::seen(slices.flat_map(Listed::entries))
            }
        };
        Some(ServiceEndpoints { id: id.clone(), backends: seen.into_iter().collect() })
    }

    pub(super) fn plan(&self, id: &ServiceId) -> Option<&Plan> {
        match self.form("Service", Some(&id.namespace), &id.name)? {
            Form::Service(plan) => Some(plan),
            _ => None,
        }
    }

    fn behind<'a>(&'a self, plan: &'a Plan) -> Behind<'a, impl Iterator<Item = &'a Entry> + Clone> {
        let id = &plan.frontend.id;
        let slices: Vec<&Entry> = self.slices(id).flat_map(Listed::entries).collect();
        let has_slices = self.slices(id).next().is_some();
        let endpoints = match self.form("Endpoints", Some(&id.namespace), &id.name) {
            Some(Form::Endpoints(of)) => Some((of.mirroring, &of.listed)),
            _ => None,
        };
        Behind::new(plan, has_slices.then(|| slices.into_iter()), endpoints, Vec::new())
    }

    /// What the slices of a service list.
    fn slices(&self, id: &ServiceId) -> impl Iterator<Item = &Listed> {
        self.usage.slices.of(id).filter_map(|place| match self.objects.form("EndpointSlice", place)? {
            Form::EndpointSlice(slice) => Some(&slice.listed),
            _ => None,
        })
    }

    /// A service as clients reach it, from its plan.
    pub(super) fn frontend_of(&self, plan: &Plan) -> Frontend {
        self.behind(plan).frontend()
    }

    /// Every part that may be in the model.
    pub(super) fn parts(&self) -> BTreeSet<Part> {
        let mut parts: BTreeSet<Part> = tier::built_in().map(|tier| Part::Tier(tier.name)).collect();
        parts.extend([tier::shield(), tier::closed()].map(|tier| Part::Tier(tier.name)));
        parts.extend(gap::closing().map(|policy| Part::Policy(policy.id)));
        for (kind, place, held) in self.objects.all() {
            parts.extend(self.parts_of(kind, place, held.form.as_ref()));
        }
        parts.extend(self.usage.namespaces.keys().cloned().map(Part::Namespace));
        parts.extend(self.usage.profiles.keys().cloned().map(Part::Profile));
        parts.extend(self.usage.nodes_of_pods().cloned().map(Part::Node));
        parts
    }

    /// The parts of the model that an object takes part in, what others refer to apart.
    pub(super) fn parts_of(&self, kind: &str, place: &Place, form: Option<&Form>) -> Vec<Part> {
        let (namespace, name) = (place.namespace.clone(), place.name.clone());
        match (form, namespace) {
            (Some(Form::Pod(pod)), _) => vec![Part::Endpoint(pod.endpoint.id.clone())],
            (Some(Form::Policies(policies)), _) => {
                let mut parts: Vec<Part> = policies.iter().map(|o| Part::Policy(o.id.clone())).collect();
                if self.options.baseline == BaselineReading::PerPod {
                    let shields = policies.iter().map(|policy| Part::Policy(tier::shield_id(&policy.id)));
                    parts.extend(shields);
                }
                parts
            }
            (Some(Form::NetworkSet(set)), _) => vec![Part::NetworkSet(set.id.clone())],
            (Some(Form::Endpoint(endpoint)), _) => vec![Part::Endpoint(endpoint.id.clone())],
            (Some(Form::Profile(record)), _) => {
                let carrier = record.carrier.as_ref().map(|carrier| match carrier {
                    Carrier::Namespace(o) => Part::Namespace(o.name.clone()),
                    Carrier::ServiceAccount(o) => Part::ServiceAccount(o.namespace.clone(), o.name.clone()),
                });
                core::iter::once(Part::Profile(name)).chain(carrier).collect()
            }
            (Some(Form::Service(plan)), _) => vec![Part::Service(plan.frontend.id.clone())],
            (Some(Form::EndpointSlice(slice)), _) => {
                slice.service.clone().map(Part::Service).into_iter().collect()
            }
            (Some(Form::Endpoints(of)), _) => vec![Part::Service(of.service.clone())],
            (_, None) => match kind {
                "Namespace" => vec![Part::Namespace(name)],
                "Node" => vec![Part::Node(name)],
                "Tier" => vec![Part::Tier(name)],
                // Nothing is known of it, and that is not the same as if it were not there.
                "Profile" => vec![Part::Profile(name)],
                _ => Vec::new(),
            },
            (_, Some(namespace)) => match kind {
                "ServiceAccount" => vec![Part::ServiceAccount(namespace, name)],
                _ => Vec::new(),
            },
        }
    }
}

/// The place of an object without a namespace.
pub(super) fn cluster_wide(name: &Name) -> Place {
    Place { namespace: None, name: name.clone() }
}
