//! Predicates come and go with the rules that use them; the signatures of groups and prefixes follow.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Compiler, Work};
use crate::compile::groups::Groups;
use crate::compile::ids::GroupId;
use crate::compile::labels::GroupLabels;
use crate::compile::net_set::Membership;
use crate::compile::signature::{PortPredicate, Ports, Predicate};
use crate::model::{EntitySelector, ServiceId};
use crate::net::Cidr;

impl Compiler {
    /// Evaluates new predicates for the groups and prefixes that they may hold for.
    pub(super) fn evaluate_new_predicates(&mut self, work: &mut Work) {
        for id in self.predicates.plain.take_created() {
            match self.predicates.plain.lookup(id) {
                Some(Predicate::Select(selectors)) => {
                    for (selector, at) in selectors.iter().zip(0..) {
                        self.predicate_index.insert((id, at), &selector.expr);
                        for group in self.groups.candidates(&selector.expr, &self.labelled) {
                            let Some(state) = self.groups.lookup_mut(group) else { continue };
                            let labels = GroupLabels {
                                cluster: &self.cluster,
                                labelled: &self.labelled,
                                key: &state.key,
                            };
                            if let Err(at) = state.signature.holds.binary_search(&id)
                                && labels.selected_by(selector)
                            {
                                state.signature.holds.insert(at, id);
                                work.changed_signatures.push(group);
                            }
                        }
                    }
                }
                Some(Predicate::Nets(nets)) => {
                    for (net, membership) in nets.iter() {
                        self.addresses.add_predicate(net, id, membership);
                    }
                }
                Some(Predicate::Service(service)) => {
                    let service = service.clone();
                    self.evaluate_service(&service);
                }
                None => {}
            }
        }
        for id in self.predicates.ports.take_created() {
            match self.predicates.ports.lookup(id).cloned() {
                Some(PortPredicate::Named(selectors, name)) => {
                    self.named_ports.insert(id, &selectors, &name);
                    let mut note = |groups: &mut Groups, group, selector: Option<&EntitySelector>| {
                        let Some(state) = groups.lookup_mut(group) else { return };
                        let at = state.signature.ports.binary_search_by_key(&id, |(id, _)| *id);
                        let labels =
                            GroupLabels { cluster: &self.cluster, labelled: &self.labelled, key: &state.key };
                        if let Err(at) = at
                            && let ports = labels.named_ports(selector, &name)
                            && !ports.is_empty()
                        {
                            state.signature.ports.insert(at, (id, ports));
                            work.changed_signatures.push(group);
                        }
                    };
                    for selector in &selectors {
                        for group in self.groups.candidates(&selector.expr, &self.labelled) {
                            note(&mut self.groups, group, Some(selector));
                        }
                    }
                    if selectors.is_empty() {
                        for group in self.groups.with_port(&name) {
                            note(&mut self.groups, group, None);
                        }
                    }
                }
                Some(PortPredicate::Service(service)) => self.evaluate_service(&service),
                None => {}
            }
        }
    }

    /// Removes predicates that no rule uses any more from all signatures.
    pub(super) fn drop_unused_predicates(&mut self, work: &mut Work) {
        // From the last id on, so that sorted lists of them are cut at their end.
        for (id, predicate) in self.predicates.plain.sweep().into_iter().rev() {
            match predicate {
                Predicate::Select(selectors) => {
                    for (selector, at) in selectors.iter().zip(0..) {
                        self.predicate_index.remove((id, at), &selector.expr);
                        for group in self.groups.candidates(&selector.expr, &self.labelled) {
                            let Some(state) = self.groups.lookup_mut(group) else { continue };
                            if let Ok(at) = state.signature.holds.binary_search(&id) {
                                state.signature.holds.remove(at);
                                work.changed_signatures.push(group);
                            }
                        }
                    }
                }
                Predicate::Nets(nets) => {
                    for (net, membership) in nets.iter() {
                        self.addresses.remove_predicate(net, id, membership);
                    }
                }
                Predicate::Service(service) => {
                    for net in self.service_prefixes.get(&service).into_iter().flatten() {
                        self.addresses.remove_predicate(*net, id, Membership::In);
                    }
                    self.evaluate_service(&service);
                }
            }
        }
        for (id, predicate) in self.predicates.ports.sweep().into_iter().rev() {
            match predicate {
                PortPredicate::Named(selectors, name) => {
                    self.named_ports.remove(id, &selectors, &name);
                    let candidates =
                        |selector: &EntitySelector| self.groups.candidates(&selector.expr, &self.labelled);
                    let mut groups: Vec<GroupId> = selectors.iter().flat_map(candidates).collect();
                    if selectors.is_empty() {
                        groups = self.groups.with_port(&name);
                    }
                    for group in groups {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        if let Ok(at) = state.signature.ports.binary_search_by_key(&id, |(id, _)| *id) {
                            state.signature.ports.remove(at);
                            work.changed_signatures.push(group);
                        }
                    }
                }
                PortPredicate::Service(service) => {
                    for net in self.service_prefixes.get(&service).into_iter().flatten() {
                        self.addresses.set_ports(*net, id, Ports::new());
                    }
                    self.evaluate_service(&service);
                }
            }
        }
    }

    /// Brings the predicates about a service up to date.
    pub(super) fn evaluate_service(&mut self, id: &ServiceId) {
        let predicate = self.predicates.plain.find(&Predicate::Service(id.clone()));
        let port_predicate = self.predicates.ports.find(&PortPredicate::Service(id.clone()));
        let mut now: BTreeMap<Cidr, Ports> = BTreeMap::new();
        if predicate.is_some() || port_predicate.is_some() {
            for backend in self.cluster.services().get(id).into_iter().flat_map(|service| &service.backends) {
                now.entry(Cidr::host(backend.address)).or_default().extend(backend.port);
            }
        }
        let old = self.service_prefixes.remove(id).unwrap_or_default();
        for net in &old {
            if !now.contains_key(net) {
                if let Some(predicate) = predicate {
                    self.addresses.clear_predicate(*net, predicate);
                }
                if let Some(port_predicate) = port_predicate {
                    self.addresses.set_ports(*net, port_predicate, Ports::new());
                }
            }
        }
        for (net, ports) in &mut now {
            ports.sort_unstable();
            ports.dedup();
            if let Some(predicate) = predicate {
                self.addresses.clear_predicate(*net, predicate);
                self.addresses.add_predicate(*net, predicate, Membership::In);
            }
            if let Some(port_predicate) = port_predicate {
                self.addresses.set_ports(*net, port_predicate, ports.clone());
            }
        }
        if !now.is_empty() {
            self.service_prefixes.insert(id.clone(), now.into_keys().collect());
        }
    }
}
