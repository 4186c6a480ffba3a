//! Parts of an object, read alone.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use crate::error::{ConvertError, ConvertErrors, Warning};
use crate::form::Form;
use crate::kind::Kind;
use crate::names::Names;
use crate::object::Object;
use crate::tracked::Tracked;
use crate::world::ObjectKey;

/// The strict reading of an object.
pub(super) fn strict(
    kind: Kind,
    key: &ObjectKey,
    object: &Value,
    names: &mut Names,
) -> Result<(Form, Vec<Warning>), ConvertErrors> {
    let object = Object::deserialize(kind, Tracked(object))
        .map_err(|error| ConvertError::new(key.reference(), error.field(), error.to_string()))?;
    object.form(names)
}

/// The same object with nothing in its metadata but what it is called.
pub(super) fn object(key: &ObjectKey, spec: Value) -> Value {
    let namespace = key.namespace().map(|namespace| namespace.as_str());
    json!({"metadata": {"name": key.name().as_str(), "namespace": namespace}, "spec": spec})
}

/// `plain` with those of `fields` that `spec` has.
pub(super) fn beside(plain: Value, spec: &Map<String, Value>, fields: &[&str]) -> Value {
    let mut read = plain;
    if let Some(read) = read.as_object_mut() {
        for field in fields {
            match spec.get(*field) {
                Some(value) => drop(read.insert((*field).into(), value.clone())),
                // It may be required.
                None => drop(read.remove(*field)),
            }
        }
    }
    read
}

/// `errors` about the first item of `list`, as errors about item `index`.
pub(super) fn moved(errors: &ConvertErrors, list: &str, index: usize) -> Vec<ConvertError> {
    let first = alloc::format!("{list}[0]");
    let place = alloc::format!("{list}[{index}]");
    let moved = errors.iter().map(|error| {
        let field = match error.field().strip_prefix(&first) {
            Some(rest) => alloc::format!("{place}{rest}"),
            None if error.field().is_empty() => place.clone(),
            None => error.field().to_string(),
        };
        ConvertError::new(error.object().clone(), field, error.reason())
    });
    moved.collect()
}

/// An object that holds one field.
pub(super) fn with(mut spec: Value, field: &str, value: Value) -> Value {
    if let Some(spec) = spec.as_object_mut() {
        spec.insert(field.into(), value);
    }
    spec
}

/// A list with one item.
pub(super) fn alone(item: &Value) -> Value {
    Value::Array(vec![item.clone()])
}
