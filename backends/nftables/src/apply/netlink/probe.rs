//! One of everything.

use portcullis_core::net::IpVersion;

use crate::command::{
    AddressKind, BaseHook, Chain, Command, ConnectionState, Element, Elements, Family, Field, HookPoint,
    Part, Rule, Set, SetKind, Target, Value,
};

/// A table with every kind of object and expression, and its removal.
pub(super) fn commands() -> Vec<Command> {
    let set = |name: &str, key: &[Field], kind| {
        Command::AddSet(Set { name: name.into(), key: key.to_vec(), kind, comment: None })
    };
    let chain = |name: &str, hook| Command::AddChain(Chain { name: name.into(), hook, comment: None });
    let rule = |chain: &str, parts| {
        Command::AddRule(Rule { chain: chain.into(), parts, comment: Some("probe".into()) })
    };
    let source = Field::Source(IpVersion::V6);
    let three = [Field::InputInterface, source, Field::Destination(IpVersion::V6)];
    let states = vec![(Value::State(ConnectionState::Related), Target::Accept)];
    let ports = vec![(Value::Numbers(1, 2), Target::Drop), (Value::Number(7), Target::Return)];
    let protocol = Part::Is(Field::Protocol, Value::Number(6));
    let hook = BaseHook { point: HookPoint::Forward, priority: 0 };
    let map = [Field::Family, Field::OutputInterface];
    let key = vec![Value::Family(IpVersion::V4), Value::Interface("probe0".into())];
    vec![
        Command::AddTable(Family::Inet),
        Command::AddCounter("count".into()),
        set("values", &three, SetKind::Values),
        set("ranges", &[source], SetKind::Ranges),
        set("verdicts", &map, SetKind::Verdicts),
        set("timed", &[source], SetKind::Timed(0)),
        set("budgets", &[Field::InputInterface], SetKind::Budgets),
        chain("plain", None),
        chain("hooked", Some(hook)),
        Command::AddElements(Elements {
            set: "verdicts".into(),
            key: map.to_vec(),
            kind: SetKind::Verdicts,
            elements: vec![Element { key, target: Some(Target::Goto("plain".into())) }],
        }),
        rule("plain", vec![Part::In(three.to_vec(), "values".into()), Part::Go(Target::Return)]),
        rule("plain", vec![Part::In(vec![source], "ranges".into()), Part::Log(1, "probe".into())]),
        rule("plain", vec![protocol, Part::Switch(Field::DestinationPort, ports)]),
        rule(
            "plain",
            vec![Part::HasMark(1), Part::ClearMark(1), Part::SetMark(1), Part::Count("count".into())],
        ),
        rule(
            "plain",
            vec![
                Part::In(
                    vec![
                        Field::InputInterface,
                        Field::Initiator(IpVersion::V6),
                        Field::Responder(IpVersion::V6),
                    ],
                    "values".into(),
                ),
                Part::Go(Target::Return),
            ],
        ),
        rule("plain", vec![Part::NotIn(vec![source], "ranges".into()), Part::Go(Target::Return)]),
        rule(
            "plain",
            vec![Part::Budget(Field::InputInterface, "budgets".into(), 1), Part::Log(1, "probe".into())],
        ),
        rule("plain", vec![Part::BeginsTcp, Part::Reset]),
        rule("plain", vec![Part::IsTranslated, Part::Go(Target::Return)]),
        rule("plain", vec![Part::DestinationIsNot(AddressKind::Local), Part::Go(Target::Return)]),
        rule("hooked", vec![Part::Switch(Field::ConnectionState, states)]),
        rule("hooked", vec![Part::Dispatch(map.to_vec(), "verdicts".into())]),
        Command::DeleteTable(Family::Inet),
    ]
}

/// The same for ARP.
pub(super) fn arp() -> Vec<Command> {
    let chain =
        |name: &str, hook| Command::AddChain(Chain { name: name.into(), hook: Some(hook), comment: None });
    let hook = |point| BaseHook { point, priority: 0 };
    let key = vec![Field::InputInterface, Field::ArpSender];
    let set = Set { name: "arp_values".into(), key: key.clone(), kind: SetKind::Values, comment: None };
    let parts = vec![
        Part::Is(Field::ArpHardwareLength, Value::Number(6)),
        Part::In(key, "arp_values".into()),
        Part::Count("arp_count".into()),
        Part::Go(Target::Drop),
    ];
    vec![
        Command::AddTable(Family::Arp),
        Command::AddCounter("arp_count".into()),
        Command::AddSet(set),
        chain("arp_input", hook(HookPoint::Input)),
        chain("arp_output", hook(HookPoint::Output)),
        Command::AddRule(Rule { chain: "arp_input".into(), parts, comment: None }),
        Command::DeleteTable(Family::Arp),
    ]
}
