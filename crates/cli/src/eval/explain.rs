//! The walk through tiers, policies and rules, for people.

use core::fmt::{self, Write as _};

use portcullis::flow::{End, Side};
use portcullis::model::{Action, DefaultAction, Enforcement, Order, PolicyId, ProfileOrigin, Rule};
use portcullis::reference::{Reference, RuleOutcome, Step, Trace};
use portcullis::scenario::{Answer, Flow, Part, Peer, Resolved, Scenario};
use portcullis::verdict::Direction;

use crate::eval::{Judge, Judgement, describe, table};
use crate::output::Colour;

/// The explanation of one answer, ending in a line break.
pub(crate) fn text(judge: &Judge<'_>, flow: &Flow, judgement: &Judgement, colour: Colour) -> String {
    let mut writer = Writer { scenario: judge.scenario(), flow, colour, out: String::new() };
    // Writing into a string cannot fail.
    let _ = writer.answer(&judge.reference, &judgement.answer);
    if let (Some(engine), Some(staged)) = (&judge.staged, &judgement.staged) {
        let _ = writer.staged(engine, staged, &judgement.answer);
    }
    writer.out
}

struct Writer<'a> {
    scenario: &'a Scenario,
    flow: &'a Flow,
    colour: Colour,
    out: String,
}

impl Writer<'_> {
    fn answer(&mut self, engine: &Reference<'_>, answer: &Answer) -> fmt::Result {
        let flow = self.flow;
        let verdict = self.colour.verdict(answer.verdict(), answer.verdict());
        write!(self.out, "{verdict}: {} to {}, {}", flow.from(), flow.to(), table::service(flow))?;
        if let Some(request) = flow.http() {
            write!(self.out, ", HTTP {} {}", printable(&request.method), printable(&request.path))?;
        }
        self.out.push('\n');
        self.parts(engine, answer)
    }

    fn parts(&mut self, engine: &Reference<'_>, answer: &Answer) -> fmt::Result {
        for part in answer.parts() {
            let packet = &part.resolved.packet;
            if answer.parts().len() > 1 {
                let verdict = self.colour.verdict(part.decision.verdict, part.decision.verdict);
                writeln!(self.out, "\n{verdict} on {part}")?;
            }
            writeln!(self.out, "  {} to {}", packet.source, packet.destination)?;
            self.sides(engine, part)?;
        }
        Ok(())
    }

    fn staged(&mut self, engine: &Reference<'_>, staged: &Answer, now: &Answer) -> fmt::Result {
        let verdict = self.colour.verdict(staged.verdict(), staged.verdict());
        if staged == now {
            return writeln!(self.out, "\nwith staged policies enforced: {verdict}, as now");
        }
        writeln!(self.out, "\nwith staged policies enforced: {verdict}")?;
        self.parts(engine, staged)
    }

    fn sides(&mut self, engine: &Reference<'_>, part: &Part) -> fmt::Result {
        let (flow, Part { resolved, decision, .. }) = (self.flow, part);
        self.side(engine, "egress from", flow.from(), resolved, &resolved.from, decision.egress.as_ref())?;
        self.side(engine, "ingress to", flow.to(), resolved, &resolved.to, decision.ingress.as_ref())
    }

    fn side(
        &mut self,
        engine: &Reference<'_>,
        words: &str,
        peer: &Peer,
        resolved: &Resolved,
        end: &End,
        side: Option<&Side>,
    ) -> fmt::Result {
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
        writeln!(self.out, ": {verdict}, {}", side.decision.cause)?;
        for consulted in &side.consulted {
            let (decision, trace) = engine.explain(&consulted.endpoint, consulted.hook, &resolved.packet);
            writeln!(self.out, "  {} of {}: {}", consulted.hook, consulted.endpoint, decision.verdict)?;
            self.trace(&trace, consulted.hook.direction())?;
        }
        Ok(())
    }

    fn trace(&mut self, trace: &Trace, direction: Direction) -> fmt::Result {
        let mut place = Place::Nowhere;
        if !trace.steps.iter().any(|step| matches!(step, Step::Policy { .. } | Step::Exempt)) {
            self.out.push_str("    no policy applies\n");
        }
        for step in &trace.steps {
            match step {
                Step::Exempt => self.out.push_str("    exempt from policy\n"),
                Step::Tier { name, order, default_action } => {
                    let order = Position(*order);
                    let missing = match self.scenario.cluster().tiers().get(name) {
                        Some(_) => "",
                        None => "does not exist, ",
                    };
                    writeln!(self.out, "    tier {name} ({missing}{order}, ends in {default_action})")?;
                }
                Step::Policy { id, order, enforcement, consulted } => {
                    self.policy(id, *order, *enforcement, *consulted)?;
                    place = Place::Policy(id.clone());
                }
                Step::Profile { name, exists } => {
                    let profile = self.scenario.cluster().profiles().get(name);
                    let note = match profile.map(|profile| profile.origin) {
                        Some(ProfileOrigin::Implicit) => " (built in)",
                        _ if !exists => " does not exist",
                        _ => "",
                    };
                    writeln!(self.out, "    profile {name}{note}")?;
                    place = Place::Profile(name.to_string());
                }
                Step::Rule { index, action, outcome } => {
                    let rule = self.rule_of(&place, direction, *index);
                    let words = rule.map(|rule| describe::rule(rule, direction)).unwrap_or_default();
                    let (indent, pass) = match place {
                        Place::Policy(_) => ("        ", "go on with the next tier"),
                        _ => ("      ", "a pass in a profile denies"),
                    };
                    write!(self.out, "{indent}rule {index} {action} {words}: ")?;
                    match (outcome, action) {
                        (RuleOutcome::Matched, Action::Pass) => writeln!(self.out, "matched, {pass}")?,
                        (RuleOutcome::Matched, Action::Log) => writeln!(self.out, "matched, logged")?,
                        (RuleOutcome::Matched, _) => writeln!(self.out, "matched")?,
                        (RuleOutcome::NeedsHttp, _) => {
                            writeln!(self.out, "matches if the HTTP request does")?
                        }
                        (RuleOutcome::Missed(miss), _) => writeln!(self.out, "missed, {miss}")?,
                    }
                }
                Step::TierEnd { action: DefaultAction::Deny } => {
                    self.out.push_str("      no rule matches: deny\n");
                }
                Step::TierEnd { action: DefaultAction::Pass } => {
                    self.out.push_str("      no rule matches: go on with the next tier\n");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn policy(
        &mut self,
        id: &PolicyId,
        order: Option<Order>,
        enforcement: Enforcement,
        consulted: bool,
    ) -> fmt::Result {
        write!(self.out, "      {id} ({}", Position(order))?;
        match (enforcement, consulted) {
            (Enforcement::Staged, false) => self.out.push_str(", staged: not enforced"),
            (Enforcement::Staged, true) => self.out.push_str(", staged"),
            (Enforcement::Enforced, _) => {}
        }
        self.out.push(')');
        if let Some(location) = self.scenario.location(id) {
            write!(self.out, " at {location}")?;
        }
        self.out.push('\n');
        Ok(())
    }

    fn rule_of(&self, place: &Place, direction: Direction, index: usize) -> Option<&Rule> {
        let cluster = self.scenario.cluster();
        let (ingress, egress) = match place {
            Place::Nowhere => return None,
            Place::Policy(id) => {
                cluster.policies().get(id).map(|policy| (&policy.ingress, &policy.egress))?
            }
            Place::Profile(name) => {
                cluster.profiles().get(name.as_str()).map(|profile| (&profile.ingress, &profile.egress))?
            }
        };
        match direction {
            Direction::Ingress => ingress.get(index),
            Direction::Egress => egress.get(index),
        }
    }
}

/// Whose rules the trace is showing.
enum Place {
    Nowhere,
    Policy(PolicyId),
    Profile(String),
}

/// A sort position in words.
struct Position(Option<Order>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(order) => write!(f, "order {order}"),
            None => f.write_str("last"),
        }
    }
}

/// User text on one line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
