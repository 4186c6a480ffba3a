//! Manifest nodes as JSON values, which tell a null from a missing field.

use portcullis::manifest::{Node, NodeKind};
use serde_json::{Map, Number, Value};

/// `node` with everything below it.
#[must_use]
pub fn to_json(node: Node<'_>) -> Value {
    match node.kind() {
        NodeKind::Null => Value::Null,
        NodeKind::Bool => node.as_bool().map_or(Value::Null, Value::Bool),
        NodeKind::Int => {
            let number = node.as_int().and_then(|number| i64::try_from(number).ok());
            number.map_or(Value::Null, |number| Value::Number(number.into()))
        }
        NodeKind::Float => node.as_float().and_then(Number::from_f64).map_or(Value::Null, Value::Number),
        NodeKind::String => Value::String(node.as_str().unwrap_or_default().to_owned()),
        NodeKind::Sequence => Value::Array(node.items().map(to_json).collect()),
        NodeKind::Mapping => {
            let entry =
                |entry: portcullis::manifest::Entry<'_>| (entry.key().to_owned(), to_json(entry.value()));
            Value::Object(node.entries().map(entry).collect::<Map<_, _>>())
        }
        // A kind of a later version of the reader.
        _ => Value::Null,
    }
}
