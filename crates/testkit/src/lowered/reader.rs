//! A packet on its way through the maps: one entry is read at each step, so that writes can come in between.

use core::net::IpAddr;

use portcullis::ir::DecisionEntry;
use portcullis::net::canonical;
use portcullis::packet::{Packet, Protocol};
use portcullis::verdict::{Hook, Verdict};

use crate::lowered::maps::{FLAGS, Maps, NO_PROJECTION, PRESENT, REFERENCE, RUNS, SIDE};

/// A packet that is asked about at a hook of an interface.
#[derive(Clone, Debug)]
pub struct Question {
    /// The index of the interface.
    pub interface: u32,
    /// The hook.
    pub hook: Hook,
    /// The packet, with a type where it is ICMP.
    pub packet: Packet,
}

/// One run of the kernel program for one hook.
#[derive(Clone, Debug)]
pub struct Reader {
    /// What it was asked.
    pub question: Question,
    /// What is read next.
    next: Read,
    side: usize,
    program: [u32; 4],
    cell: u32,
    /// How far the packet is in [`STAGES`].
    stage: usize,
    /// What was read, to tell when it was wrong.
    trace: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Read {
    Phase,
    Endpoint,
    Program(u32),
    Address(End),
    Network(End),
    Row(End, u32),
    Cell,
    Node(u32),
    Leaf(u32),
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// The tags of nodes in the order in which they may be met, and which page of that tag it would be: by protocol; by the upper
/// and then the lower byte of the source port, and of the key. There is a list in the place of each page, and one more.
const STAGES: [(u32, usize); 8] = [(3, 0), (3, 1), (2, 0), (2, 1), (2, 2), (1, 0), (1, 1), (1, 2)];

/// What became of the packet: whether it passed, and the decision if one was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was not dropped.
    pub passed: bool,
    /// The decision that was found.
    pub decision: Option<DecisionEntry>,
}

impl Answer {
    /// The answer that follows from a decision.
    pub fn of(decision: Option<DecisionEntry>) -> Self {
        let passed =
            decision.as_ref().is_some_and(|d| matches!(d.verdict, Verdict::Allow | Verdict::Continue));
        Self { passed, decision }
    }
}

impl Reader {
    /// A run that has read nothing yet.
    pub fn new(question: Question) -> Self {
        Self { question, next: Read::Phase, side: 0, program: [0; 4], cell: 0, stage: 0, trace: Vec::new() }
    }

    /// Asks without anybody in between.
    pub fn ask(question: &Question, maps: &mut Maps) -> Answer {
        let mut reader = Self::new(question.clone());
        loop {
            if let Some(answer) = reader.step(maps) {
                return answer;
            }
        }
    }

    /// What was read so far.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }

    /// Reads one entry. The answer, once there is one.
    pub fn step(&mut self, maps: &mut Maps) -> Option<Answer> {
        let now = self.next;
        self.next = match now {
            Read::Phase => {
                self.side = maps.phase as usize;
                Read::Endpoint
            }
            Read::Endpoint => {
                let side = maps.endpoints.get(&self.question.interface);
                let side = side.map(|words| &words[self.side * SIDE..][..SIDE]);
                match side.filter(|side| side[FLAGS] & PRESENT != 0) {
                    Some(side) => {
                        let hook = Hook::ALL.iter().position(|hook| *hook == self.question.hook).unwrap();
                        Read::Program(side[hook])
                    }
                    None => Read::Nothing,
                }
            }
            Read::Program(slot) => {
                let words = maps.program(slot);
                let half = if self.source().is_ipv4() { 0 } else { 4 };
                self.program.copy_from_slice(&words[half..half + 4]);
                let [_, _, columns, cells] = self.program;
                self.cell = cells;
                if columns == 0 { self.descend(cells) } else { self.seek(End::Source) }
            }
            Read::Address(end) => match maps.addresses.get(&self.address(end)) {
                Some(sides) => Read::Row(end, sides[self.side]),
                None => Read::Network(end),
            },
            Read::Network(end) => {
                Read::Row(end, maps.longest(&self.address(end)).map_or(0, |sides| sides[self.side]))
            }
            Read::Row(end, class) => {
                let [source, destination, columns, _] = self.program;
                match end {
                    End::Source => {
                        self.cell += maps.row(source, class & 0xffff) * columns;
                        self.seek(End::Destination)
                    }
                    End::Destination => {
                        self.cell += maps.row(destination, class & 0xffff);
                        Read::Cell
                    }
                }
            }
            Read::Cell => self.descend(maps.cell(self.cell)),
            Read::Node(node) => {
                let [source_high, source_low] = self.source_port().to_be_bytes();
                let [key_high, key_low] = self.key().to_be_bytes();
                let protocol = self.question.packet.protocol.0;
                let (value, byte) = match STAGES[self.stage] {
                    (3, first) => {
                        (u32::from(protocol) << 16 | u32::from(self.key()), (first == 0).then_some(protocol))
                    }
                    (2, at) => (u32::from(self.source_port()), [source_high, source_low].get(at).copied()),
                    (_, at) => (u32::from(self.key()), [key_high, key_low].get(at).copied()),
                };
                self.stage += 1;
                let slot = node & REFERENCE;
                self.descend(if node & RUNS != 0 {
                    maps.run(slot, value)
                } else {
                    maps.word(slot, byte.unwrap())
                })
            }
            Read::Leaf(node) => {
                let slot = node & REFERENCE;
                *maps.counters.entry(slot).or_default() += 1;
                let decision = maps.meanings.get(&slot).cloned();
                // Slot 0 is nobody's.
                assert_eq!(decision.is_some(), slot != 0, "{self:?}");
                let answer = Answer::of(decision);
                let action = node >> 28 & 3;
                assert_eq!(answer.passed, action != 0, "{self:?}");
                if let Some(found) = &answer.decision {
                    // Good for this hook only.
                    let is_exemption = found.cause.is_exemption();
                    assert_eq!(action == 3, found.verdict == Verdict::Allow && is_exemption, "{self:?}");
                    assert_eq!(action == 2, found.verdict == Verdict::Continue, "{self:?}");
                    assert_eq!(node >> 27 & 1 == 1, !found.logs.is_empty(), "{self:?}");
                }
                return Some(answer);
            }
            Read::Nothing => return Some(Answer::of(None)),
        };
        self.trace.push(format!("{now:?}"));
        None
    }

    /// The next end that the program asks about, or else the cell.
    fn seek(&self, end: End) -> Read {
        let [source, destination, ..] = self.program;
        match end {
            End::Source if source != NO_PROJECTION => Read::Address(End::Source),
            _ if destination != NO_PROJECTION => Read::Address(End::Destination),
            _ => Read::Cell,
        }
    }

    /// What is behind a node: a list or page, as long as the packet has something to look into it with. Whatever else denies.
    fn descend(&mut self, node: u32) -> Read {
        while let Some((tag, _)) = STAGES.get(self.stage) {
            if node >> 30 == *tag {
                return Read::Node(node);
            }
            self.stage += 1;
        }
        Read::Leaf(if node >> 30 == 0 { node } else { 0 })
    }

    fn address(&self, end: End) -> IpAddr {
        match end {
            End::Source => self.source(),
            End::Destination => canonical(self.question.packet.destination),
        }
    }

    fn source(&self) -> IpAddr {
        canonical(self.question.packet.source)
    }

    fn source_port(&self) -> u16 {
        if self.question.packet.protocol.has_ports() { self.question.packet.source_port } else { 0 }
    }

    /// Destination port, or type and code of ICMP, which questions always have.
    fn key(&self) -> u16 {
        let packet = &self.question.packet;
        match (packet.protocol, packet.icmp) {
            (Protocol::ICMP | Protocol::ICMPV6, Some(icmp)) => u16::from_be_bytes([icmp.kind, icmp.code]),
            (protocol, _) if protocol.has_ports() => packet.destination_port,
            _ => 0,
        }
    }
}

/// Whether both ends are one address. Such a packet looks one entry up twice, and may see two values of it.
pub fn is_to_itself(packet: &Packet) -> bool {
    canonical(packet.source) == canonical(packet.destination)
}
