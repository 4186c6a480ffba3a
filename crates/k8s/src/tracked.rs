//! Reading a value with the place of what is wrong with it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{Display, Write};

use portcullis_core::quote::escaped;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// A value whose errors tell where they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracked<'v>(pub(crate) &'v Value);

/// What is wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct TrackedError {
    /// From the inside out.
    path: Vec<Segment>,
    message: String,
}

#[derive(Debug)]
enum Segment {
    Field(String),
    Index(usize),
}

impl TrackedError {
    /// The path of the field, as error messages write it.
    pub(crate) fn field(&self) -> String {
        let mut text = String::new();
        for segment in self.path.iter().rev() {
            let written = match segment {
                Segment::Index(index) => write!(text, "[{index}]"),
                Segment::Field(name) if text.is_empty() => write!(text, "{}", escaped(name).at_most(FIELD)),
                Segment::Field(name) => write!(text, ".{}", escaped(name).at_most(FIELD)),
            };
            // Writing to a text does not fail.
            if written.is_err() {
                break;
            }
        }
        text
    }

    fn inside(mut self, segment: Segment) -> Self {
        self.path.push(segment);
        self
    }
}

impl serde::de::Error for TrackedError {
    fn custom<T: Display>(message: T) -> Self {
        Self { path: Vec::new(), message: message.to_string() }
    }
}

impl<'de> Deserializer<'de> for Tracked<'de> {
    type Error = TrackedError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TrackedError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => Err(TrackedError::invalid_type(Unexpected::Other("number"), &visitor)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Value::Object(fields) => visitor.visit_map(Fields { fields: fields.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TrackedError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TrackedError> {
        visitor.visit_newtype_struct(self)
    }

    /// Fields by name only: a list is no object.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TrackedError> {
        match self.0 {
            Value::Array(_) => Err(TrackedError::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct Items<'v> {
    items: core::slice::Iter<'v, Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TrackedError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TrackedError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index = index.saturating_add(1);
        let read = seed.deserialize(Tracked(item));
        read.map(Some).map_err(|error| error.inside(Segment::Index(index)))
    }
}

struct Fields<'v> {
    fields: serde_json::map::Iter<'v>,
    value: Option<(&'v str, &'v Value)>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = TrackedError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TrackedError> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        self.value = Some((name, value));
        let read = seed.deserialize(name.as_str().into_deserializer());
        read.map(Some).map_err(|error: TrackedError| error.inside(Segment::Field(name.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TrackedError> {
        let Some((name, value)) = self.value.take() else {
            return Err(TrackedError::custom("a value without a key"));
        };
        let read = seed.deserialize(Tracked(value));
        read.map_err(|error| error.inside(Segment::Field(name.into())))
    }
}

/// Characters of a field's name that are shown.
const FIELD: usize = 317;
