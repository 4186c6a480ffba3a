//! Attributes, and the numbers that nf_tables gives them (`include/uapi/linux/netfilter/nf_tables.h`).

use netlink_packet_core::{DefaultNla, Emitable as _, NLA_F_NESTED, NlasIterator};

/// An attribute with these bytes.
pub(super) fn bytes(kind: u16, value: impl Into<Vec<u8>>) -> DefaultNla {
    DefaultNla::new(kind, value.into())
}

/// A text that ends in a zero.
pub(super) fn text(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

/// A number in network order.
pub(super) fn number(kind: u16, value: u32) -> DefaultNla {
    bytes(kind, value.to_be_bytes())
}

/// Attributes in an attribute. What does not fit the 16 bits of its length has to be split by the caller, see
/// [`super::encode`].
pub(super) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

/// One entry of a list.
pub(super) fn entry(attributes: &[DefaultNla]) -> DefaultNla {
    nested(LIST_ELEM, attributes)
}

const LIST_ELEM: u16 = 1;

/// Attributes by kind.
pub(super) type Read = Vec<(u16, Vec<u8>)>;

/// The attributes in `payload`, by kind; what cannot be read is left out.
pub(super) fn read(payload: &[u8]) -> Read {
    NlasIterator::new(payload).map_while(Result::ok).map(|nla| (nla.kind(), nla.value().to_vec())).collect()
}

/// The value of the attribute of this kind.
pub(super) fn find(attributes: &[(u16, Vec<u8>)], kind: u16) -> Option<&[u8]> {
    attributes.iter().find(|(found, _)| *found & KIND_MASK == kind).map(|(_, value)| &value[..])
}

/// The text in an attribute without the zero at its end.
pub(super) fn as_text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// A 32-bit number in network order.
pub(super) fn as_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// A 64-bit number in network order.
pub(super) fn as_u64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// Without the flags for nesting and byte order.
const KIND_MASK: u16 = 0x3fff;
