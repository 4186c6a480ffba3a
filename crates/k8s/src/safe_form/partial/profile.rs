//! Profiles, rule by rule and label by label.

use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::model::Rule;
use serde_json::{Map, Value, json};

use super::{Partial, Reader, mark_if};
use crate::form::Form;
use crate::gap::{ENDPOINTS, EntityGap, Whereabouts};
use crate::safe_form::deny_all;
use crate::safe_form::policy::unclear_rule;
use crate::safe_form::shape::Rules;

impl Reader<'_> {
    pub(super) fn profile(&mut self) -> Option<Partial> {
        let spec = self.spec(&["ingress", "egress", "labelsToApply", "types"]);
        let given = |field: &str| spec.read.get(field).filter(|value| !value.is_null());
        let mut labels = Map::new();
        let mut has_more_labels = given("labelsToApply").is_none() && !spec.is_whole;
        match given("labelsToApply") {
            Some(Value::Object(given)) => {
                for (key, value) in given {
                    if self.is_read(&json!({"spec": {"labelsToApply": {key.as_str(): value}}})) {
                        labels.insert(key.clone(), value.clone());
                    } else {
                        has_more_labels = true;
                    }
                }
            }
            Some(_) => has_more_labels = true,
            None => {}
        }
        let read = self.strict(&Map::new(), &json!({"spec": {"labelsToApply": labels}}))?;
        let Form::Profile(mut record) = read else { return None };
        record.profile.ingress = self.rules(given("ingress"), "ingress", spec.is_whole);
        record.profile.egress = self.rules(given("egress"), "egress", spec.is_whole);
        mark_if(has_more_labels, &mut record.profile.labels);
        Some(Partial { gap: gap(has_more_labels).into_gap(), form: Form::Profile(record) })
    }

    /// Rules of one direction. Where it is not known what they are, nothing passes.
    fn rules(&mut self, list: Option<&Value>, field: &str, is_whole: bool) -> Vec<Rule> {
        let rules = match list {
            None if is_whole => return Vec::new(),
            Some(Value::Array(rules)) => rules,
            _ => return vec![deny_all()],
        };
        let mut read = Vec::with_capacity(rules.len());
        for rule in rules {
            let alone = self.strict(&Map::new(), &json!({"spec": {field: [rule]}}));
            let rules = match alone {
                Some(Form::Profile(record)) => {
                    let profile = record.profile;
                    if field == "ingress" { profile.ingress } else { profile.egress }
                }
                _ => vec![unclear_rule(rule, Rules::Actions("Allow"))],
            };
            read.extend(rules);
        }
        read
    }
}

/// What is not known of the endpoints that have the profile. Their own labels come before those of a profile, so that none
/// is certain.
fn gap(has_more_labels: bool) -> EntityGap {
    EntityGap {
        has_more_labels,
        inherits: true,
        namespace: Whereabouts::Anywhere,
        ..EntityGap::none(ENDPOINTS)
    }
}
