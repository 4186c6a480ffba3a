//! Rules as expressions that work on registers.

use netlink_packet_core::DefaultNla;

use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use super::attr::{bytes, entry, nested, number, text};
use super::value::{key_bytes, padded, range_bytes, verdict};
use crate::command::{AddressKind, Field, Part, Value};

/// An anonymous map that a rule brings along.
pub(super) struct OwnMap {
    pub(super) id: u32,
    pub(super) field: Field,
    pub(super) cases: Vec<(Value, crate::command::Target)>,
}

/// The list of expressions of `parts`; maps of the rule's own get ids from `next_id` on.
pub(super) fn expressions(parts: &[Part], next_id: &mut u32) -> (Vec<DefaultNla>, Vec<OwnMap>) {
    let mut builder = Builder { list: Vec::new(), maps: Vec::new(), next_id };
    for part in parts {
        builder.part(part);
    }
    (builder.list, builder.maps)
}

struct Builder<'a> {
    list: Vec<DefaultNla>,
    maps: Vec<OwnMap>,
    next_id: &'a mut u32,
}

const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const REG32_0: u32 = 8;

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const CMP_LTE: u32 = 3;
const CMP_GTE: u32 = 5;

impl Builder<'_> {
    fn part(&mut self, part: &Part) {
        match part {
            Part::Is(field, value) => {
                self.family(&[*field]);
                self.load(*field, REG_1);
                self.compare(*field, value);
            }
            Part::In(key, set) => self.look_up(key, set, &[]),
            Part::NotIn(key, set) => self.look_up(key, set, &[number(5, LOOKUP_INVERTED)]),
            Part::Dispatch(key, map) => self.look_up(key, map, &[number(3, REG_VERDICT)]),
            Part::Switch(field, cases) => {
                let id = *self.next_id;
                *self.next_id = id.saturating_add(1);
                self.maps.push(OwnMap { id, field: *field, cases: cases.clone() });
                self.load(*field, REG_1);
                let attributes =
                    [text(1, ANONYMOUS), number(2, REG_1), number(3, REG_VERDICT), number(4, id)];
                self.push("lookup", &attributes);
            }
            Part::DestinationIsNot(kind) => {
                let attributes =
                    [number(1, REG_1), number(2, FIB_ADDRESS_TYPE), number(3, FIB_OF_DESTINATION)];
                self.push("fib", &attributes);
                let kind = route_type(*kind).to_ne_bytes();
                self.push("cmp", &[number(1, REG_1), number(2, CMP_NEQ), data(&kind)]);
            }
            Part::IsTranslated => {
                self.push("ct", &[number(1, REG_1), number(2, CT_STATUS)]);
                self.mask(STATUS_DNAT, 0);
                self.push("cmp", &[number(1, REG_1), number(2, CMP_NEQ), data(&0_u32.to_ne_bytes())]);
            }
            Part::HasMark(bits) => {
                self.push("meta", &[number(1, REG_1), number(2, META_MARK)]);
                self.mask(*bits, 0);
                self.push("cmp", &[number(1, REG_1), number(2, CMP_EQ), data(&bits.to_ne_bytes())]);
            }
            Part::SetMark(bits) => self.mark(!bits, *bits),
            Part::ClearMark(bits) => self.mark(!bits, 0),
            Part::NoTrack => self.push("notrack", &[]),
            Part::Count(name) => self.push("objref", &[number(1, OBJECT_COUNTER), text(2, name)]),
            Part::Log(group, prefix) => {
                let attributes = [
                    bytes(1, group.to_be_bytes()),
                    text(2, prefix),
                    number(3, LOG_SNAPLEN),
                    bytes(4, 1_u16.to_be_bytes()),
                ];
                self.push("log", &attributes);
            }
            Part::Budget(field, set, rate) => self.budget(*field, set, *rate),
            Part::BeginsTcp => {
                self.load(Field::Protocol, REG_1);
                self.compare(Field::Protocol, &Value::Number(6));
                self.payload(REG_1, BASE_TRANSPORT, 13, 1);
                let value = |kind, byte: u8| nested(kind, &[bytes(1, [byte])]);
                let mask = [
                    number(1, REG_1),
                    number(2, REG_1),
                    number(3, 1),
                    value(4, TCP_SYN | TCP_ACK),
                    value(5, 0),
                    number(6, 0),
                ];
                self.push("bitwise", &mask);
                self.push("cmp", &[number(1, REG_1), number(2, CMP_EQ), data(&[TCP_SYN])]);
            }
            Part::Reset => self.push("reject", &[number(1, REJECT_TCP_RESET)]),
            Part::Go(target) => {
                self.push("immediate", &[number(1, REG_VERDICT), nested(2, &[verdict(target)])]);
            }
        }
    }

    fn budget(&mut self, field: Field, set: &Name, rate: u32) {
        self.load(field, REG_1);
        let expression =
            |name: &str, attributes: &[DefaultNla]| entry(&[text(1, name), nested(2, attributes)]);
        let wide = |kind, value: u64| bytes(kind, value.to_be_bytes());
        let limit = [wide(1, rate.into()), wide(2, 1), number(3, rate), number(4, 0), number(5, 0)];
        let kept = [expression("counter", &[wide(1, 0), wide(2, 0)]), expression("limit", &limit)];
        let attributes = [
            text(1, set),
            number(3, DYNSET_UPDATE),
            number(4, REG_1),
            number(9, DYNSET_EXPRESSIONS),
            nested(10, &kept),
        ];
        self.push("dynset", &attributes);
    }

    fn push(&mut self, name: &str, attributes: &[DefaultNla]) {
        self.list.push(entry(&[text(1, name), nested(2, attributes)]));
    }

    /// Addresses stand at different places in the two families, so the family is asked first.
    fn family(&mut self, key: &[Field]) {
        let version = key.iter().find_map(|field| match field {
            Field::Source(version) | Field::Destination(version) => Some(*version),
            Field::HopLimit | Field::PayloadLength => Some(IpVersion::V6),
            _ => None,
        });
        if let Some(version) = version {
            self.push("meta", &[number(1, REG_1), number(2, META_NFPROTO)]);
            let family = key_bytes(Field::Family, &Value::Family(version));
            self.push("cmp", &[number(1, REG_1), number(2, CMP_EQ), data(&family)]);
        }
    }

    fn look_up(&mut self, key: &[Field], set: &Name, rest: &[DefaultNla]) {
        self.family(key);
        let mut word = 0_u32;
        for field in key {
            // A register of 16 bytes has two names; the short one where there is one, as nft writes it.
            let register = if word.is_multiple_of(4) { REG_1 + word / 4 } else { REG32_0 + word };
            self.load(*field, register);
            word = word.saturating_add(u32::try_from(padded(*field) / 4).unwrap_or(0));
        }
        let mut attributes = vec![text(1, set), number(2, REG_1)];
        attributes.extend_from_slice(rest);
        self.push("lookup", &attributes);
    }

    fn load(&mut self, field: Field, register: u32) {
        match field {
            Field::Family | Field::InputInterface | Field::OutputInterface | Field::Protocol => {
                self.push("meta", &[number(1, register), number(2, meta_key(field))]);
            }
            Field::ConnectionState => self.push("ct", &[number(1, register), number(2, CT_STATE)]),
            Field::Initiator(version) => self.flow_end(register, version, CT_ORIGINAL),
            Field::Responder(version) => self.flow_end(register, version, CT_REPLY),
            Field::Source(IpVersion::V4) => self.payload(register, BASE_NETWORK, 12, 4),
            Field::Source(IpVersion::V6) => self.payload(register, BASE_NETWORK, 8, 16),
            Field::Destination(IpVersion::V4) => self.payload(register, BASE_NETWORK, 16, 4),
            Field::Destination(IpVersion::V6) => self.payload(register, BASE_NETWORK, 24, 16),
            Field::SourcePort => self.payload(register, BASE_TRANSPORT, 0, 2),
            Field::DestinationPort => self.payload(register, BASE_TRANSPORT, 2, 2),
            Field::IcmpType => self.payload(register, BASE_TRANSPORT, 0, 1),
            Field::IcmpCode => self.payload(register, BASE_TRANSPORT, 1, 1),
            Field::HopLimit => self.payload(register, BASE_NETWORK, 7, 1),
            Field::PayloadLength => self.payload(register, BASE_NETWORK, 4, 2),
            Field::NeighbourTarget => self.payload(register, BASE_TRANSPORT, 8, 16),
            Field::ArpHardwareLength => self.payload(register, BASE_NETWORK, 4, 1),
            Field::ArpSender => self.payload(register, BASE_NETWORK, 14, 4),
        }
    }

    fn flow_end(&mut self, register: u32, version: IpVersion, direction: u8) {
        let key = match version {
            IpVersion::V4 => CT_SOURCE_V4,
            IpVersion::V6 => CT_SOURCE_V6,
        };
        self.push("ct", &[number(1, register), number(2, key), bytes(3, [direction])]);
    }

    fn payload(&mut self, register: u32, base: u32, offset: u32, length: u32) {
        let attributes = [number(1, register), number(2, base), number(3, offset), number(4, length)];
        self.push("payload", &attributes);
    }

    fn compare(&mut self, field: Field, value: &Value) {
        match value {
            Value::InterfacePrefix(prefix) => {
                let attributes = [number(1, REG_1), number(2, CMP_EQ), data(prefix.as_bytes())];
                self.push("cmp", &attributes);
            }
            Value::Numbers(..) | Value::Addresses(..) => {
                let (first, last) = range_bytes(field, value);
                for (operator, bound) in [(CMP_GTE, first), (CMP_LTE, last)] {
                    self.push("cmp", &[number(1, REG_1), number(2, operator), data(&bound)]);
                }
            }
            value => {
                let attributes = [number(1, REG_1), number(2, CMP_EQ), data(&key_bytes(field, value))];
                self.push("cmp", &attributes);
            }
        }
    }

    /// Keeps the bits of register 1 that are in `mask`, and flips those in `xor`.
    fn mask(&mut self, mask: u32, xor: u32) {
        let value = |kind, bits: u32| nested(kind, &[bytes(1, bits.to_ne_bytes())]);
        let attributes =
            [number(1, REG_1), number(2, REG_1), number(3, 4), value(4, mask), value(5, xor), number(6, 0)];
        self.push("bitwise", &attributes);
    }

    fn mark(&mut self, mask: u32, xor: u32) {
        self.push("meta", &[number(1, REG_1), number(2, META_MARK)]);
        self.mask(mask, xor);
        self.push("meta", &[number(2, META_MARK), number(3, REG_1)]);
    }
}

/// The kernel's number for what of a packet's surroundings a field is.
pub(super) const fn meta_key(field: Field) -> u32 {
    match field {
        Field::Family => META_NFPROTO,
        Field::InputInterface => META_IIFNAME,
        Field::OutputInterface => META_OIFNAME,
        _ => META_L4PROTO,
    }
}

/// `NFT_DYNSET_OP_UPDATE`, `NFT_DYNSET_F_EXPR`.
const DYNSET_UPDATE: u32 = 1;
const DYNSET_EXPRESSIONS: u32 = 2;
/// `NFT_LOOKUP_F_INV`.
const LOOKUP_INVERTED: u32 = 1;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `NFT_CT_SRC_IP`, `NFT_CT_SRC_IP6`, and the directions of `enum ip_conntrack_dir`.
const CT_SOURCE_V4: u32 = 19;
const CT_SOURCE_V6: u32 = 21;
const CT_ORIGINAL: u8 = 0;
const CT_REPLY: u8 = 1;
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 0x20;
/// `RTN_LOCAL` and so on.
const fn route_type(kind: AddressKind) -> u32 {
    match kind {
        AddressKind::Local => 2,
        AddressKind::Broadcast => 3,
        AddressKind::Anycast => 4,
        AddressKind::Multicast => 5,
    }
}

/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_OF_DESTINATION: u32 = 2;
const OBJECT_COUNTER: u32 = 1;
const TCP_SYN: u8 = 2;
const TCP_ACK: u8 = 16;
/// `NFT_REJECT_TCP_RST`.
const REJECT_TCP_RESET: u32 = 1;
/// Bytes of the packet that an event carries: enough for the headers that identify it.
const LOG_SNAPLEN: u32 = 128;
/// The name of a set that belongs to a rule; the kernel fills in a number.
pub(super) const ANONYMOUS: &str = "__map%d";

/// The third attribute of a comparison: its right side.
fn data(value: &[u8]) -> DefaultNla {
    nested(3, &[bytes(1, value)])
}
