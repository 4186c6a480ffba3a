//! One packet over and over, by number of rules.

use core::cell::RefCell;
use core::time::Duration;
use std::io::Write;

use portcullis::backend::DesiredState;
use portcullis::ebpf::oracle::{Sandbox, Tracking};
use portcullis::ebpf::{Lowering, Options};
use portcullis::ir::Interpreter;
use portcullis::model::EndpointId;
use portcullis::packet::Packet;
use portcullis::verdict::{Hook, Verdict};

use super::OBJECT;
use super::lines::{Lines, Rule};
use super::report::Table;
use super::run::{Effort, Index, Run};
use super::tries::{Tries, frame};
use super::world::{Family, packet, port, rules};
use crate::nftables::Failure;
use crate::nftables::world::peer;

const RULES: [usize; 4] = [10, 100, 1_000, 10_000];
const EFFORT: Effort = Effort { rounds: 9, time: Duration::from_millis(30), least: 2_000 };

/// The same policy in every shape.
struct Shapes {
    rules: usize,
    plain: RefCell<Sandbox>,
    tracking: RefCell<Sandbox>,
    tries: RefCell<Tries>,
    lines: RefCell<Lines>,
}

impl Shapes {
    fn new(count: usize) -> Result<Self, Failure> {
        let (engine, bindings) = rules(count)?;
        let pod = EndpointId::workload("bench", "pod");
        let interpreter = Interpreter::new(engine.snapshot());
        for family in Family::ALL {
            for kind in Kind::ALL {
                let packet = kind.packet(family, count)?;
                let decision = interpreter.decide(&pod, Hook::WorkloadIngress, &packet);
                if (decision.verdict == Verdict::Allow) != kind.passes() {
                    return Err(format!("{packet:?}: the interpreter says {}", decision.verdict).into());
                }
            }
        }
        let (lowering, update) =
            Lowering::fitting(Options::new(), DesiredState::new(engine.snapshot(), &bindings))?;
        let mut tries = Tries::new()?;
        for number in 0..count {
            for family in Family::ALL {
                tries.identify(family.peer(number), number)?;
            }
            tries.allow(1, number, port(number)?)?;
        }
        let mut lines = Lines::new()?;
        let code = lines.generate(&line_rules(count)?)?;
        let pieces = lines.verify(&code)?;
        lines.put(0, pieces)?;
        Ok(Self {
            rules: count,
            plain: RefCell::new(Sandbox::measuring(OBJECT, &lowering, &update, Tracking::Untracked)?),
            tracking: RefCell::new(Sandbox::measuring(OBJECT, &lowering, &update, Tracking::Tracked)?),
            tries: RefCell::new(tries),
            lines: RefCell::new(lines),
        })
    }
}

/// The rules of [`rules`], for the generated program.
pub(super) fn line_rules(count: usize) -> Result<Vec<Rule>, Failure> {
    (0..count).map(|number| Ok((peer(number), port(number)?))).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    New,
    Denied,
}

impl Kind {
    const ALL: [Self; 2] = [Self::New, Self::Denied];

    fn passes(self) -> bool {
        self == Self::New
    }

    /// A packet for the rule in the middle, or for none.
    fn packet(self, family: Family, rules: usize) -> Result<Packet, Failure> {
        let middle = rules / 2;
        let open = port(middle)?;
        let to = if self.passes() { open } else { open.saturating_add(1) };
        Ok(packet(family, middle, 0, to))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Without a table of flows.
    Ours,
    /// With a table of flows.
    Tracked,
    Tries,
    Lines,
}

const ROWS: [(&str, Shape, Kind, Family); 14] = [
    ("ours, new flow, IPv4", Shape::Ours, Kind::New, Family::V4),
    ("ours, new flow, IPv6", Shape::Ours, Kind::New, Family::V6),
    ("ours, denied, IPv4", Shape::Ours, Kind::Denied, Family::V4),
    ("ours, denied, IPv6", Shape::Ours, Kind::Denied, Family::V6),
    ("ours, established, IPv4", Shape::Tracked, Kind::New, Family::V4),
    ("ours, established, IPv6", Shape::Tracked, Kind::New, Family::V6),
    ("ours, denied, not in the table of flows, IPv4", Shape::Tracked, Kind::Denied, Family::V4),
    ("ours, denied, not in the table of flows, IPv6", Shape::Tracked, Kind::Denied, Family::V6),
    ("tries, new flow, IPv4", Shape::Tries, Kind::New, Family::V4),
    ("tries, new flow, IPv6", Shape::Tries, Kind::New, Family::V6),
    ("tries, denied, IPv4", Shape::Tries, Kind::Denied, Family::V4),
    ("tries, denied, IPv6", Shape::Tries, Kind::Denied, Family::V6),
    ("generated, new flow, IPv4", Shape::Lines, Kind::New, Family::V4),
    ("generated, denied, IPv4", Shape::Lines, Kind::Denied, Family::V4),
];

pub(super) fn run(out: &mut dyn Write) -> Result<(), Failure> {
    let Effort { rounds, time, .. } = EFFORT;
    writeln!(
        out,
        "ebpf hot: one packet over and over, by number of rules; ns over a program that does nothing, best/median of {rounds} interleaved rounds of {} ms",
        time.as_millis()
    )?;
    let worlds = RULES.into_iter().map(Shapes::new).collect::<Result<Vec<_>, _>>()?;
    let mut run = Run::default();
    let first = worlds.first().ok_or("no rules")?;
    let nothing = run.add(|repeat| Ok(first.plain.borrow_mut().time_nothing(repeat)?));
    let mut reading = Vec::new();
    for family in Family::ALL {
        let frame = frame(&Kind::New.packet(family, first.rules)?)?;
        reading.push((family, run.add(move |repeat| first.tries.borrow_mut().time_parsed(&frame, repeat))));
    }
    let mut rows: Vec<Vec<Index>> = Vec::new();
    for (name, shape, kind, family) in ROWS {
        let mut row = Vec::new();
        for world in &worlds {
            let packet = kind.packet(family, world.rules)?;
            let frame = frame(&packet)?;
            row.push(run.add(move |repeat| {
                let (passed, time) = match shape {
                    Shape::Ours => world.plain.borrow_mut().time(&packet, repeat)?,
                    Shape::Tracked => world.tracking.borrow_mut().time(&packet, repeat)?,
                    Shape::Tries => world.tries.borrow_mut().time(&frame, repeat)?,
                    Shape::Lines => world.lines.borrow_mut().time(&frame, repeat)?,
                };
                if passed == kind.passes() {
                    Ok(time)
                } else {
                    Err(format!("{name}: the program answers {passed}").into())
                }
            }));
        }
        rows.push(row);
    }
    run.measure(EFFORT)?;

    let head = RULES.map(|rules| format!("{rules} rules"));
    let mut table = Table::new([&["".into()], &head[..], &["growth".into()]].concat());
    for (family, index) in reading {
        table.row([format!("reading the packet, {}", family.name()), run.over(index, nothing).to_string()]);
    }
    for ((name, ..), row) in ROWS.iter().zip(&rows) {
        let costs: Vec<_> = row.iter().map(|index| run.over(*index, nothing)).collect();
        let growth = costs.last().zip(costs.first()).map_or(0.0, |(last, first)| last.best / first.best);
        let mut cells = vec![(*name).to_owned()];
        cells.extend(costs.iter().map(ToString::to_string));
        cells.push(format!("{growth:.2}"));
        table.row(cells);
    }
    // The same packets, each shape over ours.
    for ((name, shape, kind, family), row) in ROWS.iter().zip(&rows) {
        if matches!(shape, Shape::Ours | Shape::Tracked) {
            continue;
        }
        let is_ours = |other: &(&str, Shape, Kind, Family)| {
            (other.1, other.2, other.3) == (Shape::Ours, *kind, *family)
        };
        let Some(ours) = ROWS.iter().position(is_ours).and_then(|at| rows.get(at)) else { continue };
        let best = |index: &Index| run.over(*index, nothing).best;
        let ratios = row.iter().zip(ours).map(|(rival, ours)| format!("{:.1}x", best(rival) / best(ours)));
        table.row([format!("{name}, over ours")].into_iter().chain(ratios));
    }
    table.print(out)?;
    Ok(())
}
