//! Commands as messages.

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};

use portcullis_core::label::Name;

use super::attr::{bytes, entry, nested, number, text};
use super::expr::{self, ANONYMOUS, OwnMap};
use super::hook_number;
use super::value::{ACCEPT, TYPE_BITS, field_len, key_bytes, next, padded, range_bytes, type_of, verdict};
use crate::command::{
    BUDGET_SECONDS, Chain, Command, Element, Elements, Family, Field, MOST_BUDGETS, Rule, Set, SetKind,
    Target, Value,
};

/// A batch as bytes.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    /// Sequence number of the message that opens the batch.
    pub(super) first: u32,
    /// The command that each message was made from, by sequence number less `first` and 1.
    pub(super) commands: Vec<usize>,
    /// Sequence number of the last message before the one that closes the batch.
    pub(super) last: u32,
}

/// Encodes `commands` as one batch whose sequence numbers begin at `first`. With `generation`, the kernel refuses the
/// batch once anybody else has changed its nf_tables since then.
pub(super) fn batch(table: &Name, commands: &[Command], first: u32, generation: Option<u32>) -> Encoded {
    let mut batch = Batch {
        table,
        bytes: Vec::new(),
        sequence: first,
        commands: Vec::new(),
        next_id: 1,
        last: first,
        family: Family::Inet,
    };
    batch.control(BATCH_BEGIN, generation);
    for (index, command) in commands.iter().enumerate() {
        batch.command(index, command, index.saturating_add(1) == commands.len());
    }
    let last = batch.last;
    batch.control(BATCH_END, None);
    Encoded { bytes: batch.bytes, first, commands: batch.commands, last }
}

const BATCH_BEGIN: u8 = 16;
const BATCH_END: u8 = 17;
/// `NFNL_SUBSYS_NFTABLES`, which a batch names in its header.
const SUBSYSTEM: u16 = 10;

const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
const DELETE_RULE: u8 = 8;
const NEW_SET: u8 = 9;
const DELETE_SET: u8 = 11;
const NEW_ELEMENT: u8 = 12;
const DELETE_ELEMENT: u8 = 14;
const NEW_OBJECT: u8 = 18;
const DELETE_OBJECT: u8 = 20;

const SET_ANONYMOUS: u32 = 1;
const SET_CONSTANT: u32 = 2;
const SET_INTERVAL: u32 = 4;
const SET_MAP: u32 = 8;
const SET_TIMEOUT: u32 = 16;
const SET_DYNAMIC: u32 = 32;

const ELEMENT_INTERVAL_END: u32 = 1;

/// The kernel's `NFT_DATA_VERDICT`.
const DATA_VERDICT: u32 = 0xffff_ff00;

/// A list of elements has to stay below 64 KiB, the most that its 16-bit length can say. The longest element, an
/// interface and two IPv6 addresses with the name of a chain, takes less than 150 bytes.
const CHUNK: usize = 400;

struct Batch<'a> {
    table: &'a Name,
    bytes: Vec<u8>,
    sequence: u32,
    commands: Vec<usize>,
    next_id: u32,
    last: u32,
    /// That of the command at hand.
    family: Family,
}

impl Batch<'_> {
    fn control(&mut self, kind: u8, generation: Option<u32>) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
        let attributes = generation.map(|generation| number(1, generation)).into_iter().collect();
        self.emit(header, NetfilterSubsystem::None, kind, NLM_F_REQUEST, attributes);
    }

    fn message(&mut self, index: usize, kind: u8, flags: u16, attributes: Vec<DefaultNla>) {
        self.commands.push(index);
        self.last = self.sequence;
        let header = NetfilterHeader::new(protocol_family(self.family), 0, 0);
        self.emit(header, NetfilterSubsystem::NfTables, kind, NLM_F_REQUEST | flags, attributes);
    }

    fn emit(
        &mut self,
        header: NetfilterHeader,
        subsys: NetfilterSubsystem,
        message_type: u8,
        flags: u16,
        attributes: Vec<DefaultNla>,
    ) {
        let inner = NetfilterMessageInner::Other { subsys, message_type, attributes };
        let mut netlink = NetlinkHeader::default();
        netlink.flags = flags;
        netlink.sequence_number = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let mut message =
            NetlinkMessage::new(netlink, NetlinkPayload::from(NetfilterMessage::new(header, inner)));
        message.finalize();
        let start = self.bytes.len();
        self.bytes.resize(start.saturating_add(message.buffer_len()), 0);
        if let Some(free) = self.bytes.get_mut(start..) {
            message.serialize(free);
        }
    }

    /// Appends the messages of `command`. The last message of a batch asks to be acknowledged.
    fn command(&mut self, index: usize, command: &Command, is_last: bool) {
        let ack = if is_last { NLM_F_ACK } else { 0 };
        self.family = command.family();
        let table = text(1, self.table);
        let named = |kind: u16, name: &Name| vec![text(1, self.table), text(kind, name)];
        match command {
            Command::AddTable(_) => {
                // Without flags: one that was put to sleep wakes up.
                self.message(index, NEW_TABLE, NLM_F_CREATE | ack, vec![table, number(2, 0)]);
            }
            Command::DeleteTable(_) => self.message(index, DELETE_TABLE, ack, vec![table]),
            Command::AddCounter(name) => {
                let mut attributes = named(2, name);
                attributes.extend([number(3, 1), nested(4, &[])]);
                self.message(index, NEW_OBJECT, NLM_F_CREATE | ack, attributes);
            }
            Command::DeleteCounter(name) => {
                let mut attributes = named(2, name);
                attributes.push(number(3, 1));
                self.message(index, DELETE_OBJECT, ack, attributes);
            }
            Command::AddSet(set) => self.set(index, set, ack),
            Command::DeleteSet(name) => {
                let attributes = named(2, name);
                self.message(index, DELETE_SET, ack, attributes);
            }
            Command::AddChain(chain) => self.chain(index, chain, ack),
            Command::FlushChain(name) => {
                let attributes = named(2, name);
                self.message(index, DELETE_RULE, ack, attributes);
            }
            Command::DeleteChain(name) => {
                let attributes = named(3, name);
                self.message(index, DELETE_CHAIN, ack, attributes);
            }
            Command::AddRule(rule) => self.rule(index, rule, ack),
            Command::AddElements(change) => self.elements(index, NEW_ELEMENT, NLM_F_CREATE, change, ack),
            Command::DeleteElements(change) => self.elements(index, DELETE_ELEMENT, 0, change, ack),
        }
    }

    fn set(&mut self, index: usize, set: &Set, ack: u16) {
        let mut attributes = self.set_attributes(&set.name, &set.key, set_flags(set.kind));
        if set.kind == SetKind::Budgets {
            let milliseconds = u64::from(BUDGET_SECONDS).saturating_mul(1_000);
            attributes.push(nested(9, &[number(1, MOST_BUDGETS)]));
            attributes.push(bytes(11, milliseconds.to_be_bytes()));
        }
        if let Some(comment) = &set.comment {
            attributes.push(bytes(13, user_data(&[(USER_COMMENT, zero_ended(comment))])));
        } else if let [field] = &set.key[..] {
            attributes.push(bytes(13, key_order(*field)));
        } else if set.key.contains(&Field::NeighbourTarget) {
            attributes.push(bytes(13, typed_by_place(&set.key)));
        }
        self.message(index, NEW_SET, NLM_F_CREATE | ack, attributes);
    }

    fn set_attributes(&mut self, name: &str, key: &[Field], flags: u32) -> Vec<DefaultNla> {
        let kind = key.iter().fold(0, |all, field| (all << TYPE_BITS) | type_of(*field));
        let id = self.next_id;
        self.next_id = id.saturating_add(1);
        let mut attributes = vec![
            text(1, self.table),
            text(2, name),
            number(3, flags),
            number(4, kind),
            number(5, key_length(key)),
            number(10, id),
        ];
        if flags & SET_MAP != 0 {
            attributes.push(number(6, DATA_VERDICT));
        }
        attributes
    }

    fn chain(&mut self, index: usize, chain: &Chain, ack: u16) {
        let mut attributes = vec![text(1, self.table), text(3, &chain.name)];
        if let Some(hook) = chain.hook {
            let point = hook_number(self.family, hook.point);
            let priority = bytes(2, hook.priority.to_be_bytes());
            attributes.extend([
                nested(4, &[number(1, point), priority]),
                number(5, ACCEPT),
                text(7, "filter"),
            ]);
        }
        if let Some(comment) = &chain.comment {
            attributes.push(bytes(12, user_data(&[(0, zero_ended(comment))])));
        }
        self.message(index, NEW_CHAIN, NLM_F_CREATE | ack, attributes);
    }

    fn rule(&mut self, index: usize, rule: &Rule, ack: u16) {
        let (list, maps) = expr::expressions(&rule.parts, &mut self.next_id);
        for map in maps {
            self.own_map(index, &map);
        }
        let mut attributes = vec![text(1, self.table), text(2, &rule.chain), nested(4, &list)];
        if let Some(comment) = &rule.comment {
            attributes.push(bytes(7, user_data(&[(0, zero_ended(comment))])));
        }
        self.message(index, NEW_RULE, NLM_F_CREATE | NLM_F_APPEND | ack, attributes);
    }

    /// The set of a rule's own, and its elements.
    fn own_map(&mut self, index: usize, map: &OwnMap) {
        let ranged =
            map.cases.iter().any(|(value, _)| matches!(value, Value::Numbers(..) | Value::Addresses(..)));
        let flags = SET_ANONYMOUS | SET_CONSTANT | SET_MAP | if ranged { SET_INTERVAL } else { 0 };
        let spare = self.next_id;
        let mut attributes = self.set_attributes(ANONYMOUS, &[map.field], flags);
        self.next_id = spare;
        for attribute in &mut attributes {
            if netlink_packet_core::Nla::kind(attribute) == 10 {
                *attribute = number(10, map.id);
            }
        }
        attributes.push(bytes(13, key_order(map.field)));
        self.message(index, NEW_SET, NLM_F_CREATE, attributes);
        let cases: Vec<Element> = map
            .cases
            .iter()
            .map(|(value, target)| Element { key: vec![value.clone()], target: Some(target.clone()) })
            .collect();
        for chunk in cases.chunks(CHUNK / 2) {
            let list: Vec<DefaultNla> =
                chunk.iter().flat_map(|case| element(&[map.field], case, ranged)).collect();
            let attributes =
                vec![text(1, self.table), text(2, ANONYMOUS), number(4, map.id), nested(3, &list)];
            self.message(index, NEW_ELEMENT, NLM_F_CREATE, attributes);
        }
    }

    fn elements(&mut self, index: usize, kind: u8, flags: u16, change: &Elements, ack: u16) {
        let ranged = change.kind == SetKind::Ranges;
        let mut chunks = change.elements.chunks(CHUNK / 2).peekable();
        while let Some(chunk) = chunks.next() {
            let list: Vec<DefaultNla> = match change.kind {
                SetKind::Timed(seconds) if kind == NEW_ELEMENT => {
                    chunk.iter().map(|one| timed_element(&change.key, one, seconds)).collect()
                }
                _ => chunk.iter().flat_map(|one| element(&change.key, one, ranged)).collect(),
            };
            let attributes = vec![text(1, self.table), text(2, &change.set), nested(3, &list)];
            let ack = if chunks.peek().is_none() { ack } else { 0 };
            self.message(index, kind, flags | ack, attributes);
        }
    }
}

/// The flags of a named set.
pub(super) const fn set_flags(kind: SetKind) -> u32 {
    match kind {
        SetKind::Values => 0,
        SetKind::Ranges => SET_INTERVAL,
        SetKind::Verdicts => SET_MAP,
        SetKind::Timed(_) => SET_TIMEOUT,
        SetKind::Budgets => SET_TIMEOUT | SET_DYNAMIC,
    }
}

/// Bytes of a key.
pub(super) fn key_length(key: &[Field]) -> u32 {
    let length = match key {
        [field] => field_len(*field),
        fields => fields.iter().map(|field| padded(*field)).sum(),
    };
    u32::try_from(length).unwrap_or(0)
}

/// One element; a range is two, of which the second says where it ends.
pub(super) fn element(key: &[Field], element: &Element, ranged: bool) -> Vec<DefaultNla> {
    let with = |key: Option<Vec<u8>>, flags: u32, target: Option<&Target>| {
        let mut attributes = Vec::new();
        if let Some(key) = key {
            attributes.push(nested(1, &[bytes(1, key)]));
        }
        if let Some(target) = target {
            attributes.push(nested(2, &[verdict(target)]));
        }
        if flags != 0 {
            attributes.push(number(3, flags));
        }
        entry(&attributes)
    };
    let target = element.target.as_ref();
    match (key, &element.key[..]) {
        ([field], [value]) if ranged => {
            let (first, last) = range_bytes(*field, value);
            let mut both = vec![with(Some(first), 0, target)];
            both.extend(next(last).map(|end| with(Some(end), ELEMENT_INTERVAL_END, None)));
            both
        }
        (fields, values) => vec![with(Some(joined_key(fields, values)), 0, target)],
    }
}

/// One element that goes by itself.
fn timed_element(key: &[Field], one: &Element, seconds: u32) -> DefaultNla {
    let milliseconds = u64::from(seconds).saturating_mul(1_000);
    let key = nested(1, &[bytes(1, joined_key(key, &one.key))]);
    entry(&[key, bytes(ELEMENT_TIMEOUT, milliseconds.to_be_bytes())])
}

/// The key as one value; more than one field is a concatenation.
fn joined_key(fields: &[Field], values: &[Value]) -> Vec<u8> {
    let mut all = Vec::new();
    for (field, value) in fields.iter().zip(values) {
        all.extend(key_bytes(*field, value));
        if fields.len() > 1 {
            all.resize(all.len().next_multiple_of(4), 0);
        }
    }
    all
}

/// `NFTA_SET_ELEM_TIMEOUT`.
const ELEMENT_TIMEOUT: u16 = 4;

/// User data as libnftnl lays it out: type, length, value.
fn user_data(entries: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (kind, value) in entries {
        all.push(*kind);
        all.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        all.extend(value);
    }
    all
}

fn zero_ended(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

const USER_COMMENT: u8 = 7;

/// The fields of a key by their place in the packet, which nft prints a field by that has no type.
fn typed_by_place(key: &[Field]) -> Vec<u8> {
    let number = |number: u32| number.to_ne_bytes().to_vec();
    let field = |(index, field): (usize, &Field)| {
        let (expression, data) = match field {
            Field::NeighbourTarget => {
                // No header, no field of it, base, bits before it, bits.
                let place = [0, 0, PLACE_TRANSPORT, 64, 128];
                let place: Vec<_> = (0_u8..).zip(place.map(number)).collect();
                (PLACE_PAYLOAD, user_data(&place))
            }
            field => (PLACE_META, user_data(&[(0, number(expr::meta_key(*field)))])),
        };
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        (index, user_data(&[(0, number(expression)), (1, data)]))
    };
    let fields: Vec<_> = key.iter().enumerate().map(field).collect();
    let all = user_data(&[(0, number(PLACE_CONCATENATION)), (1, user_data(&fields))]);
    user_data(&[(0, number(0)), (USER_KEY_PLACE, all)])
}

/// `NFTNL_UDATA_SET_KEY_TYPEOF`, and nft's `EXPR_CONCAT`, `EXPR_META`, `EXPR_PAYLOAD` and `PROTO_BASE_TRANSPORT_HDR`.
const USER_KEY_PLACE: u8 = 3;
const PLACE_CONCATENATION: u32 = 13;
const PLACE_META: u32 = 9;
const PLACE_PAYLOAD: u32 = 7;
const PLACE_TRANSPORT: u32 = 3;

/// The kernel's number of a family.
pub(super) const fn protocol_family(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::Inet => NetfilterProtoFamily::Inet,
        Family::Arp => NetfilterProtoFamily::ARP,
    }
}

/// The byte order of a key, without which nft prints numbers swapped.
fn key_order(field: Field) -> Vec<u8> {
    let order: u32 = match field {
        Field::InputInterface | Field::OutputInterface | Field::ConnectionState | Field::Family => 1,
        _ => 2,
    };
    user_data(&[(0, order.to_ne_bytes().to_vec())])
}
