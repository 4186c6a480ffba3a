//! A reader of the nftables table, as text: what the rules after the look-up of an endpoint do to a packet.
//!
//! It reads the nft language as `man nft` describes it, as far as the backend uses it, and stops with a panic at everything else,
//! so that nothing is passed over.

use alloc::collections::BTreeMap;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use portcullis::net::canonical;
use portcullis::packet::{Packet, Protocol};
use portcullis::verdict::Hook;

/// Sets, maps and chains of a table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The elements of sets and maps: key, and what a map has for it.
    sets: BTreeMap<String, Vec<Element>>,
    /// The rules of each chain, each a list of words.
    chains: BTreeMap<String, Vec<Vec<String>>>,
}

/// An element of a set, or of a map, which says where its packets go.
#[derive(Clone, Debug)]
struct Element {
    key: Vec<Part>,
    go: Option<Go>,
}

/// One part of a key, read when the table is: sets are searched for each packet.
#[derive(Clone, Debug)]
enum Part {
    Numbers(RangeInclusive<u32>),
    Addresses(RangeInclusive<IpAddr>),
    Name(String),
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Go {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// What became of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether no rule dropped it.
    pub passed: bool,
    /// The comment of the rule that counted it, which names the decision.
    pub comment: Option<String>,
    /// How many rules logged it.
    pub logs: usize,
}

/// A packet that is asked about.
struct Asked<'p> {
    packet: &'p Packet,
    interface: &'p str,
}

/// The value of a field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'p> {
    Interface(&'p str),
    Number(u32),
    Address(IpAddr),
}

/// How deep chains may lead into chains.
const DEEPEST: usize = 16;

impl Table {
    /// Reads what an update that makes a table anew prints.
    ///
    /// # Panics
    /// At a line that is not understood.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let words = words(line);
            let [command, object, family, _table, rest @ ..] = words.as_slice() else {
                panic!("not read: {line}")
            };
            // ARP is no traffic that policy speaks of.
            if family == "arp" {
                continue;
            }
            assert_eq!((command.as_str(), family.as_str()), ("add", "inet"), "not read: {line}");
            match (object.as_str(), rest) {
                ("table", []) | ("counter", _) => {}
                ("set" | "map", [name, ..]) => drop(table.sets.entry(name.clone()).or_default()),
                ("chain", [name, ..]) => drop(table.chains.entry(name.clone()).or_default()),
                ("rule", [chain, rule @ ..]) => {
                    table.chains.entry(chain.clone()).or_default().push(rule.to_vec());
                }
                ("element", [set, open, elements @ .., close]) if open == "{" && close == "}" => {
                    table.sets.entry(set.clone()).or_default().extend(read_elements(elements));
                }
                _ => panic!("not read: {line}"),
            }
        }
        table
    }

    /// What the table does to a packet at a hook of the endpoint that has the interface. One that was made for no such endpoint
    /// does nothing.
    ///
    /// # Panics
    /// At a rule that is not understood.
    #[must_use]
    pub fn ask(&self, interface: &str, hook: Hook, packet: &Packet) -> Answer {
        let map = match hook {
            Hook::WorkloadEgress => "senders".to_owned(),
            Hook::WorkloadIngress => "receivers".to_owned(),
            // Called as the hook is.
            of_hosts => of_hosts.to_string().replace('-', "_"),
        };
        let asked = Asked { packet, interface };
        let key = [asked.family(), Some(Value::Interface(interface))];
        let mut answer = Answer { passed: true, ..Answer::default() };
        let Some(go) = self.find(&map, &key).flatten().cloned() else { return answer };
        if self.go(&go, &asked, &mut answer, 0) == Some(false) {
            answer.passed = false;
        }
        answer
    }

    /// `Some(false)` when the packet was dropped, `Some(true)` when it was accepted, `None` when it came back.
    fn go(&self, go: &Go, asked: &Asked<'_>, answer: &mut Answer, depth: usize) -> Option<bool> {
        assert!(depth < DEEPEST, "chains lead into chains without end");
        match go {
            Go::Accept => Some(true),
            Go::Drop => Some(false),
            Go::Return => None,
            Go::Jump(chain) | Go::Goto(chain) => {
                let rules = self.chains.get(chain).unwrap_or_else(|| panic!("there is no chain {chain}"));
                for rule in rules {
                    match self.rule(rule, asked, answer) {
                        None => {}
                        Some(Go::Return) => return None,
                        Some(Go::Jump(chain)) => {
                            if let Some(end) = self.go(&Go::Jump(chain), asked, answer, depth + 1) {
                                return Some(end);
                            }
                        }
                        // What comes back from it comes back from here, too.
                        Some(go) => return self.go(&go, asked, answer, depth + 1),
                    }
                }
                None
            }
        }
    }

    /// Where a rule sends the packet; `None` when it does not match, or only did something on the way.
    fn rule(&self, rule: &[String], asked: &Asked<'_>, answer: &mut Answer) -> Option<Go> {
        let mut rest = rule;
        let mut go = None;
        let mut counted = false;
        while let [word, tail @ ..] = rest {
            rest = match (word.as_str(), tail) {
                // How many events there would be without a budget.
                ("counter", [name, events, tail @ ..]) if name == "name" && events == "events" => tail,
                ("counter", [name, _, tail @ ..]) if name == "name" => {
                    counted = true;
                    tail
                }
                // The budget, which is not spent yet.
                ("update", [_set, open, tail @ ..]) if open == "{" => {
                    let end = tail.iter().position(|word| word == "}");
                    &tail[end.unwrap_or_else(|| panic!("not read: {rule:?}")) + 1..]
                }
                ("log", tail) => {
                    answer.logs += 1;
                    let end = tail
                        .iter()
                        .position(|word| word == "queue-threshold")
                        .unwrap_or_else(|| panic!("not read: {rule:?}"));
                    &tail[end + 2..]
                }
                ("comment", [text, tail @ ..]) => {
                    if counted {
                        answer.comment = Some(text.clone());
                    }
                    tail
                }
                // The mark that says that a host endpoint asks no further.
                ("meta", [mark, set, _, _, _, _, tail @ ..]) if mark == "mark" && set == "set" => tail,
                // Nothing was translated on the way to a hook that is asked by itself.
                ("ct", [status, dnat, ..]) if status == "status" && dnat == "dnat" => return None,
                _ => match read_go(rest) {
                    Some((found, tail)) => {
                        go = Some(found);
                        tail
                    }
                    None => {
                        let (found, tail) = self.condition(rest, asked)?;
                        go = found.or(go);
                        tail
                    }
                },
            };
        }
        go
    }

    /// Reads fields and what they are compared with. `None` when it does not hold, or else where a map sends the packet.
    fn condition<'r>(&self, rule: &'r [String], asked: &Asked<'_>) -> Option<(Option<Go>, &'r [String])> {
        let mut key = Vec::new();
        let mut rest = rule;
        loop {
            let (value, tail) = asked.field(rest);
            key.push(value);
            match tail {
                [dot, tail @ ..] if dot == "." => rest = tail,
                _ => {
                    rest = tail;
                    break;
                }
            }
        }
        match rest {
            [vmap, open, tail @ ..] if vmap == "vmap" && open == "{" => {
                let end =
                    tail.iter().position(|word| word == "}").unwrap_or_else(|| panic!("not read: {rule:?}"));
                let cases = read_elements(&tail[..end]);
                let found = cases.into_iter().find(|case| holds(&case.key, &key))?;
                Some((found.go, &tail[end + 1..]))
            }
            [vmap, map, tail @ ..] if vmap == "vmap" => {
                let found = self.find(map.strip_prefix('@')?, &key)?;
                Some((found.cloned(), tail))
            }
            [word, tail @ ..] => match word.strip_prefix('@') {
                Some(set) => self.find(set, &key).map(|_| (None, tail)),
                None => holds(&[Part::read(word)], &key).then_some((None, tail)),
            },
            [] => panic!("not read: {rule:?}"),
        }
    }

    /// The element of a set that has the key, and what a map has for it.
    fn find(&self, set: &str, key: &[Option<Value<'_>>]) -> Option<Option<&Go>> {
        let elements = self.sets.get(set)?;
        elements.iter().find(|element| holds(&element.key, key)).map(|element| element.go.as_ref())
    }
}

impl<'p> Asked<'p> {
    /// The value of the field that the words begin with, and the words behind it. A field that the packet does not have has no
    /// value, and equals nothing.
    fn field<'r>(&self, words: &'r [String]) -> (Option<Value<'p>>, &'r [String]) {
        let packet = self.packet;
        let [source, destination] = [canonical(packet.source), canonical(packet.destination)];
        let port = |port: u16| packet.protocol.has_ports().then_some(Value::Number(port.into()));
        let icmp = |byte: fn(&portcullis::packet::Icmp) -> u8| {
            let is_icmp = matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6);
            packet.icmp.filter(|_| is_icmp).map(|icmp| Value::Number(byte(&icmp).into()))
        };
        let two = |value| (value, &words[2..]);
        let one = |value| (value, &words[1..]);
        match [words.first(), words.get(1)].map(|word| word.map_or("", String::as_str)) {
            ["meta", "nfproto"] => two(self.family()),
            ["meta", "l4proto"] => two(Some(Value::Number(packet.protocol.0.into()))),
            ["ip", "saddr"] => two(source.is_ipv4().then_some(Value::Address(source))),
            ["ip6", "saddr"] => two(source.is_ipv6().then_some(Value::Address(source))),
            ["ip", "daddr"] => two(destination.is_ipv4().then_some(Value::Address(destination))),
            ["ip6", "daddr"] => two(destination.is_ipv6().then_some(Value::Address(destination))),
            ["th", "sport"] => two(port(packet.source_port)),
            ["th", "dport"] => two(port(packet.destination_port)),
            ["iifname" | "oifname", _] => one(Some(Value::Interface(self.interface))),
            ["@th,0,8", _] => one(icmp(|icmp| icmp.kind)),
            ["@th,8,8", _] => one(icmp(|icmp| icmp.code)),
            _ => panic!("not read: {words:?}"),
        }
    }

    fn family(&self) -> Option<Value<'p>> {
        // NFPROTO_IPV4 and NFPROTO_IPV6.
        Some(Value::Number(if canonical(self.packet.source).is_ipv4() { 2 } else { 10 }))
    }
}

/// Whether an element is that of the key: every part of it, a value or a range, holds the value in its place.
fn holds(element: &[Part], key: &[Option<Value<'_>>]) -> bool {
    assert_eq!(element.len(), key.len(), "{element:?} for {key:?}");
    element.iter().zip(key).all(|(part, value)| match (part, value) {
        (_, None) => false,
        (Part::Name(part), Some(Value::Interface(name))) => part == name,
        (Part::Numbers(range), Some(Value::Number(number))) => range.contains(number),
        (Part::Addresses(range), Some(Value::Address(address))) => range.contains(address),
        _ => panic!("not read: {part:?} for {value:?}"),
    })
}

impl Part {
    fn read(word: &str) -> Self {
        let number = |word: &str| match word {
            "ipv4" => Some(2),
            "ipv6" => Some(10),
            "icmp" => Some(1),
            "tcp" => Some(6),
            "udp" => Some(17),
            "ipv6-icmp" => Some(58),
            "sctp" => Some(132),
            _ => word.parse().ok(),
        };
        // A name may have a hyphen.
        if let Some(number) = number(word) {
            return Self::Numbers(number..=number);
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        match (number(first), number(last), first.parse(), last.parse()) {
            (Some(first), Some(last), ..) => Self::Numbers(first..=last),
            (_, _, Ok(first), Ok(last)) => Self::Addresses(first..=last),
            _ => Self::Name(word.to_owned()),
        }
    }
}

/// `key . key : verdict, …`
fn read_elements(words: &[String]) -> Vec<Element> {
    let read = |words: &[String]| {
        let end = words.iter().position(|word| word == ":").unwrap_or(words.len());
        let key = words[..end].iter().filter(|word| *word != ".").map(|word| Part::read(word)).collect();
        let go = words.get(end + 1..).map(|words| match read_go(words) {
            Some((go, [])) => go,
            _ => panic!("not read: {words:?}"),
        });
        Element { key, go }
    };
    words.split(|word| word == ",").map(read).collect()
}

/// The verdict that the words begin with, and the words behind it.
fn read_go(words: &[String]) -> Option<(Go, &[String])> {
    match words {
        [word, chain, rest @ ..] if word == "jump" => Some((Go::Jump(chain.clone()), rest)),
        [word, chain, rest @ ..] if word == "goto" => Some((Go::Goto(chain.clone()), rest)),
        [word, rest @ ..] => match word.as_str() {
            "accept" => Some((Go::Accept, rest)),
            "drop" => Some((Go::Drop, rest)),
            "return" => Some((Go::Return, rest)),
            _ => None,
        },
        [] => None,
    }
}

/// The words of a line. What is in quotes is one word, and a comma behind a word is a word of its own.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').unwrap_or_else(|| panic!("no closing quote: {line}"));
                words.push(quoted[..end].to_owned());
                end + 2
            }
            None => {
                // The position of a field has commas of its own.
                let is_end = |c: char| c == ' ' || c == ',' && !rest.starts_with('@');
                let end = rest.find(is_end).unwrap_or(rest.len()).max(1);
                words.push(rest[..end].to_owned());
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    words
}

/// Whether a comment is that of a text: the same where it fits, with other characters in the place of those that nft does not
/// take; otherwise its beginning and its end.
#[must_use]
pub fn is_label_of(comment: &str, text: &str) -> bool {
    let same = |a: &str, b: &str| {
        a.chars().count() == b.chars().count() && a.chars().zip(b.chars()).all(|(a, b)| a == b || a == '?')
    };
    match comment.split_once("...") {
        Some((head, tail)) if !same(comment, text) => {
            let chars: Vec<char> = text.chars().collect();
            let [head_of, tail_of] = [head.chars().count(), tail.chars().count()];
            head_of + tail_of < chars.len()
                && same(head, &chars[..head_of].iter().collect::<String>())
                && same(tail, &chars[chars.len() - tail_of..].iter().collect::<String>())
        }
        _ => same(comment, text),
    }
}

#[cfg(test)]
mod tests {
    use portcullis::packet::Protocol;

    use super::*;

    const TABLE: &str = r#"add table inet p
add set inet p peers { typeof ip saddr; flags interval; }
add map inet p senders { typeof meta nfproto . iifname : verdict; }
add chain inet p d1
add chain inet p d2
add chain inet p t3
add rule inet p d1 counter name "d1" drop comment "deny: one"
add rule inet p d2 log prefix "d2 log, twice" group 1 snaplen 128 queue-threshold 1
add rule inet p d2 counter name "d2" return comment "allow: two"
add rule inet p t3 meta l4proto icmp @th,0,8 8 @th,8,8 1-255 goto d1
add rule inet p t3 meta l4proto tcp th dport vmap { 80 : goto d2, 8000-8010 : goto d2 }
add rule inet p t3 ip saddr @peers goto d2
add rule inet p t3 goto d1
add element inet p senders { ipv4 . "a" : goto t3, ipv6 . "a" : goto d2 }
add element inet p peers { 10.0.0.1, 10.1.0.0-10.1.255.255 }
"#;

    #[test]
    fn a_table_does_what_it_says() {
        let table = Table::parse(TABLE);
        let asked = |source: &str, protocol, port| {
            let destination = if source.contains(':') { "fd00::2" } else { "10.9.9.9" };
            let packet =
                Packet::new(source.parse().unwrap(), destination.parse().unwrap(), protocol).to_port(port);
            let answer = table.ask("a", Hook::WorkloadEgress, &packet);
            assert_eq!(answer.comment.is_some_and(|text| text == "allow: two"), answer.passed);
            assert_eq!(answer.logs, usize::from(answer.passed));
            answer.passed
        };
        assert!(asked("10.0.0.2", Protocol::TCP, 80) && asked("10.0.0.2", Protocol::TCP, 8_010));
        assert!(!asked("10.0.0.2", Protocol::TCP, 81) && !asked("10.0.0.2", Protocol::UDP, 80));
        assert!(asked("10.0.0.1", Protocol::UDP, 80) && asked("10.1.7.7", Protocol::TCP, 81));
        assert!(asked("fd00::1", Protocol::TCP, 81));
        let ping = |code| {
            let packet =
                Packet::new("10.0.0.1".parse().unwrap(), "10.9.9.9".parse().unwrap(), Protocol::ICMP);
            table.ask("a", Hook::WorkloadEgress, &packet.with_icmp(8, code)).passed
        };
        assert!(ping(0) && !ping(1));
        let other = Packet::new("10.0.0.1".parse().unwrap(), "10.9.9.9".parse().unwrap(), Protocol::UDP);
        assert_eq!(
            table.ask("b", Hook::WorkloadEgress, &other),
            Answer { passed: true, ..Answer::default() }
        );
    }

    #[test]
    fn labels_are_known_by_both_ends() {
        assert!(is_label_of("deny: a", "deny: a") && is_label_of("deny: ?", "deny: \u{e9}"));
        assert!(is_label_of("deny: a...z", "deny: abcdefghijklmnoz"));
        assert!(!is_label_of("deny: a", "deny: ab") && !is_label_of("deny: a...y", "deny: abcdefghijklmnoz"));
    }
}
