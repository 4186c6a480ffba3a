//! One mistake in one place of an object.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};

use crate::world::tests::objects::Random;

/// Spoils one place, and says how.
pub(crate) fn spoil(object: &mut Value, random: &mut Random) -> Option<String> {
    let mut places = Vec::new();
    collect(object, &mut Vec::new(), &mut places);
    let place = places[usize::try_from(random.below(places.len() as u64)).unwrap()].clone();
    let (last, parents) = place.split_last()?;
    let mut at = object;
    for step in parents {
        at = enter(at, step)?;
    }
    let shown = place.join("/");
    match (random.below(8), &mut *at) {
        (0, Value::Object(fields)) => {
            let value = fields.remove(last)?;
            fields.insert(misspelt(last, random), value);
            Some(format!("{shown} misspelt"))
        }
        (1, Value::Object(fields)) => {
            fields.remove(last)?;
            Some(format!("{shown} left out"))
        }
        (2, _) => {
            enter(at, last)?.as_object_mut()?.insert("unheardOf".into(), json!(["x", {"y": 1}]));
            Some(format!("{shown} with an unknown field"))
        }
        (3, _) => {
            let value = enter(at, last)?;
            *value = match value {
                Value::String(text) => json!(format!("{text}!")),
                Value::Number(_) => json!(random.pick(&[-1i64, 99_999_999_999])),
                Value::Bool(is) => json!(if *is { "true" } else { "false" }),
                Value::Array(_) => json!({}),
                Value::Object(_) => json!([]),
                Value::Null => json!(0),
            };
            Some(format!("{shown} with another value"))
        }
        (4, _) => {
            *enter(at, last)? = Value::Null;
            Some(format!("{shown} null"))
        }
        (5, Value::Array(items)) => {
            items.push(random_value(random));
            Some(format!("{shown} beside another item"))
        }
        _ => {
            *enter(at, last)? = random_value(random);
            Some(format!("{shown} of another type"))
        }
    }
}

fn random_value(random: &mut Random) -> Value {
    let values = [
        json!(["x"]),
        json!(true),
        json!("text"),
        json!(7),
        json!({"x": 1}),
        json!([]),
        json!({}),
        json!([null]),
    ];
    values[usize::try_from(random.below(8)).unwrap()].clone()
}

fn enter<'v>(at: &'v mut Value, step: &str) -> Option<&'v mut Value> {
    match at {
        Value::Object(fields) => fields.get_mut(step),
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }
}

fn collect(value: &Value, path: &mut Vec<String>, places: &mut Vec<Vec<String>>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => vec![],
    };
    for (step, child) in children {
        path.push(step);
        places.push(path.clone());
        collect(child, path, places);
        path.pop();
    }
}

fn misspelt(name: &str, random: &mut Random) -> String {
    let letters: Vec<char> = name.chars().collect();
    let at = usize::try_from(random.below(letters.len() as u64)).unwrap();
    match random.below(3) {
        0 => letters.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, letter)| letter).collect(),
        1 => format!("{name}q"),
        _ => "entirely".into(),
    }
}
