//! Reading a value into a type, strictly, with the path and position of each value that does not fit.

use core::fmt;

use portcullis_core::quote::quoted;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::tree::build::repeated_reason;
use crate::tree::{Entries, Entry, Items, Node, NodeKind, Segment};

mod error;

pub(crate) use error::Error;

/// Reads `node` by a function that takes a deserializer.
///
/// `refused` are the keys that occur twice with different values: reading the value of one is an error, not
/// asking for it is none.
pub(crate) fn with_node<'de, T>(
    node: Node<'de>,
    refused: Refused<'de>,
    read: impl FnOnce(Value<'de>) -> Result<T, Error>,
) -> Result<T, Error> {
    read(Value { node, refused }).map_err(|error| error.located(node.position()))
}

/// Keys that occur twice with different values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused<'de> {
    /// All of the document, by cell, in order.
    pub(crate) keys: &'de [u32],
    /// Those of them that are of no account, in order.
    pub(crate) overlooked: &'de [u32],
}

impl Refused<'_> {
    fn contains(self, cell: u32) -> bool {
        self.keys.binary_search(&cell).is_ok() && self.overlooked.binary_search(&cell).is_err()
    }
}

/// A value as messages describe it.
pub(crate) fn describe(node: Node<'_>) -> String {
    match node.kind() {
        NodeKind::Null => "null".into(),
        NodeKind::Bool => format!("the truth value {}", quoted(node.source())),
        NodeKind::Int => format!("the integer {}", quoted(node.source())),
        NodeKind::Float => format!("the number {}", quoted(node.source())),
        NodeKind::String => format!("the text {}", quoted(node.source())),
        NodeKind::Sequence => "a list".into(),
        NodeKind::Mapping => "a mapping".into(),
    }
}

/// The deserializer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'de> {
    node: Node<'de>,
    refused: Refused<'de>,
}

impl<'de> Value<'de> {
    fn mismatch(self, expected: &str) -> Error {
        let quotable = matches!(self.node.kind(), NodeKind::Bool | NodeKind::Int | NodeKind::Float);
        let hint = if expected == TEXT && quotable { "; put it in quotes" } else { "" };
        Error::new(format!("expected {expected}, found {}{hint}", describe(self.node)))
    }

    fn int<T: TryFrom<i128>>(self, least: impl fmt::Display, most: impl fmt::Display) -> Result<T, Error> {
        let value = self.node.as_int().ok_or_else(|| self.mismatch("an integer"))?;
        T::try_from(value).map_err(|_| {
            Error::new(format!("{} is not within {least} to {most}", quoted(self.node.source())))
        })
    }
}

macro_rules! ints {
    ($($method:ident $visit:ident $int:ty,)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                visitor.$visit(self.int(<$int>::MIN, <$int>::MAX)?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let node = self.node;
        match node.kind() {
            NodeKind::Null => visitor.visit_unit(),
            NodeKind::Bool => self.deserialize_bool(visitor),
            NodeKind::Int => match self.int::<i64>("", "") {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => visitor.visit_u64(self.int(i64::MIN, u64::MAX)?),
            },
            NodeKind::Float => self.deserialize_f64(visitor),
            NodeKind::String => visitor.visit_borrowed_str(node.source()),
            NodeKind::Sequence => self.deserialize_seq(visitor),
            NodeKind::Mapping => visitor.visit_map(Fields::new(self, Nulls::Value)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.node.as_bool().ok_or_else(|| self.mismatch("true or false"))?)
    }

    ints! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.node.as_float().ok_or_else(|| self.mismatch("a number"))?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.node.as_str().ok_or_else(|| self.mismatch(TEXT))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_unit() } else { Err(self.mismatch("null")) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.kind() != NodeKind::Sequence {
            return Err(self.mismatch("a list"));
        }
        visitor.visit_seq(Elements {
            refused: self.refused,
            items: self.node.items(),
            index: 0,
            left: self.node.len(),
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.kind() != NodeKind::Mapping {
            return Err(self.mismatch("a mapping"));
        }
        visitor.visit_map(Fields::new(self, Nulls::Value))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.node.kind() != NodeKind::Mapping {
            return Err(self.mismatch("a mapping"));
        }
        visitor.visit_map(Fields::new(self, Nulls::Absent(fields)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Some(text) = self.node.as_str() {
            return visitor.visit_enum(text.into_deserializer());
        }
        let mut entries = self.node.entries();
        match (entries.next(), entries.next()) {
            (Some(entry), None) => visitor.visit_enum(Variant { entry, refused: self.refused }),
            _ => Err(self.mismatch(TEXT)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf }
}

impl<'de> IntoDeserializer<'de, Error> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The items of a list.
struct Elements<'de> {
    refused: Refused<'de>,
    items: Items<'de>,
    index: usize,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        self.left = self.left.saturating_sub(1);
        let result = if item.is_null() {
            Err(Error::new("null in a list"))
        } else {
            seed.deserialize(Value { node: item, refused: self.refused })
        };
        result.map(Some).map_err(|error| error.inside(Segment::Index(index), item.position()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// What a null value in a mapping means.
#[derive(Clone, Copy)]
enum Nulls {
    /// That the field, one of these, is absent.
    Absent(&'static [&'static str]),
    /// A value like others.
    Value,
}

/// The entries of a mapping.
struct Fields<'de> {
    entries: Entries<'de>,
    refused: Refused<'de>,
    nulls: Nulls,
    current: Option<Entry<'de>>,
}

impl<'de> Fields<'de> {
    fn new(mapping: Value<'de>, nulls: Nulls) -> Self {
        Self { entries: mapping.node.entries(), refused: mapping.refused, nulls, current: None }
    }
}

impl<'de> de::MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let (nulls, refused) = (self.nulls, self.refused);
        let is_present = |entry: &Entry<'de>| match nulls {
            Nulls::Absent(fields) => {
                !(entry.value().is_null() && fields.contains(&entry.key()))
                    || refused.contains(entry.key_cell())
            }
            Nulls::Value => true,
        };
        self.current = self.entries.find(is_present);
        let Some(entry) = self.current else { return Ok(None) };
        let result = seed.deserialize(Key(entry.key()));
        result.map(Some).map_err(|error| error.inside(Segment::Key(entry.key().into()), entry.key_position()))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let Some(entry) = self.current else { return Err(Error::new("a value without a key")) };
        let node = entry.value();
        // Where nothing stands, the key is the place to look at.
        let position = if node.is_null() { entry.key_position() } else { node.position() };
        let result = if self.refused.contains(entry.key_cell()) {
            seed.deserialize(Repeated(entry))
        } else {
            seed.deserialize(Value { node, refused: self.refused })
        };
        result.map_err(|error| error.inside(Segment::Key(entry.key().into()), position))
    }
}

/// The value of a key that occurs twice with different values: it can only be passed over.
struct Repeated<'de>(Entry<'de>);

impl<'de> Deserializer<'de> for Repeated<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        let (entry, tree) = (self.0, self.0.value().tree());
        let of_key = tree.repeats_inside(entry.key_cell());
        let second = of_key.iter().find(|repeat| !repeat.is_same);
        let position = second.map_or(entry.key_position(), |repeat| tree.key_position(repeat.second));
        Err(Error::repeated(repeated_reason(entry.key(), entry.key_position()), position))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// A key of a mapping.
struct Key<'de>(&'de str);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// An enum with content: a mapping of one entry, the variant's name and its content.
struct Variant<'de> {
    entry: Entry<'de>,
    refused: Refused<'de>,
}

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        let key = self.entry;
        let variant = if self.refused.contains(key.key_cell()) {
            seed.deserialize(Repeated(key))
        } else {
            seed.deserialize(Key(key.key()))
        };
        Ok((variant.map_err(|error| error.located(key.key_position()))?, self))
    }
}

impl<'de> Variant<'de> {
    fn content(&self) -> Value<'de> {
        Value { node: self.entry.value(), refused: self.refused }
    }

    fn inside<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        let segment = Segment::Key(self.entry.key().into());
        result.map_err(|error| error.inside(segment, self.entry.value().position()))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.inside(Err(Error::new(format!("expected {TEXT}, found a mapping"))))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.inside(seed.deserialize(self.content()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.inside(self.content().deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.inside(self.content().deserialize_struct("", fields, visitor))
    }
}

const TEXT: &str = "text";
