//! Policies, rule by rule.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::{Action, Directions, EntityMatch, Placement, Policy, PolicyId, Rule};
use serde_json::{Map, Value, json};

use super::parts::{alone, beside, moved, object, strict, with};
use super::shape::{Defaults, Rules, Shape};
use super::{SafeForm, deny_all};
use crate::error::{ConvertError, ConvertErrors};
use crate::form::Form;
use crate::kind::Kind;
use crate::names::Names;
use crate::standing::{Clarity, Standing};
use crate::tier;
use crate::world::ObjectKey;

/// The safe form of a policy that was refused for `errors`.
pub(super) fn safe_form(
    kind: Kind,
    key: &ObjectKey,
    shape: &Shape,
    raw: Option<&Value>,
    errors: ConvertErrors,
    names: &mut Names,
) -> SafeForm {
    let mut reader = Reader { kind, key, shape, names, found: Vec::new() };
    let Some(base) = reader.policy(&object(key, (shape.plain)())).ok() else {
        // No object of the kind can have this name, so nobody enforces it.
        let form = Some(Form::Policies(Vec::new()));
        return SafeForm { form, clarity: Clarity::Unclear, errors, stands: Standing::Nothing, gap: None };
    };
    let given = Given::of(shape, raw);
    let head = reader.head(base, &given);
    let rules = if head.is_clear { reader.rules(&given, &head) } else { None };
    let (policies, clarity) = match rules {
        Some(rules) if !reader.found.is_empty() => (vec![head.with_rules(rules)], Clarity::RulesUnclear),
        rules => match rules.and_then(|_| reader.exact(raw, &given)) {
            Some(policy) => (vec![policy], Clarity::Clear),
            None => (head.unclear(&given), Clarity::Unclear),
        },
    };
    let errors = joined(errors, reader.found);
    SafeForm { form: Some(Form::Policies(policies)), clarity, errors, stands: Standing::SafeForm, gap: None }
}

/// The spec of a policy as it is written.
struct Given<'v> {
    shape: &'v Shape,
    spec: Map<String, Value>,
    /// Whether every field of it is known: otherwise a field that is missing may have been meant.
    is_known: bool,
    ingress: List,
    egress: List,
}

/// A list of rules.
#[derive(Clone, Debug)]
enum List {
    Rules(Vec<Value>),
    /// It cannot be told what is in it.
    Unreadable,
}

impl<'v> Given<'v> {
    fn of(shape: &'v Shape, raw: Option<&Value>) -> Self {
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        let fields = raw.and_then(Value::as_object);
        let spec = fields.and_then(|fields| fields.get("spec")).filter(|spec| !spec.is_null());
        let has_spec = match (spec, fields) {
            (Some(spec), _) => spec.is_object(),
            // Only of a NetworkPolicy the spec may be missing.
            (None, fields) => fields.is_some() && shape.rules == Rules::Allow,
        };
        let are_known =
            fields.is_some_and(|fields| fields.keys().all(|field| known.contains(&field.as_str())));
        let spec = spec.and_then(Value::as_object).cloned().unwrap_or_default();
        let has = |field: &&str| spec.get(*field).is_some_and(|value| !value.is_null());
        let has_required = shape.required.iter().all(has);
        let is_known = has_spec && are_known && has_required && spec.keys().all(|field| shape.knows(field));
        let list = |field| match spec.get(field) {
            Some(Value::Array(rules)) => List::Rules(rules.clone()),
            None | Some(Value::Null) if is_known => List::Rules(Vec::new()),
            _ => List::Unreadable,
        };
        let (ingress, egress) = (list("ingress"), list("egress"));
        Self { shape, spec, is_known, ingress, egress }
    }

    /// Whether a field was given, so that another one cannot have been meant by an unknown one.
    fn has(&self, field: &str) -> bool {
        self.is_known || self.spec.get(field).is_some_and(|value| !value.is_null())
    }

    /// The spec without its rules.
    fn without_rules(&self) -> Value {
        let fields = self.spec.iter().filter(|(field, _)| !["ingress", "egress"].contains(&field.as_str()));
        Value::Object(fields.map(|(field, value)| (field.clone(), value.clone())).collect())
    }
}

impl List {
    /// Whether the list has rules, as far as one can tell.
    fn may_have_rules(&self) -> bool {
        match self {
            Self::Rules(rules) => !rules.is_empty(),
            Self::Unreadable => true,
        }
    }

    /// Whether a rule in it may do anything but allow.
    fn may_restrict(&self, rules: Rules) -> bool {
        let Rules::Actions(allow) = rules else { return false };
        match self {
            Self::Rules(rules) => {
                rules.iter().any(|rule| !matches!(action(rule), Some(a) if a == allow || a == LOG))
            }
            Self::Unreadable => true,
        }
    }
}

/// Everything of a policy but its rules.
struct Head {
    /// The policy without rules: who it is for, where it stands.
    policy: Policy,
    /// `None` when it is not known at which hooks it is asked.
    placement: Option<Placement>,
    /// `None` when it is not known in which directions it takes part.
    directions: Option<Directions>,
    is_clear: bool,
}

struct Reader<'a> {
    kind: Kind,
    key: &'a ObjectKey,
    shape: &'a Shape,
    names: &'a mut Names,
    /// What was found wrong, part by part.
    found: Vec<ConvertError>,
}

impl Reader<'_> {
    /// The strict reading.
    fn policy(&mut self, object: &Value) -> Result<Policy, ConvertErrors> {
        let (form, _) = strict(self.kind, self.key, object, self.names)?;
        let policy = match form {
            Form::Policies(policies) => policies.into_iter().next(),
            _ => None,
        };
        policy.ok_or_else(|| ConvertError::new(self.key.reference(), "spec", "stages nothing").into())
    }

    /// The strict reading of some fields beside others that are right.
    fn fields(&mut self, given: &Given<'_>, fields: &[&str]) -> Option<Policy> {
        let spec = beside((self.shape.plain)(), &given.spec, fields);
        self.policy(&object(self.key, spec)).ok()
    }

    fn head(&mut self, base: Policy, given: &Given<'_>) -> Head {
        let shape = self.shape;
        let mut policy = base;
        // Each field narrows the subject, so without one that cannot be read it is all that it could be.
        let mut subject = (shape.plain)();
        for field in shape.subject {
            if let Some(value) = given.spec.get(*field)
                && self.fields(given, &[field]).is_some()
            {
                subject = with(subject, field, value.clone());
            }
        }
        if let Ok(read) = self.policy(&object(self.key, subject)) {
            policy.subject = read.subject;
        }
        let has_position = shape.position.iter().all(|field| given.has(field));
        match self.fields(given, shape.position).filter(|_| has_position) {
            Some(read) => {
                (policy.tier, policy.order, policy.tie_key) = (read.tier, read.order, read.tie_key);
            }
            None => {
                policy.tier = self.earliest_tier(&policy, given);
                policy.order = Some(tier::first());
                policy.tie_key = Name::new("");
            }
        }
        let has_placement = shape.placement.iter().all(|field| given.has(field));
        let placement = self.fields(given, shape.placement).filter(|_| has_placement);
        let directions = self.directions(given);
        let whole = self.policy(&object(self.key, given.without_rules()));
        let has_lists = ["ingress", "egress"].into_iter().zip([&given.ingress, &given.egress]);
        for (field, list) in has_lists {
            if matches!((list, given.spec.get(field)), (List::Unreadable, Some(_))) {
                let reason = "is no list of rules";
                self.found.push(ConvertError::new(self.key.reference(), format!("spec.{field}"), reason));
            }
        }
        let are_lists = matches!((&given.ingress, &given.egress), (List::Rules(_), List::Rules(_)));
        if let Err(errors) = &whole {
            self.found.extend(errors.iter().cloned());
        }
        let is_clear = whole.is_ok() && given.is_known && are_lists;
        Head { policy, placement: placement.map(|read| read.placement), directions, is_clear }
    }

    /// The first tier that the policy can be in.
    fn earliest_tier(&mut self, base: &Policy, given: &Given<'_>) -> Name {
        if !self.shape.position.contains(&"tier") {
            return base.tier.clone();
        }
        let read = if given.has("tier") { self.fields(given, &["tier"]) } else { None };
        match (read, self.shape.default) {
            (Some(read), _) => read.tier,
            // Of the two that there are.
            (None, Defaults::Rules) => Name::new(tier::ADMIN),
            (None, _) => Name::new(tier::CLOSED),
        }
    }

    fn directions(&mut self, given: &Given<'_>) -> Option<Directions> {
        let (ingress, egress) = (given.ingress.may_have_rules(), given.egress.may_have_rules());
        match self.shape.types {
            Some(types) if given.spec.get(types).is_some_and(|types| !types.is_null()) => {
                self.fields(given, &[types]).map(|read| read.directions)
            }
            _ if !given.is_known => None,
            _ => Some(match self.shape.default {
                Defaults::Kubernetes => Directions { ingress: true, egress },
                // One that cannot be read may be no rule.
                Defaults::Calico => Directions { ingress: ingress || !self.has_clear_egress(given), egress },
                Defaults::Rules => Directions { ingress, egress },
            }),
        }
    }

    fn has_clear_egress(&mut self, given: &Given<'_>) -> bool {
        let List::Rules(rules) = &given.egress else { return false };
        rules.iter().any(|rule| {
            let spec = with((self.shape.plain)(), "egress", alone(rule));
            self.policy(&object(self.key, spec)).is_ok()
        })
    }

    /// The rules, each read alone; `None` when the lists cannot be read.
    fn rules(&mut self, given: &Given<'_>, head: &Head) -> Option<(Vec<Rule>, Vec<Rule>)> {
        let mut plain = beside((self.shape.plain)(), &given.spec, self.shape.placement);
        // What the plain spec has stays where the policy has no such field.
        for field in self.shape.position.iter().chain(self.shape.subject) {
            if let (None, Some(value)) = (plain.get(*field), (self.shape.plain)().get(*field)) {
                plain = with(plain, field, value.clone());
            }
        }
        let directions = head.directions?;
        let mut read = |list: &List, field: &str, name: &str, is_on: bool| match list {
            List::Rules(rules) if is_on => {
                let spec = match self.shape.types {
                    Some(types) => with(plain.clone(), types, json!([name])),
                    None => plain.clone(),
                };
                let rules = rules.iter().enumerate();
                Some(rules.map(|(index, rule)| self.rule(&spec, rule, field, index)).collect::<Vec<Rule>>())
            }
            List::Rules(_) => Some(Vec::new()),
            List::Unreadable => None,
        };
        let ingress = read(&given.ingress, "ingress", "Ingress", directions.ingress)?;
        let egress = read(&given.egress, "egress", "Egress", directions.egress)?;
        Some((ingress, egress))
    }

    fn rule(&mut self, spec: &Value, rule: &Value, field: &str, index: usize) -> Rule {
        let object = object(self.key, with(spec.clone(), field, alone(rule)));
        match self.policy(&object) {
            Ok(policy) => {
                let rules = if field == "ingress" { policy.ingress } else { policy.egress };
                rules.into_iter().next().unwrap_or_else(deny_all)
            }
            Err(errors) => {
                self.found.extend(moved(&errors, &format!("spec.{field}"), index));
                unclear_rule(rule, self.shape.rules)
            }
        }
    }

    /// The policy when nothing but its metadata is wrong.
    fn exact(&mut self, raw: Option<&Value>, given: &Given<'_>) -> Option<Policy> {
        self.policy(raw?).is_err().then_some(())?;
        self.policy(&object(self.key, Value::Object(given.spec.clone()))).ok()
    }
}

impl Head {
    fn with_rules(self, (ingress, egress): (Vec<Rule>, Vec<Rule>)) -> Policy {
        let directions = self.directions.unwrap_or(Directions::BOTH);
        let placement = self.placement.unwrap_or(Placement::Normal);
        Policy { directions, placement, ingress, egress, ..self.policy }
    }

    /// The policy when no rule of it is clear: at each place where it may be asked.
    fn unclear(self, given: &Given<'_>) -> Vec<Policy> {
        let directions = self.directions.unwrap_or(Directions::BOTH);
        let rules = |list: &List, is_on: bool| {
            let denies = is_on && list.may_restrict(given.shape.rules);
            if denies { vec![deny_all()] } else { Vec::new() }
        };
        let ingress = rules(&given.ingress, directions.ingress);
        let egress = rules(&given.egress, directions.egress);
        let policy = Policy { directions, ingress, egress, ..self.policy };
        let at = |placement, suffix: &str| {
            let name = format!("{}{suffix}", policy.id.name);
            let id = PolicyId { name: Name::from(name), ..policy.id.clone() };
            Policy { id, placement, ..policy.clone() }
        };
        match self.placement {
            Some(placement) => vec![Policy { placement, ..policy }],
            None => {
                let mut before_nat = at(Placement::PreDnat, "#pre-dnat");
                before_nat.directions.egress = false;
                before_nat.egress.clear();
                let mut all = vec![at(Placement::ApplyOnForward, ""), at(Placement::Untracked, "#untracked")];
                all.extend(Some(before_nat).filter(|policy| policy.directions.ingress));
                all
            }
        }
    }
}

/// A rule that cannot be read: one that allows matches nothing, another one denies everything.
pub(super) fn unclear_rule(rule: &Value, rules: Rules) -> Rule {
    let action = match (rules, action(rule)) {
        (Rules::Allow, _) => Action::Allow,
        (Rules::Actions(allow), Some(action)) if action == allow => Action::Allow,
        (Rules::Actions(_), Some(LOG)) => Action::Log,
        _ => return deny_all(),
    };
    let mut nothing = Rule::new(action);
    nothing.peers = vec![EntityMatch::nobody()];
    nothing
}

fn action(rule: &Value) -> Option<&str> {
    rule.get("action")?.as_str()
}

/// Both, each field once, and of very many the first.
fn joined(errors: ConvertErrors, found: Vec<ConvertError>) -> ConvertErrors {
    let known: BTreeSet<&str> = errors.iter().map(ConvertError::field).collect();
    let mut seen = BTreeSet::new();
    let others = found.iter().filter(|error| !known.contains(error.field()) && seen.insert(error.field()));
    let all: Vec<ConvertError> = errors.iter().chain(others).take(SHOWN).cloned().collect();
    ConvertErrors::check(all).err().unwrap_or(errors)
}

/// The most errors that are told of one policy.
const SHOWN: usize = 100;
/// The action that decides nothing.
const LOG: &str = "Log";
