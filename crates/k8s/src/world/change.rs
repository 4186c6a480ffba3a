//! From what an event touches to the changes of the model.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, EndpointKind, Update};

use super::held::Held;
use super::key::{Place, reference};
use super::part::Part;
use super::usage::{Count, keep};
use super::{Changes, Refusal, World};
use crate::calico::FelixSettings;
use crate::error::{ObjectRef, Warning};
use crate::form::Form;
use crate::gap::{self, Gap};
use crate::importer::{complete, settings};
use crate::tier;

/// An event under way: each part of the model that it may change, as the part was before.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    before: BTreeMap<Part, Option<Update>>,
    /// The nodes of which the settings may change; `None` stands for all.
    configured: BTreeSet<Option<Name>>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) warnings: Vec<Warning>,
}

impl World {
    /// Notes `part` as it is, unless that was done. INVARIANT: to be called before anything that it depends on changes.
    fn touch(&self, part: Part, transaction: &mut Transaction) {
        if let Entry::Vacant(entry) = transaction.before.entry(part) {
            let before = self.derive(entry.key());
            entry.insert(before);
        }
    }

    /// Keeps an object in the place of the one that has its name.
    pub(super) fn keep(
        &mut self,
        kind: &'static str,
        place: Place,
        held: Held,
        transaction: &mut Transaction,
    ) {
        if let Some(known) = self.objects.held_mut(kind, &place)
            && known.form == held.form
            && known.clarity == held.clarity
            && known.gap == held.gap
        {
            known.uid = held.uid.or(known.uid);
            return;
        }
        self.exchange(kind, &place, Some(held), transaction);
    }

    /// Forgets an object.
    pub(super) fn drop_object(&mut self, kind: &'static str, place: &Place, transaction: &mut Transaction) {
        self.refusals.remove(&(kind, place.clone()));
        self.exchange(kind, place, None, transaction);
    }

    fn exchange(
        &mut self,
        kind: &'static str,
        place: &Place,
        new: Option<Held>,
        transaction: &mut Transaction,
    ) {
        let old = self.objects.held(kind, place);
        for form in [old.map(|held| &held.form), new.as_ref().map(|held| &held.form)].into_iter().flatten() {
            for part in self.parts_of(kind, place, form.as_ref()) {
                self.touch(part, transaction);
            }
        }
        let forms = [(old, Count::Remove), (new.as_ref(), Count::Add)];
        for (held, count) in forms {
            if let Some(Form::Pod(pod)) = held.and_then(|held| held.form.as_ref())
                && let Some(node) =
                    pod.endpoint.node.as_ref().filter(|_| self.usage.tells_of_node(pod, count))
            {
                self.touch(Part::Node(node.clone()), transaction);
            }
        }
        let gaps = [old, new.as_ref()].map(|held| held.and_then(|held| held.gap.as_ref()));
        if gaps[0] != gaps[1] {
            for gap in gaps.into_iter().flatten() {
                self.touch_guarded(gap, transaction);
            }
        }
        let is_unknown = |held: Option<&Held>| held.is_some_and(|held| held.form.is_none());
        if is_unknown(old) != is_unknown(new.as_ref()) {
            self.touch_dependants(kind, place, transaction);
        }
        for form in [old, new.as_ref()].into_iter().flatten().map(|held| held.form.as_ref()) {
            if let Some(Form::Felix(Some(says))) = form {
                transaction.configured.insert(says.node.clone());
            }
        }

        self.index(kind, place, Count::Remove);
        match new {
            Some(held) => {
                self.objects.insert(kind, place.clone(), held);
                self.index(kind, place, Count::Add);
            }
            None => self.objects.remove(kind, place),
        }
    }

    /// Touches what is closed while nothing is known of an object.
    fn touch_dependants(&self, kind: &str, place: &Place, transaction: &mut Transaction) {
        let namespace = match kind {
            "Namespace" => &place.name,
            "ServiceAccount" | "WorkloadEndpoint" => match &place.namespace {
                Some(namespace) => namespace,
                None => return,
            },
            "Tier" => {
                for policy in self.usage.policies.of(&place.name) {
                    self.touch(Part::Policy(policy.clone()), transaction);
                }
                return;
            }
            _ => return,
        };
        for (of, held) in self.objects.of_namespace("Pod", namespace) {
            for part in self.parts_of("Pod", of, held.form.as_ref()) {
                self.touch(part, transaction);
            }
        }
        for id in self.pods_of_calico(namespace) {
            self.touch(Part::Endpoint(id.clone()), transaction);
        }
        for (of, held) in self.objects.of_namespace("NetworkSet", namespace) {
            for part in self.parts_of("NetworkSet", of, held.form.as_ref()) {
                self.touch(part, transaction);
            }
        }
    }

    /// Touches the policies and profiles that are read otherwise because of `gap`. Costs as much as there are policies and
    /// profiles with rules that a gap may change.
    fn touch_guarded(&self, gap: &Gap, transaction: &mut Transaction) {
        if gap.marks_endpoints() {
            for policy in gap::closing() {
                self.touch(Part::Policy(policy.id), transaction);
            }
        }
        for part in &self.usage.guarded {
            let rules = match part {
                Part::Policy(id) => self.written(id).map(|policy| [&policy.ingress, &policy.egress]),
                Part::Profile(name) => self.profile(name).map(|profile| [&profile.ingress, &profile.egress]),
                _ => None,
            };
            let is_changed = rules.into_iter().flatten().any(|rules| {
                let mut guarded = rules.clone();
                gap::guard(&mut guarded, core::iter::once(gap));
                guarded != *rules
            });
            if is_changed {
                self.touch(part.clone(), transaction);
            }
        }
    }

    /// Enters an object that is kept into the indexes, or takes it out.
    fn index(&mut self, kind: &'static str, place: &Place, count: Count) {
        let Some(held) = self.objects.held(kind, place) else { return };
        let usage = &mut self.usage;
        if held.gap.is_some() {
            keep(&mut usage.gaps, (kind, place.clone()), count);
        }
        match &held.form {
            Some(Form::Pod(pod)) => usage.count_pod(pod, count),
            Some(Form::Endpoint(endpoint)) if endpoint.id.kind == EndpointKind::Workload => {
                usage.workload_endpoints.keep(endpoint.id.clone(), place.clone(), count);
            }
            Some(Form::EndpointSlice(slice)) => {
                if let Some(service) = &slice.service {
                    usage.slices.keep(service.clone(), place.clone(), count);
                }
            }
            Some(Form::Service(plan)) => {
                for address in plan.frontend.addresses() {
                    usage.frontends.keep(address, plan.frontend.id.clone(), count);
                }
            }
            Some(Form::Policies(policies)) => {
                for policy in policies {
                    usage.policies.keep(policy.tier.clone(), policy.id.clone(), count);
                    if gap::is_guarded(&policy.ingress) || gap::is_guarded(&policy.egress) {
                        keep(&mut usage.guarded, Part::Policy(policy.id.clone()), count);
                    }
                }
            }
            Some(Form::Profile(record)) => {
                if gap::is_guarded(&record.profile.ingress) || gap::is_guarded(&record.profile.egress) {
                    keep(&mut usage.guarded, Part::Profile(place.name.clone()), count);
                }
            }
            Some(Form::Felix(Some(says))) => usage.settings.count(settings::told(says), count),
            Some(_) => {}
            None => {
                let unknown = match (kind, &place.namespace) {
                    ("Namespace", None) => (place.name.clone(), None),
                    ("ServiceAccount", Some(namespace)) => (namespace.clone(), Some(place.name.clone())),
                    ("WorkloadEndpoint", Some(namespace)) => {
                        usage.lost_endpoints.keep(namespace.clone(), place.name.clone(), count);
                        return;
                    }
                    _ => return,
                };
                keep(&mut usage.unknown, unknown, count);
            }
        }
    }

    /// The changes of the model that follow from what was touched.
    pub(super) fn commit(&mut self, mut transaction: Transaction) -> Changes {
        let mut changes = Changes::default();
        if !self.has_begun {
            self.has_begun = true;
            let tiers = tier::built_in();
            transaction.before.extend(tiers.map(|tier| (Part::Tier(tier.name), None)));
        }
        // What depends on use is looked at when all that uses it is as it will be.
        let parts: Vec<Part> =
            transaction.before.keys().filter(|part| !part.depends_on_use()).cloned().collect();
        for part in parts {
            let Some(before) = transaction.before.remove(&part) else { continue };
            let after = self.derive(&part);
            if before == after {
                continue;
            }
            // In this order nothing that both use goes and comes back.
            self.count_use(after.as_ref(), Count::Add, &mut transaction);
            self.count_use(before.as_ref(), Count::Remove, &mut transaction);
            self.index_addresses(before.as_ref(), Count::Remove);
            self.index_addresses(after.as_ref(), Count::Add);
            if let Some(after) = &after {
                self.doubt(after, &mut transaction.warnings);
            }
            changes.updates.push(after.unwrap_or_else(|| part.removal()));
        }
        for (part, before) in core::mem::take(&mut transaction.before) {
            let after = self.derive(&part);
            if before != after {
                changes.updates.push(after.unwrap_or_else(|| part.removal()));
            }
        }
        if self.configure(&transaction.configured) {
            changes.settings = Some(self.settings.clone());
        }
        let Transaction { refusals, warnings, .. } = transaction;
        (changes.refusals, changes.warnings) = (refusals, warnings);
        changes
    }

    /// Brings the settings of nodes up to date. Whether any changed.
    fn configure(&mut self, nodes: &BTreeSet<Option<Name>>) -> bool {
        if nodes.contains(&None) {
            let felix = self.objects.of_kind("FelixConfiguration").filter_map(|(_, held)| match &held.form {
                Some(Form::Felix(says)) => says.as_ref(),
                _ => None,
            });
            let felix: Vec<_> = felix.collect();
            let (settings, _) = settings::merge(felix.iter().copied());
            let is_changed = settings != self.settings;
            self.settings = settings;
            return is_changed;
        }
        let mut is_changed = false;
        for node in nodes.iter().flatten() {
            let of_node = match self.form("FelixConfiguration", None, &FelixSettings::object_of(node)) {
                Some(Form::Felix(Some(says))) => Some(settings::of_node(&self.settings, says)),
                _ => None,
            };
            is_changed |= self.settings.nodes.get(node) != of_node.as_ref();
            match of_node {
                Some(settings) => drop(self.settings.nodes.insert(node.clone(), settings)),
                None => drop(self.settings.nodes.remove(node)),
            }
        }
        is_changed
    }

    /// Notes who has which address, or takes it back.
    fn index_addresses(&mut self, part: Option<&Update>, count: Count) {
        let Some(Update::Endpoint(endpoint)) = part else { return };
        if endpoint.id.kind == EndpointKind::Workload {
            for address in &endpoint.addresses {
                self.usage.addresses.keep(*address, endpoint.id.clone(), count);
            }
        }
    }

    /// Counts what a part of the model refers to.
    fn count_use(&mut self, part: Option<&Update>, count: Count, transaction: &mut Transaction) {
        match part {
            // A user may name the tier of shields, too.
            Some(Update::Policy(policy))
                if policy.tier == *tier::CLOSED || tier::shielding_policy(&policy.id).is_some() =>
            {
                if self.usage.own_tiers.would_change(&policy.tier, count) {
                    self.touch(Part::Tier(policy.tier.clone()), transaction);
                }
                self.usage.own_tiers.count(&policy.tier, count);
            }
            Some(Update::Endpoint(endpoint)) => {
                for profile in &endpoint.profiles {
                    if self.usage.profiles.would_change(profile, count) {
                        self.touch(Part::Profile(profile.clone()), transaction);
                    }
                    self.usage.profiles.count(profile, count);
                }
            }
            _ => {}
        }
        if let Some(namespace) = part.and_then(complete::namespace_of) {
            if self.usage.namespaces.would_change(namespace, count) {
                self.touch(Part::Namespace(namespace.clone()), transaction);
            }
            self.usage.namespaces.count(namespace, count);
        }
    }

    /// Doubts about a part of the model in its new form that other objects give rise to.
    fn doubt(&self, part: &Update, warnings: &mut Vec<Warning>) {
        match part {
            Update::Policy(policy) if self.tier(&policy.tier).is_none() && policy.tier != *tier::CLOSED => {
                warnings.push(complete::missing_tier(policy));
            }
            Update::Endpoint(endpoint) if endpoint.id.kind == EndpointKind::Workload => {
                let others = endpoint.addresses.iter().filter_map(|address| {
                    let other = self.endpoints_at(*address).find(|other| **other != endpoint.id)?;
                    Some((address, other))
                });
                warnings.extend(others.take(1).map(|(address, other)| Warning {
                    object: pod_reference(&endpoint.id),
                    field: "status.podIPs".into(),
                    message: format!(
                        "has the address `{address}`, which the pod {other} has as well: one of them is stale"
                    ),
                }));
                let mut endpoints = self.workload_endpoints_of(&endpoint.id);
                warnings.extend(endpoints.next().zip(endpoints.next()).map(|(_, other)| Warning {
                    object: reference("WorkloadEndpoint", other),
                    field: "spec.pod".into(),
                    message: format!(
                        "another workload endpoint is that of the pod `{}`: this one is passed over",
                        endpoint.id.name
                    ),
                }));
            }
            _ => {}
        }
    }
}

fn pod_reference(id: &EndpointId) -> ObjectRef {
    ObjectRef {
        kind: "Pod".into(),
        namespace: id.namespace.as_ref().map(ToString::to_string),
        name: id.name.to_string(),
    }
}
