//! Values of fields as they stand in registers and sets.

use core::net::IpAddr;

use netlink_packet_core::DefaultNla;

use portcullis_core::net::IpVersion;

use super::attr::{nested, number, text};
use crate::command::{ConnectionState, Field, Target, Value};

/// The number after one in network order; `None` for the last.
pub(super) fn next(mut number: Vec<u8>) -> Option<Vec<u8>> {
    for byte in number.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(number);
        }
    }
    None
}

/// The verdict as data.
pub(super) fn verdict(target: &Target) -> DefaultNla {
    let (code, chain) = match target {
        Target::Drop => (DROP, None),
        Target::Accept => (ACCEPT, None),
        Target::Jump(chain) => (JUMP, Some(chain)),
        Target::Goto(chain) => (GOTO, Some(chain)),
        Target::Return => (RETURN, None),
    };
    let mut attributes = vec![number(1, code)];
    attributes.extend(chain.map(|chain| text(2, chain)));
    nested(2, &attributes)
}

const DROP: u32 = 0;
pub(super) const ACCEPT: u32 = 1;
const JUMP: u32 = 0xffff_fffd;
const GOTO: u32 = 0xffff_fffc;
const RETURN: u32 = 0xffff_fffb;

/// Bytes of a field in packet and set.
pub(super) const fn field_len(field: Field) -> usize {
    match field {
        Field::Family
        | Field::Protocol
        | Field::IcmpType
        | Field::IcmpCode
        | Field::HopLimit
        | Field::ArpHardwareLength => 1,
        Field::SourcePort | Field::DestinationPort | Field::PayloadLength => 2,
        Field::Source(IpVersion::V4)
        | Field::Destination(IpVersion::V4)
        | Field::Initiator(IpVersion::V4)
        | Field::Responder(IpVersion::V4)
        | Field::ArpSender
        | Field::ConnectionState => 4,
        Field::Source(IpVersion::V6)
        | Field::Destination(IpVersion::V6)
        | Field::Initiator(IpVersion::V6)
        | Field::Responder(IpVersion::V6)
        | Field::NeighbourTarget
        | Field::InputInterface
        | Field::OutputInterface => 16,
    }
}

/// The same in a concatenation, where each field fills whole registers.
pub(super) const fn padded(field: Field) -> usize {
    field_len(field).next_multiple_of(4)
}

/// nft's number for the type of a field (`enum datatypes` of nftables), which it prints elements by.
pub(super) const fn type_of(field: Field) -> u32 {
    match field {
        Field::Family => 2,
        Field::Source(IpVersion::V4)
        | Field::Destination(IpVersion::V4)
        | Field::Initiator(IpVersion::V4)
        | Field::Responder(IpVersion::V4)
        | Field::ArpSender => 7,
        Field::Source(IpVersion::V6)
        | Field::Destination(IpVersion::V6)
        | Field::Initiator(IpVersion::V6)
        | Field::Responder(IpVersion::V6) => 8,
        Field::Protocol => 12,
        Field::SourcePort | Field::DestinationPort => 13,
        Field::IcmpType
        | Field::IcmpCode
        | Field::HopLimit
        | Field::PayloadLength
        | Field::NeighbourTarget
        | Field::ArpHardwareLength => 4,
        Field::ConnectionState => 26,
        Field::InputInterface | Field::OutputInterface => 41,
    }
}

/// Bits of a type in the type of a concatenation.
pub(super) const TYPE_BITS: u32 = 6;

/// A single value as it stands in a register.
pub(super) fn key_bytes(field: Field, value: &Value) -> Vec<u8> {
    match value {
        Value::Family(IpVersion::V4) => vec![NFPROTO_IPV4],
        Value::Family(IpVersion::V6) => vec![NFPROTO_IPV6],
        Value::Interface(name) | Value::InterfacePrefix(name) => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        }
        Value::Address(address) | Value::Addresses(address, _) => octets(*address),
        Value::Number(number) | Value::Numbers(number, _) => sized(field, *number),
        Value::State(state) => {
            let bit: u32 = match state {
                ConnectionState::New => 8,
                ConnectionState::Invalid => 1,
                ConnectionState::Established => 2,
                ConnectionState::Related => 4,
            };
            bit.to_ne_bytes().to_vec()
        }
    }
}

/// First and last of a value or range.
pub(super) fn range_bytes(field: Field, value: &Value) -> (Vec<u8>, Vec<u8>) {
    let last = match value {
        Value::Addresses(_, last) => octets(*last),
        Value::Numbers(_, last) => sized(field, *last),
        value => key_bytes(field, value),
    };
    (key_bytes(field, value), last)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn sized(field: Field, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    if field_len(field) == 1 { vec![low] } else { vec![high, low] }
}

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
