//! The places of a policy that can be spoilt, and how.

use serde_json::{Map, Value, json};

use crate::mutate::{Mistake, Seed};

/// Mappings whose keys are free, and what is not read: nothing in them is a field.
const FREE: [&str; 8] = [
    "annotations",
    "initializers",
    "labels",
    "labelsToApply",
    "managedFields",
    "matchLabels",
    "ownerReferences",
    "status",
];

/// Fields whose values are a closed set, or have a grammar that no text with `!` in it belongs to.
const CLOSED: [&str; 17] = [
    "action",
    "apiVersion",
    "cidr",
    "defaultAction",
    "domainNames",
    "except",
    "kind",
    "nets",
    "networks",
    "notNets",
    "notProtocol",
    "operator",
    "policyTypes",
    "protocol",
    "stagedAction",
    "tier",
    "types",
];

/// Spoils one place of `policy`. Says how, or nothing when no place was found.
pub(super) fn spoil(policy: &mut Value, seed: &mut Seed) -> Option<(Mistake, String)> {
    let mut places = Vec::new();
    collect(policy, &mut Vec::new(), &mut places);
    let (path, mistake) = places.get(seed.below(places.len()))?.clone();
    let shown = format!("{mistake:?} at /{}", path.join("/"));
    let (key, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(policy, |at, key| step(at, key))?;
    match mistake {
        Mistake::Misspelt => {
            let fields = parent.as_object_mut()?;
            let name = misspelt(key, seed);
            if fields.contains_key(&name) {
                return None;
            }
            let value = fields.remove(key)?;
            fields.insert(name, value);
        }
        Mistake::Unknown => {
            step(parent, key)?.as_object_mut()?.insert("unheardOf".into(), json!(["x", {"y": 1}]));
        }
        Mistake::WrongType => {
            let value = step(parent, key)?;
            *value = other_type(value, seed);
        }
        Mistake::NullItem => *step(parent, key)? = Value::Null,
        Mistake::NoSuchValue => {
            let value = step(parent, key)?;
            let text = value.as_str()?;
            // What an object is may be misspelt to anything; elsewhere only this is sure to be no value.
            let is_type = path.len() == 1;
            *value = Value::String(if is_type { misspelt(text, seed) } else { format!("{text}!") });
        }
    }
    Some((mistake, shown))
}

fn step<'v>(at: &'v mut Value, key: &str) -> Option<&'v mut Value> {
    match at {
        Value::Object(fields) => fields.get_mut(key),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    }
}

fn collect(value: &Value, path: &mut Vec<String>, places: &mut Vec<(Vec<String>, Mistake)>) {
    match value {
        Value::Object(fields) => collect_fields(fields, path, places),
        Value::Array(items) => {
            let field = path.last().cloned().unwrap_or_default();
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                places.push((path.clone(), Mistake::NullItem));
                places.push((path.clone(), Mistake::WrongType));
                if CLOSED.contains(&field.as_str()) && item.is_string() {
                    places.push((path.clone(), Mistake::NoSuchValue));
                }
                if item.is_object() {
                    places.push((path.clone(), Mistake::Unknown));
                }
                collect(item, path, places);
                path.pop();
            }
        }
        _ => {}
    }
}

fn collect_fields(
    fields: &Map<String, Value>,
    path: &mut Vec<String>,
    places: &mut Vec<(Vec<String>, Mistake)>,
) {
    for (key, value) in fields {
        path.push(key.clone());
        places.push((path.clone(), Mistake::Misspelt));
        // A null field is an absent one.
        if !value.is_null() && !FREE.contains(&key.as_str()) {
            places.push((path.clone(), Mistake::WrongType));
            if CLOSED.contains(&key.as_str()) && value.is_string() {
                places.push((path.clone(), Mistake::NoSuchValue));
            }
            if value.is_object() {
                places.push((path.clone(), Mistake::Unknown));
            }
            collect(value, path, places);
        }
        path.pop();
    }
}

/// `key` with a mistake of the fingers; never the key itself.
fn misspelt(key: &str, seed: &mut Seed) -> String {
    let mut letters: Vec<char> = key.chars().collect();
    let at = seed.below(letters.len());
    match seed.below(3) {
        0 if letters.len() > 2 => drop(letters.remove(at)),
        1 => letters.insert(at, 'q'),
        _ => {
            if let Some(letter) = letters.get_mut(at) {
                *letter = if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { 'q' };
            }
        }
    }
    letters.into_iter().collect()
}

/// A value of a type that the field of `value` never has. A number may stand where a text may, and the other way round, so
/// one never becomes the other.
fn other_type(value: &Value, seed: &mut Seed) -> Value {
    let choices = match value {
        Value::Object(_) => [json!(["x"]), json!(true), json!("text"), json!(7)],
        Value::Array(_) => [json!({"x": 1}), json!(true), json!("text"), json!(7)],
        _ => [json!({"x": 1}), json!(["x"]), json!([]), json!({})],
    };
    choices.into_iter().nth(seed.below(4)).unwrap_or_default()
}
