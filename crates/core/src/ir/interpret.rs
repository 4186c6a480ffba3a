//! The IR interpreter: what the tables mean, written as plainly as possible.

use alloc::vec::Vec;

use crate::evaluate::Evaluate;
use crate::ir::{
    DecisionId, Effect, Guard, IdentityNamespace, L4Table, L7Context, L7Program, Lookup, Snapshot,
};
use crate::label::{LabelSource, NAME_KEY, Scope};
use crate::model::EndpointId;
use crate::packet::Packet;
use crate::principal::Principal;
use crate::verdict::{self, Cause, Hook, Verdict};

/// Which programs of an endpoint are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// What is enforced.
    #[default]
    Enforced,
    /// What would hold if staged policies were enforced.
    Staged,
}

/// An engine that looks every packet up in the tables, step by step. The oracle for backends; not fast.
#[derive(Debug)]
pub struct Interpreter<'a, L: ?Sized = Snapshot> {
    tables: &'a L,
    view: View,
}

impl<L: ?Sized> Clone for Interpreter<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L: ?Sized> Copy for Interpreter<'_, L> {}

impl<'a> Interpreter<'a> {
    /// An interpreter of what `snapshot` enforces.
    #[must_use]
    pub const fn new(snapshot: &'a Snapshot) -> Self {
        Self::over(snapshot)
    }
}

impl<'a, L: ?Sized> Interpreter<'a, L> {
    /// An interpreter of what `tables` enforce.
    #[must_use]
    pub const fn over(tables: &'a L) -> Self {
        Self { tables, view: View::Enforced }
    }

    /// The same for another view.
    #[must_use]
    pub const fn with_view(self, view: View) -> Self {
        Self { view, ..self }
    }
}

impl<L: Lookup> Interpreter<'_, L> {
    /// What `hook` of `endpoint` says to `packet`. An endpoint without a program for the hook is denied, so an
    /// incomplete snapshot fails closed.
    #[must_use]
    pub fn decide(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.look_up(endpoint, hook, packet)
            .and_then(|id| self.resolve(id, packet))
            .unwrap_or(verdict::Decision::new(Verdict::Deny, Cause::NoPolicy))
    }

    /// The decision of the tables alone, before any L7 program.
    #[must_use]
    pub fn look_up(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Option<DecisionId> {
        let entry = self.tables.endpoint(endpoint)?;
        let programs = match (self.view, &entry.staged) {
            (View::Staged, Some(staged)) => staged,
            _ => &entry.enforced,
        };
        let program = self.tables.program(*programs.0.get(&hook)?)?;
        let body = program.body(packet.version());
        let row = self.tables.row(body.source, self.tables.class_of(packet.source))?;
        let column = self.tables.row(body.destination, self.tables.class_of(packet.destination))?;
        let table = self.tables.l4_table(body.cell(row, column)?)?;
        table.decision(packet.protocol, packet.source_port, L4Table::key(packet))
    }

    fn resolve(&self, id: DecisionId, packet: &Packet) -> Option<verdict::Decision> {
        let decision = self.tables.l7_decision(id)?;
        let plain = packet.principal.is_none() && packet.http.is_none();
        match decision.l7 {
            Some(l7) if !plain => self.tables.l7_program(l7)?.run(self.tables, packet),
            _ => Some(verdict::Decision {
                verdict: decision.verdict,
                cause: decision.cause.clone(),
                logs: decision.logs.clone(),
            }),
        }
    }
}

impl<L: Lookup> Evaluate for Interpreter<'_, L> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.decide(endpoint, hook, packet)
    }
}

impl Snapshot {
    /// Runs `program` for `packet`. `None` when the program breaks an invariant.
    #[must_use]
    pub fn run(&self, program: &L7Program, packet: &Packet) -> Option<verdict::Decision> {
        program.run(self, packet)
    }
}

impl L7Program {
    /// Runs the program for `packet`. `None` when it breaks an invariant.
    #[must_use]
    pub fn run(&self, context: &impl L7Context, packet: &Packet) -> Option<verdict::Decision> {
        let mut logs = Vec::new();
        let mut next: usize = 0;
        loop {
            let step = self.steps.get(next)?;
            let here = next;
            next = next.checked_add(1)?;
            match (step.guard.state(context, packet), &step.effect) {
                (GuardState::Fails, _) | (GuardState::NeedsHttp, Effect::Log(_)) => {}
                (GuardState::Holds, Effect::Log(rule)) => logs.push(rule.clone()),
                (GuardState::Holds, Effect::SkipTo(step)) => {
                    next = usize::try_from(*step).ok().filter(|step| *step > here)?;
                }
                (GuardState::NeedsHttp, Effect::SkipTo(_)) => return None,
                (state, Effect::Decide(id)) => {
                    let decision = context.l7_decision(*id)?;
                    let verdict =
                        if state == GuardState::NeedsHttp { Verdict::Inspect } else { decision.verdict };
                    return Some(verdict::Decision { verdict, cause: decision.cause.clone(), logs });
                }
            }
        }
    }
}

impl Guard {
    fn state(&self, context: &impl L7Context, packet: &Packet) -> GuardState {
        if let Some(principal) = packet.principal.as_deref()
            && !self.identities.is_empty()
        {
            let known = Principal::parse(principal);
            let holds = known.is_some_and(|known| {
                let labels = Identity { namespace: context.l7_identity(known.namespace), principal: known };
                self.identities.iter().any(|identity| identity.expr.matches(&labels))
            });
            if !holds {
                return GuardState::Fails;
            }
        }
        match (&self.http, &packet.http) {
            (None, _) => GuardState::Holds,
            (Some(_), None) => GuardState::NeedsHttp,
            (Some(http), Some(request)) if http.matches(request) => GuardState::Holds,
            (Some(_), Some(_)) => GuardState::Fails,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardState {
    Holds,
    Fails,
    NeedsHttp,
}

/// The labels of a principal, from the copies in the context.
struct Identity<'a> {
    namespace: Option<&'a IdentityNamespace>,
    principal: Principal<'a>,
}

impl LabelSource for Identity<'_> {
    fn label(&self, scope: Scope, key: &str) -> Option<&str> {
        match scope {
            Scope::Own => None,
            Scope::Namespace if key == NAME_KEY => Some(self.principal.namespace),
            Scope::Namespace => self.namespace?.labels.value(key),
            Scope::ServiceAccount if key == NAME_KEY => Some(self.principal.service_account),
            Scope::ServiceAccount => {
                self.namespace?.service_accounts.get(self.principal.service_account)?.value(key)
            }
        }
    }
}
