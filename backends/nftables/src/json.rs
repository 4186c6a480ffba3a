//! Commands as JSON for `nft -j`, typed by the crate `nftables`.
//!
//! Four things the crate cannot say, and they are set after serialising: that a map leads to verdicts, that a field of a
//! key is the family of the packet (`nf_proto`), `notrack` as a statement that `nft` takes, and what an element keeps that a packet
//! adds. Everything else is typed.

use std::collections::HashSet;

use nftables::expr::{
    BinaryOperation, CT, CTDir, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload,
    PayloadBase, PayloadField, PayloadRaw, Range, SetItem, Verdict,
};
use nftables::schema::{
    Chain, Counter, Element, FlushObject, Map, NfCmd, NfListObject, NfObject, Nftables, Rule, Set, SetFlag,
    SetType, SetTypeValue, Table,
};
use nftables::stmt::{
    self, JumpTarget, Log, Mangle, Match, Operator, Reject, RejectType, Statement, VerdictMap,
};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use portcullis_core::backend::LowerError;
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;
use serde_json::Value as Json;

use crate::command::{
    self, AddressKind, BUDGET_SECONDS, BaseHook, Command, ConnectionState, Elements, Family, Field,
    HookPoint, MOST_BUDGETS, Part, SetKind, Target, Value,
};

/// One object of libnftables-json for each batch, to be carried out one after the other with `nft -j -f -`.
pub(crate) fn batch(table: &Name, commands: &[Command]) -> Result<Json, LowerError> {
    if commands.iter().any(has_no_json) {
        let reason = "the JSON of nft has no set of targets of neighbour advertisements; switch the check of neighbour claims off";
        return Err(LowerError::unsupported(None, reason));
    }
    let table = table.as_str();
    let objects: Vec<NfObject<'_>> =
        commands.iter().map(|command| NfObject::CmdObject(self::command(table, command))).collect();
    let mut json = serde_json::to_value(Nftables { objects: objects.into() })
        .map_err(|error| LowerError::unsupported(None, error))?;
    let typed = json.get_mut("nftables").and_then(Json::as_array_mut).into_iter().flatten().zip(commands);
    for (object, command) in typed {
        match command {
            Command::AddSet(set) => set_types(object, set),
            Command::AddRule(rule) => {
                let statements = object.pointer_mut("/add/rule/expr").and_then(Json::as_array_mut);
                for statement in statements.into_iter().flatten() {
                    if *statement == "notrack" {
                        *statement = serde_json::json!({ "notrack": null });
                    } else if let Some(Json::Object(update)) = statement.get_mut("set") {
                        let rate = budget(rule);
                        let limit = serde_json::json!({ "rate": rate, "per": "second", "burst": rate });
                        update.insert(
                            "stmt".into(),
                            serde_json::json!([{ "counter": null }, { "limit": limit }]),
                        );
                    }
                }
            }
            _ => {}
        }
    }
    let made = commands.iter().filter_map(|command| match command {
        Command::AddSet(set) if set.kind == SetKind::Budgets => Some(set),
        _ => None,
    });
    if let Some(Json::Array(objects)) = json.get_mut("nftables") {
        made.for_each(|set| objects.extend(used_by_packets(table, set)));
    }
    Ok(json)
}

/// Commands without an effect of their own. nft makes a set so that packets can add elements to it only when a rule of the same batch
/// says so: JSON has no flag for it.
fn used_by_packets(table: &str, set: &command::Set) -> [Json; 4] {
    let field = set.key.first().copied().unwrap_or(Field::InputInterface);
    let name = set.name.as_str();
    let chain = serde_json::json!({ "chain": { "family": "inet", "table": table, "name": name } });
    let kept =
        serde_json::json!([{ "counter": null }, { "limit": { "rate": 1, "per": "second", "burst": 1 } }]);
    let update = serde_json::json!({ "op": "update", "elem": field_of(field), "set": format!("@{name}"), "stmt": kept });
    let rule =
        serde_json::json!({ "family": "inet", "table": table, "chain": name, "expr": [{ "set": update }] });
    [
        serde_json::json!({ "add": chain }),
        serde_json::json!({ "add": { "rule": rule } }),
        serde_json::json!({ "flush": chain }),
        serde_json::json!({ "delete": chain }),
    ]
}

/// Whether nft takes the command as text only: a field that it has no name for is no key of a set in JSON.
fn has_no_json(command: &Command) -> bool {
    let unnamed = |key: &[Field]| key.contains(&Field::NeighbourTarget);
    match command {
        Command::AddSet(set) => unnamed(&set.key),
        Command::AddElements(change) | Command::DeleteElements(change) => unnamed(&change.key),
        Command::AddRule(rule) => rule.parts.iter().any(|part| match part {
            Part::In(key, _) | Part::NotIn(key, _) | Part::Dispatch(key, _) => unnamed(key),
            Part::Is(field, _) | Part::Switch(field, _) => unnamed(&[*field]),
            _ => false,
        }),
        _ => false,
    }
}

/// The packets a second that a rule has a budget of.
fn budget(rule: &command::Rule) -> Option<u32> {
    rule.parts.iter().find_map(|part| match part {
        Part::Budget(_, _, rate) => Some(*rate),
        _ => None,
    })
}

/// Says what the crate cannot: see the module.
fn set_types(object: &mut Json, set: &command::Set) {
    let word = if set.kind == SetKind::Verdicts { "map" } else { "set" };
    let Some(body) = object.pointer_mut(&format!("/add/{word}")).and_then(Json::as_object_mut) else {
        return;
    };
    let mut names = set.key.iter().map(|field| Json::from(type_name(*field)));
    let types = if set.key.len() == 1 { names.next() } else { Some(names.collect()) };
    if let Some(types) = types {
        body.insert("type".into(), types);
    }
    if set.kind == SetKind::Verdicts {
        body.insert("map".into(), "verdict".into());
    }
}

const TCP_SYN: u32 = 2;
const TCP_ACK: u32 = 16;

const fn family(family: Family) -> NfFamily {
    match family {
        Family::Inet => NfFamily::INet,
        Family::Arp => NfFamily::ARP,
    }
}

fn command<'a>(table: &'a str, command: &'a Command) -> NfCmd<'a> {
    let counter = |name: &'a Name| {
        NfListObject::Counter(Counter {
            family: family(Family::of(name)),
            table: table.into(),
            name: name.as_str().into(),
            ..Counter::default()
        })
    };
    match command {
        Command::AddTable(of) => NfCmd::Add(whole(table, *of)),
        Command::DeleteTable(of) => NfCmd::Delete(whole(table, *of)),
        Command::AddCounter(name) => NfCmd::Add(counter(name)),
        Command::DeleteCounter(name) => NfCmd::Delete(counter(name)),
        Command::AddSet(set) => NfCmd::Add(self::set(table, set)),
        // Also a map goes by the name of a set.
        Command::DeleteSet(name) => NfCmd::Delete(NfListObject::Set(Box::new(Set {
            family: family(Family::of(name)),
            table: table.into(),
            name: name.as_str().into(),
            ..Set::default()
        }))),
        Command::AddChain(chain) => NfCmd::Add(NfListObject::Chain(self::chain(table, chain))),
        Command::FlushChain(name) => NfCmd::Flush(FlushObject::Chain(plain_chain(table, name))),
        Command::DeleteChain(name) => NfCmd::Delete(NfListObject::Chain(plain_chain(table, name))),
        Command::AddRule(rule) => NfCmd::Add(NfListObject::Rule(Rule {
            family: family(Family::of(&rule.chain)),
            table: table.into(),
            chain: rule.chain.as_str().into(),
            expr: rule.parts.iter().flat_map(statements).collect(),
            comment: rule.comment.as_deref().map(Into::into),
            ..Rule::default()
        })),
        Command::AddElements(change) => NfCmd::Add(elements(table, change)),
        Command::DeleteElements(change) => NfCmd::Delete(elements(table, change)),
    }
}

fn whole(table: &str, of: Family) -> NfListObject<'_> {
    NfListObject::Table(Table { family: family(of), name: table.into(), ..Table::default() })
}

fn plain_chain<'a>(table: &'a str, name: &'a Name) -> Chain<'a> {
    let family = family(Family::of(name));
    Chain { family, table: table.into(), name: name.as_str().into(), ..Chain::default() }
}

fn chain<'a>(table: &'a str, chain: &'a command::Chain) -> Chain<'a> {
    let mut made = plain_chain(table, &chain.name);
    if let Some(BaseHook { point, priority }) = chain.hook {
        made._type = Some(NfChainType::Filter);
        made.hook = Some(match point {
            HookPoint::Prerouting => NfHook::Prerouting,
            HookPoint::Input => NfHook::Input,
            HookPoint::Forward => NfHook::Forward,
            HookPoint::Output => NfHook::Output,
        });
        made.prio = Some(priority);
        made.policy = Some(NfChainPolicy::Accept);
    }
    made
}

/// The types that the crate knows; others are set by [`set_types`].
fn set<'a>(table: &'a str, set: &'a command::Set) -> NfListObject<'a> {
    let (family, table, name) = (family(Family::of(&set.name)), table.into(), set.name.as_str().into());
    let comment = set.comment.as_deref().map(Into::into);
    let set_type = SetTypeValue::Concatenated(set.key.iter().map(|field| known_type(*field)).collect());
    if set.kind == SetKind::Verdicts {
        let map = Map { family, table, name, set_type, comment, ..Map::default() };
        return NfListObject::Map(Box::new(map));
    }
    let flags = match set.kind {
        SetKind::Ranges => Some(HashSet::from([SetFlag::Interval])),
        // That packets add elements follows from the rules that say so.
        SetKind::Timed(_) | SetKind::Budgets => Some(HashSet::from([SetFlag::Timeout])),
        SetKind::Values | SetKind::Verdicts => None,
    };
    let kept = (set.kind == SetKind::Budgets).then_some((MOST_BUDGETS, BUDGET_SECONDS));
    let (size, timeout) = kept.unzip();
    NfListObject::Set(Box::new(Set {
        family,
        table,
        name,
        set_type,
        flags,
        comment,
        size,
        timeout,
        ..Set::default()
    }))
}

const fn known_type(field: Field) -> SetType {
    match field {
        Field::Source(IpVersion::V4)
        | Field::Destination(IpVersion::V4)
        | Field::Initiator(IpVersion::V4)
        | Field::Responder(IpVersion::V4)
        | Field::ArpSender => SetType::Ipv4Addr,
        Field::Source(IpVersion::V6)
        | Field::Destination(IpVersion::V6)
        | Field::Initiator(IpVersion::V6)
        | Field::Responder(IpVersion::V6)
        | Field::NeighbourTarget => SetType::Ipv6Addr,
        Field::InputInterface | Field::OutputInterface => SetType::Ifname,
        Field::SourcePort | Field::DestinationPort => SetType::InetService,
        Field::Family
        | Field::Protocol
        | Field::IcmpType
        | Field::IcmpCode
        | Field::HopLimit
        | Field::PayloadLength
        | Field::ArpHardwareLength
        | Field::ConnectionState => SetType::InetProto,
    }
}

const fn type_name(field: Field) -> &'static str {
    match known_type(field) {
        SetType::Ipv4Addr => "ipv4_addr",
        SetType::Ipv6Addr => "ipv6_addr",
        SetType::Ifname => "ifname",
        SetType::InetService => "inet_service",
        _ if matches!(field, Field::Family) => "nf_proto",
        _ => "inet_proto",
    }
}

fn elements<'a>(table: &'a str, change: &'a Elements) -> NfListObject<'a> {
    let element = |element: &'a command::Element| {
        let values = element.key.iter().map(value);
        let key = joined(values.collect());
        match &element.target {
            Some(to) => Expression::List(vec![key, Expression::Verdict(verdict(to))]),
            None => key,
        }
    };
    NfListObject::Element(Element {
        family: family(Family::of(&change.set)),
        table: table.into(),
        name: change.set.as_str().into(),
        elem: change.elements.iter().map(element).collect(),
    })
}

fn statements(part: &Part) -> Vec<Statement<'_>> {
    vec![match part {
        Part::Is(field, value) => is(field_of(*field), self::value(value)),
        Part::In(key, set) => is(fields(key), by_name(set)),
        Part::NotIn(key, set) => matches(fields(key), by_name(set), Operator::NEQ),
        Part::Dispatch(key, map) => {
            Statement::VerdictMap(VerdictMap { key: fields(key), data: by_name(map) })
        }
        Part::Switch(field, cases) => {
            let case = |(value, to): &(Value, Target)| SetItem::MappingStatement(self::value(value), go(to));
            // As statements, because the crate writes verdicts without a chain as words, which `nft` does not take there.
            let items = cases.iter().map(case);
            let data = Expression::Named(NamedExpression::Set(items.collect()));
            Statement::VerdictMap(VerdictMap { key: field_of(*field), data })
        }
        Part::DestinationIsNot(kind) => {
            let fib = Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) };
            matches(Expression::Named(NamedExpression::Fib(fib)), text(address_kind(*kind)), Operator::NEQ)
        }
        Part::IsTranslated => {
            let ct = CT { key: "status".into(), family: None, dir: None };
            matches(Expression::Named(NamedExpression::CT(ct)), text("dnat"), Operator::IN)
        }
        Part::HasMark(bits) => is(and(mark(), *bits), Expression::Number(*bits)),
        Part::SetMark(bits) => {
            let or = BinaryOperation::OR(vec![mark(), Expression::Number(*bits)]);
            set_mark(Expression::BinaryOperation(Box::new(or)))
        }
        Part::ClearMark(bits) => set_mark(and(mark(), !*bits)),
        Part::NoTrack => Statement::Notrack,
        Part::Count(name) => Statement::Counter(stmt::Counter::Named(name.as_str().into())),
        Part::Log(group, prefix) => {
            let mut log = Log::new(Some(u32::from(*group)));
            log.prefix = Some(prefix.as_str().into());
            log.snaplen = Some(128);
            log.queue_threshold = Some(1);
            Statement::Log(Some(log))
        }
        Part::Budget(field, set, _) => Statement::Set(stmt::Set {
            op: stmt::SetOp::Update,
            elem: field_of(*field),
            set: format!("@{set}").into(),
        }),
        Part::BeginsTcp => {
            let flags = PayloadField { protocol: "tcp".into(), field: "flags".into() };
            let flags = Expression::Named(NamedExpression::Payload(Payload::PayloadField(flags)));
            is(and(flags, TCP_SYN | TCP_ACK), Expression::Number(TCP_SYN))
        }
        Part::Reset => Statement::Reject(Some(Reject { _type: Some(RejectType::TCPReset), expr: None })),
        Part::Go(to) => go(to),
    }]
}

fn go(to: &Target) -> Statement<'static> {
    let target = |chain: &Name| JumpTarget { target: chain.as_str().to_owned().into() };
    match to {
        Target::Accept => Statement::Accept(None),
        Target::Drop => Statement::Drop(None),
        Target::Return => Statement::Return(None),
        Target::Jump(chain) => Statement::Jump(target(chain)),
        Target::Goto(chain) => Statement::Goto(target(chain)),
    }
}

fn verdict(to: &Target) -> Verdict<'static> {
    let target = |chain: &Name| JumpTarget { target: chain.as_str().to_owned().into() };
    match to {
        Target::Accept => Verdict::Accept,
        Target::Drop => Verdict::Drop,
        Target::Return => Verdict::Return,
        Target::Jump(chain) => Verdict::Jump(target(chain)),
        Target::Goto(chain) => Verdict::Goto(target(chain)),
    }
}

fn is<'a>(left: Expression<'a>, right: Expression<'a>) -> Statement<'a> {
    matches(left, right, Operator::EQ)
}

const fn matches<'a>(left: Expression<'a>, right: Expression<'a>, op: Operator) -> Statement<'a> {
    Statement::Match(Match { left, right, op })
}

fn and(left: Expression<'static>, bits: u32) -> Expression<'static> {
    Expression::BinaryOperation(Box::new(BinaryOperation::AND(left, Expression::Number(bits))))
}

const fn set_mark(value: Expression<'static>) -> Statement<'static> {
    Statement::Mangle(Mangle { key: mark(), value })
}

const fn mark() -> Expression<'static> {
    meta(MetaKey::Mark)
}

const fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn text(text: &str) -> Expression<'static> {
    Expression::String(text.to_owned().into())
}

fn by_name(set: &Name) -> Expression<'static> {
    text(&format!("@{set}"))
}

fn fields(key: &[Field]) -> Expression<'static> {
    joined(key.iter().map(|field| field_of(*field)).collect())
}

/// More than one is a concatenation.
fn joined<'a>(mut parts: Vec<Expression<'a>>) -> Expression<'a> {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            Expression::Named(NamedExpression::Concat(parts))
        }
    }
}

fn field_of(field: Field) -> Expression<'static> {
    let payload = |protocol: &'static str, field: &'static str| {
        let field = PayloadField { protocol: protocol.into(), field: field.into() };
        Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
    };
    let transport = |offset, len| {
        let raw = PayloadRaw { base: PayloadBase::TH, offset, len };
        Expression::Named(NamedExpression::Payload(Payload::PayloadRaw(raw)))
    };
    match field {
        Field::Family => meta(MetaKey::Nfproto),
        Field::InputInterface => meta(MetaKey::Iifname),
        Field::OutputInterface => meta(MetaKey::Oifname),
        Field::Source(IpVersion::V4) => payload("ip", "saddr"),
        Field::Source(IpVersion::V6) => payload("ip6", "saddr"),
        Field::Destination(IpVersion::V4) => payload("ip", "daddr"),
        Field::Destination(IpVersion::V6) => payload("ip6", "daddr"),
        Field::Initiator(version) => flow_end(version, CTDir::Original),
        Field::Responder(version) => flow_end(version, CTDir::Reply),
        Field::Protocol => meta(MetaKey::L4proto),
        Field::SourcePort => payload("th", "sport"),
        Field::DestinationPort => payload("th", "dport"),
        // By position, because `icmp type` would only match IPv4.
        Field::IcmpType => transport(0, 8),
        Field::IcmpCode => transport(8, 8),
        Field::NeighbourTarget => transport(64, 128),
        Field::ArpHardwareLength => payload("arp", "hlen"),
        Field::ArpSender => payload("arp", "saddr ip"),
        Field::HopLimit => payload("ip6", "hoplimit"),
        Field::PayloadLength => payload("ip6", "length"),
        Field::ConnectionState => {
            Expression::Named(NamedExpression::CT(CT { key: "state".into(), family: None, dir: None }))
        }
    }
}

/// The sender of one direction of a connection.
fn flow_end(version: IpVersion, direction: CTDir) -> Expression<'static> {
    let key = match version {
        IpVersion::V4 => "ip saddr",
        IpVersion::V6 => "ip6 saddr",
    };
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: Some(direction) }))
}

fn value(value: &Value) -> Expression<'static> {
    let number = |number: u16| Expression::Number(number.into());
    let range = |first, last| Expression::Range(Box::new(Range { range: [first, last] }));
    match value {
        Value::Family(IpVersion::V4) => text("ipv4"),
        Value::Family(IpVersion::V6) => text("ipv6"),
        Value::Interface(name) => text(name),
        Value::InterfacePrefix(name) => text(&format!("{name}*")),
        Value::Address(address) => text(&address.to_string()),
        Value::Addresses(first, last) => range(text(&first.to_string()), text(&last.to_string())),
        Value::Number(one) => number(*one),
        Value::Numbers(first, last) => range(number(*first), number(*last)),
        Value::State(ConnectionState::New) => text("new"),
        Value::State(ConnectionState::Invalid) => text("invalid"),
        Value::State(ConnectionState::Established) => text("established"),
        Value::State(ConnectionState::Related) => text("related"),
    }
}

const fn address_kind(kind: AddressKind) -> &'static str {
    match kind {
        AddressKind::Local => "local",
        AddressKind::Broadcast => "broadcast",
        AddressKind::Anycast => "anycast",
        AddressKind::Multicast => "multicast",
    }
}
