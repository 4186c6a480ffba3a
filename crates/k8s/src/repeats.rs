//! Objects in JSON that have a key twice: such an object does not say which of the two values is meant, so neither counts.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use portcullis_core::quote::quoted;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

/// Reads JSON in which no object has a key twice.
///
/// # Errors
/// When it is no JSON, or an object in it has a key twice.
pub(crate) fn value(json: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Unrepeated.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads a map of texts by key, in which no key is repeated. `null` counts as absent.
pub(crate) fn texts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    Ok(Option::<Texts<String>>::deserialize(deserializer)?.map(|texts| texts.0))
}

/// A map by key, in which no key is repeated.
pub(crate) struct Texts<V>(pub(crate) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Texts<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor(PhantomData)).map(Self)
    }
}

struct TextsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for TextsVisitor<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut read = BTreeMap::new();
        while let Some(key) = fields.next_key::<String>()? {
            match read.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(fields.next_value()?)),
                Entry::Occupied(entry) => return Err(repeated(entry.key())),
            }
        }
        Ok(read)
    }
}

/// Any value.
struct Unrepeated;

impl<'de> DeserializeSeed<'de> for Unrepeated {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unrepeated {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if read.contains_key(&key) {
                return Err(repeated(&key));
            }
            let value = fields.next_value_seed(Self)?;
            read.insert(key, value);
        }
        Ok(Value::Object(read))
    }
}

fn repeated<E: Error>(key: &str) -> E {
    E::custom(alloc::format!("duplicate field {}", quoted(key)))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_key_that_is_repeated_is_refused_at_any_depth() {
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":[{"b":1,"c":2,"b":3}]}"#] {
            assert!(value(bad.as_bytes()).unwrap_err().to_string().contains("duplicate field"), "{bad}");
        }
        for good in [r#"{"a":1,"b":[{"a":-1},{"a":2.5}],"c":null,"d":"x\n","e":true}"#, "7", "null"] {
            assert_eq!(value(good.as_bytes()).unwrap(), serde_json::from_str::<Value>(good).unwrap());
        }
        assert!(value(b"{} {}").is_err());
    }
}
