//! Questions come and go with the rules that ask them; answers follow.

use alloc::collections::BTreeMap;

use super::{Compiler, Work};
use crate::compile::labels::GroupLabels;
use crate::compile::signature::{PortPredicate, Ports, Predicate};
use crate::model::ServiceId;
use crate::net::Cidr;

impl Compiler {
    /// Puts questions that are new to whatever may answer them.
    pub(super) fn ask_new_questions(&mut self, work: &mut Work) {
        for id in self.questions.predicates.take_created() {
            match self.questions.predicates.lookup(id) {
                Some(Predicate::Select(selector)) => {
                    self.predicate_index.insert(id, &selector.expr);
                    for group in self.groups.candidates(&selector.expr, &self.labelled) {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        let labels =
                            GroupLabels { cluster: &self.cluster, labelled: &self.labelled, key: &state.key };
                        if labels.selected_by(selector)
                            && let Err(at) = state.signature.holds.binary_search(&id)
                        {
                            state.signature.holds.insert(at, id);
                            work.answers.push(group);
                        }
                    }
                }
                Some(Predicate::Nets(nets)) => {
                    for net in nets {
                        self.addresses.add_predicate(*net, id);
                    }
                }
                Some(Predicate::Service(service)) => {
                    let service = service.clone();
                    self.answer_service(&service);
                }
                None => {}
            }
        }
        for id in self.questions.ports.take_created() {
            match self.questions.ports.lookup(id).cloned() {
                Some(PortPredicate::Named(selector, name)) => {
                    self.named_ports.insert(id);
                    let candidates = match &selector {
                        Some(selector) => self.groups.candidates(&selector.expr, &self.labelled),
                        None => self.groups.ids(),
                    };
                    for group in candidates {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        let labels =
                            GroupLabels { cluster: &self.cluster, labelled: &self.labelled, key: &state.key };
                        let ports = labels.named_ports(selector.as_ref(), &name);
                        let at = state.signature.ports.binary_search_by_key(&id, |(id, _)| *id);
                        if let (false, Err(at)) = (ports.is_empty(), at) {
                            state.signature.ports.insert(at, (id, ports));
                            work.answers.push(group);
                        }
                    }
                }
                Some(PortPredicate::Service(service)) => self.answer_service(&service),
                None => {}
            }
        }
    }

    /// Takes back the answers to questions that nobody asks any more.
    pub(super) fn drop_old_questions(&mut self, work: &mut Work) {
        for (id, predicate) in self.questions.predicates.sweep() {
            match predicate {
                Predicate::Select(selector) => {
                    self.predicate_index.remove(id, &selector.expr);
                    for group in self.groups.candidates(&selector.expr, &self.labelled) {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        if let Ok(at) = state.signature.holds.binary_search(&id) {
                            state.signature.holds.remove(at);
                            work.answers.push(group);
                        }
                    }
                }
                Predicate::Nets(nets) => {
                    for net in nets {
                        self.addresses.remove_predicate(net, id);
                    }
                }
                Predicate::Service(service) => {
                    for net in self.service_prefixes.get(&service).into_iter().flatten() {
                        self.addresses.remove_predicate(*net, id);
                    }
                    self.answer_service(&service);
                }
            }
        }
        for (id, question) in self.questions.ports.sweep() {
            match question {
                PortPredicate::Named(..) => {
                    self.named_ports.remove(&id);
                    for group in self.groups.ids() {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        if let Ok(at) = state.signature.ports.binary_search_by_key(&id, |(id, _)| *id) {
                            state.signature.ports.remove(at);
                            work.answers.push(group);
                        }
                    }
                }
                PortPredicate::Service(service) => {
                    for net in self.service_prefixes.get(&service).into_iter().flatten() {
                        self.addresses.set_ports(*net, id, Ports::new());
                    }
                    self.answer_service(&service);
                }
            }
        }
    }

    /// Brings the answers about a service up to date.
    pub(super) fn answer_service(&mut self, id: &ServiceId) {
        let predicate = self.questions.predicates.find(&Predicate::Service(id.clone()));
        let question = self.questions.ports.find(&PortPredicate::Service(id.clone()));
        let mut now: BTreeMap<Cidr, Ports> = BTreeMap::new();
        if predicate.is_some() || question.is_some() {
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
                if let Some(question) = question {
                    self.addresses.set_ports(*net, question, Ports::new());
                }
            }
        }
        for (net, ports) in &mut now {
            ports.sort_unstable();
            ports.dedup();
            if let Some(predicate) = predicate {
                self.addresses.clear_predicate(*net, predicate);
                self.addresses.add_predicate(*net, predicate);
            }
            if let Some(question) = question {
                self.addresses.set_ports(*net, question, ports.clone());
            }
        }
        if !now.is_empty() {
            self.service_prefixes.insert(id.clone(), now.into_keys().collect());
        }
    }
}
