//! Commands as nft text, for people and for tests. Loading it with `nft -f` does what the commands do.

use core::fmt;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;

use crate::command::{
    AddressKind, BUDGET_SECONDS, BaseHook, Command, ConnectionState, Element, Elements, Field, HookPoint,
    MOST_BUDGETS, Part, Rule, Set, SetKind, Target, Value,
};

/// Prints `commands` for the table called `table`.
#[must_use]
pub(crate) fn text(table: &Name, commands: &[Command]) -> String {
    let mut out = String::new();
    for command in commands {
        out.push_str(&Line { table, command }.to_string());
        out.push('\n');
    }
    out
}

struct Line<'a> {
    table: &'a Name,
    command: &'a Command,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = format!("{} {}", self.command.family().name(), self.table);
        match self.command {
            Command::AddTable(_) => write!(f, "add table {table}"),
            Command::DeleteTable(_) => write!(f, "delete table {table}"),
            Command::AddCounter(name) => write!(f, "add counter {table} {name}"),
            Command::DeleteCounter(name) => write!(f, "delete counter {table} {name}"),
            Command::AddSet(set) => add_set(f, &table, set),
            Command::DeleteSet(name) => write!(f, "delete set {table} {name}"),
            Command::AddChain(chain) => {
                write!(f, "add chain {table} {}", chain.name)?;
                if chain.hook.is_none() && chain.comment.is_none() {
                    return Ok(());
                }
                f.write_str(" {")?;
                if let Some(BaseHook { point, priority }) = chain.hook {
                    write!(f, " type filter hook {} priority {priority}; policy accept;", hook(point))?;
                }
                if let Some(comment) = &chain.comment {
                    write!(f, " comment \"{comment}\";")?;
                }
                f.write_str(" }")
            }
            Command::FlushChain(name) => write!(f, "flush chain {table} {name}"),
            Command::DeleteChain(name) => write!(f, "delete chain {table} {name}"),
            Command::AddRule(rule) => add_rule(f, &table, rule),
            Command::AddElements(elements) => change(f, "add", &table, elements),
            Command::DeleteElements(elements) => change(f, "delete", &table, elements),
        }
    }
}

fn add_set(f: &mut fmt::Formatter<'_>, table: &str, set: &Set) -> fmt::Result {
    let word = if set.kind == SetKind::Verdicts { "map" } else { "set" };
    write!(f, "add {word} {table} {} {{ typeof {}", set.name, fields(&set.key))?;
    match set.kind {
        SetKind::Values => f.write_str(";")?,
        SetKind::Ranges => f.write_str("; flags interval;")?,
        SetKind::Verdicts => f.write_str(" : verdict;")?,
        SetKind::Timed(_) => f.write_str("; flags timeout;")?,
        SetKind::Budgets => {
            write!(f, "; size {MOST_BUDGETS}; flags dynamic,timeout; timeout {BUDGET_SECONDS}s;")?;
        }
    }
    if let Some(comment) = &set.comment {
        write!(f, " comment \"{comment}\";")?;
    }
    f.write_str(" }")
}

fn add_rule(f: &mut fmt::Formatter<'_>, table: &str, rule: &Rule) -> fmt::Result {
    write!(f, "add rule {table} {}", rule.chain)?;
    for part in &rule.parts {
        match part {
            Part::Is(field, value) => write!(f, " {} {}", self::field(*field), self::value(*field, value))?,
            Part::In(key, set) => write!(f, " {} @{set}", fields(key))?,
            Part::NotIn(key, set) => write!(f, " {} != @{set}", fields(key))?,
            Part::Dispatch(key, map) => write!(f, " {} vmap @{map}", fields(key))?,
            Part::Switch(field, cases) => {
                let cases: Vec<String> =
                    cases.iter().map(|(v, to)| format!("{} : {}", value(*field, v), target(to))).collect();
                write!(f, " {} vmap {{ {} }}", self::field(*field), cases.join(", "))?;
            }
            Part::DestinationIsNot(kind) => write!(f, " fib daddr type != {}", address_kind(*kind))?,
            Part::IsTranslated => f.write_str(" ct status dnat")?,
            Part::HasMark(bits) => write!(f, " meta mark & {bits:#010x} == {bits:#010x}")?,
            Part::SetMark(bits) => write!(f, " meta mark set meta mark | {bits:#010x}")?,
            Part::ClearMark(bits) => write!(f, " meta mark set meta mark & {:#010x}", !bits)?,
            Part::NoTrack => f.write_str(" notrack")?,
            Part::Count(name) => write!(f, " counter name \"{name}\"")?,
            Part::Log(group, prefix) => {
                write!(f, " log prefix \"{prefix}\" group {group} snaplen 128 queue-threshold 1")?
            }
            Part::Budget(field, set, rate) => {
                let field = self::field(*field);
                write!(
                    f,
                    " update @{set} {{ {field} counter limit rate {rate}/second burst {rate} packets }}"
                )?;
            }
            Part::BeginsTcp => f.write_str(" tcp flags & (syn | ack) == syn")?,
            Part::Reset => f.write_str(" reject with tcp reset")?,
            Part::Go(to) => write!(f, " {}", target(to))?,
        }
    }
    match &rule.comment {
        Some(comment) => write!(f, " comment \"{comment}\""),
        None => Ok(()),
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

fn change(f: &mut fmt::Formatter<'_>, word: &str, table: &str, change: &Elements) -> fmt::Result {
    let timeout = match change.kind {
        SetKind::Timed(seconds) if word == "add" => format!(" timeout {seconds}s"),
        _ => String::new(),
    };
    let elements: Vec<String> =
        change.elements.iter().map(|e| format!("{}{timeout}", element(&change.key, e))).collect();
    write!(f, "{word} element {table} {} {{ {} }}", change.set, elements.join(", "))
}

fn element(key: &[Field], element: &Element) -> String {
    let values: Vec<String> =
        key.iter().zip(&element.key).map(|(field, value)| self::value(*field, value)).collect();
    let key = values.join(" . ");
    match &element.target {
        Some(to) => format!("{key} : {}", target(to)),
        None => key,
    }
}

fn fields(key: &[Field]) -> String {
    key.iter().map(|f| field(*f)).collect::<Vec<_>>().join(" . ")
}

const fn field(field: Field) -> &'static str {
    match field {
        Field::Family => "meta nfproto",
        Field::InputInterface => "iifname",
        Field::OutputInterface => "oifname",
        Field::Source(IpVersion::V4) => "ip saddr",
        Field::Source(IpVersion::V6) => "ip6 saddr",
        Field::Destination(IpVersion::V4) => "ip daddr",
        Field::Destination(IpVersion::V6) => "ip6 daddr",
        Field::Initiator(IpVersion::V4) => "ct original ip saddr",
        Field::Initiator(IpVersion::V6) => "ct original ip6 saddr",
        Field::Responder(IpVersion::V4) => "ct reply ip saddr",
        Field::Responder(IpVersion::V6) => "ct reply ip6 saddr",
        Field::Protocol => "meta l4proto",
        Field::SourcePort => "th sport",
        Field::DestinationPort => "th dport",
        // By position, because `icmp type` would only match IPv4.
        Field::IcmpType => "@th,0,8",
        Field::IcmpCode => "@th,8,8",
        Field::HopLimit => "ip6 hoplimit",
        Field::PayloadLength => "ip6 length",
        // nft 1.0.6 has no name for it.
        Field::NeighbourTarget => "@th,64,128",
        Field::ArpHardwareLength => "arp hlen",
        Field::ArpSender => "arp saddr ip",
        Field::ConnectionState => "ct state",
    }
}

fn value(field: Field, value: &Value) -> String {
    match value {
        Value::Family(IpVersion::V4) => "ipv4".into(),
        Value::Family(IpVersion::V6) => "ipv6".into(),
        Value::Interface(name) => format!("\"{name}\""),
        Value::InterfacePrefix(name) => format!("\"{name}*\""),
        Value::Address(one) => address(field, *one),
        Value::Addresses(first, last) => format!("{}-{}", address(field, *first), address(field, *last)),
        Value::Number(number) if field == Field::Protocol => protocol(*number),
        Value::Number(number) => number.to_string(),
        Value::Numbers(first, last) => format!("{first}-{last}"),
        Value::State(ConnectionState::New) => "new".into(),
        Value::State(ConnectionState::Invalid) => "invalid".into(),
        Value::State(ConnectionState::Established) => "established".into(),
        Value::State(ConnectionState::Related) => "related".into(),
    }
}

fn address(field: Field, address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if field == Field::NeighbourTarget => format!("{:#034x}", v6.to_bits()),
        address => address.to_string(),
    }
}

fn protocol(number: u16) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        _ => number.to_string(),
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Accept => "accept".into(),
        Target::Drop => "drop".into(),
        Target::Return => "return".into(),
        Target::Jump(chain) => format!("jump {chain}"),
        Target::Goto(chain) => format!("goto {chain}"),
    }
}

const fn hook(point: HookPoint) -> &'static str {
    match point {
        HookPoint::Prerouting => "prerouting",
        HookPoint::Input => "input",
        HookPoint::Forward => "forward",
        HookPoint::Output => "output",
    }
}
