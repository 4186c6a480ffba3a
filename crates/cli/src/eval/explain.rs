//! The walk through tiers, policies and rules, for people.

use core::fmt::{self, Write as _};

use portcullis::path::{End, Side};
use portcullis::quote::escaped;
use portcullis::render::{Renderer, TracedStep};
use portcullis::scenario::{Answer, Flow, Part, Peer};
use portcullis::verdict::Direction;

use crate::eval::{Judge, Judgement, table, worded};
use crate::output::Colour;

/// The explanation of one answer, ending in a line break.
pub(crate) fn text(judge: &Judge<'_>, flow: &Flow, judgement: &Judgement, colour: Colour) -> String {
    let mut writer = Writer { flow, colour, out: String::new() };
    // Writing into a string cannot fail.
    let _ = writer.answer(&judge.renderer(), &judgement.answer);
    if let (Some(renderer), Some(staged)) = (judge.staged_renderer(), &judgement.staged) {
        let _ = writer.staged(&renderer, staged, &judgement.answer);
    }
    writer.out
}

struct Writer<'a> {
    flow: &'a Flow,
    colour: Colour,
    out: String,
}

impl Writer<'_> {
    fn answer(&mut self, renderer: &Renderer<'_>, answer: &Answer) -> fmt::Result {
        let flow = self.flow;
        let verdict = self.colour.verdict(answer.verdict(), worded(answer));
        write!(self.out, "{verdict}: {} to {}, {}", flow.from(), flow.to(), table::service(flow))?;
        if let Some(request) = flow.http() {
            write!(self.out, ", HTTP {} {}", escaped(&request.method), escaped(&request.path))?;
        }
        if let Some(differing) = renderer.differing(answer) {
            write!(self.out, ": {differing}")?;
        }
        self.out.push('\n');
        if let Some(expected) = flow.expect().filter(|expected| !answer.meets(*expected)) {
            writeln!(self.out, "  expected {expected}")?;
        }
        self.parts(renderer, answer)
    }

    fn parts(&mut self, renderer: &Renderer<'_>, answer: &Answer) -> fmt::Result {
        for part in answer.parts() {
            let packet = &part.resolved.packet;
            if answer.parts().len() > 1 {
                let verdict = self.colour.verdict(part.decision.verdict, part.decision.verdict);
                writeln!(self.out, "\n{verdict} on {part}")?;
            }
            writeln!(self.out, "  {} to {}", packet.source, packet.destination)?;
            self.sides(renderer, part)?;
        }
        Ok(())
    }

    fn staged(&mut self, renderer: &Renderer<'_>, staged: &Answer, now: &Answer) -> fmt::Result {
        let verdict = self.colour.verdict(staged.verdict(), worded(staged));
        if staged == now {
            return writeln!(self.out, "\nwith staged policies enforced: {verdict}, as now");
        }
        writeln!(self.out, "\nwith staged policies enforced: {verdict}")?;
        self.parts(renderer, staged)
    }

    fn sides(&mut self, renderer: &Renderer<'_>, part: &Part) -> fmt::Result {
        let flow = self.flow;
        if part.is_unanswered() {
            let cause = part.decision.ingress.as_ref().map(|side| side.decision.cause.to_string());
            return writeln!(self.out, "\nnothing answers: {}", cause.unwrap_or_default());
        }
        self.side(renderer, Direction::Egress, flow.from(), part)?;
        self.side(renderer, Direction::Ingress, flow.to(), part)
    }

    fn side(
        &mut self,
        renderer: &Renderer<'_>,
        direction: Direction,
        peer: &Peer,
        part: &Part,
    ) -> fmt::Result {
        let packet = &part.resolved.packet;
        let (words, end, side): (_, _, &Option<Side>) = match direction {
            Direction::Egress => ("egress from", &part.resolved.from, &part.decision.egress),
            Direction::Ingress => ("ingress to", &part.resolved.to, &part.decision.ingress),
        };
        write!(self.out, "\n{} {}", self.colour.bold(words), self.colour.bold(peer))?;
        // An address, a pod in its node's network, or a set may stand for something else.
        match end {
            End::Endpoint(id) if id.to_string() != peer.to_string() => write!(self.out, " ({id})")?,
            End::Node(node) if *peer != Peer::Node(node.clone()) => write!(self.out, " (node/{node})")?,
            _ => {}
        }
        let Some(side) = side else {
            return match end {
                End::Outside => writeln!(self.out, ": outside, no policy applies"),
                _ => writeln!(self.out, ": no host endpoint, no policy applies"),
            };
        };
        let verdict = self.colour.verdict(side.decision.verdict, side.decision.verdict);
        writeln!(self.out, ": {verdict}, {}", renderer.located_side(side, direction, packet))?;
        for hook in renderer.trace(side, part) {
            writeln!(self.out, "  {} of {}: {}", hook.hook, hook.endpoint, hook.verdict)?;
            if !hook.steps.iter().any(|step| !matches!(step, TracedStep::Profile { .. })) {
                self.out.push_str("    no policy applies\n");
            }
            let mut in_profile = false;
            for step in &hook.steps {
                let indent = match step {
                    TracedStep::Policy { .. } | TracedStep::TierEnd { .. } => "      ",
                    TracedStep::Rule { .. } if in_profile => "      ",
                    TracedStep::Rule { .. } => "        ",
                    _ => "    ",
                };
                in_profile = match step {
                    TracedStep::Profile { .. } => true,
                    TracedStep::Rule { .. } => in_profile,
                    _ => false,
                };
                writeln!(self.out, "{indent}{step}")?;
            }
        }
        Ok(())
    }
}
