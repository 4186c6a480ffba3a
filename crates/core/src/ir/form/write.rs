//! The walk that writes a snapshot.

use core::fmt;

use crate::ir::form::{FORM_VERSION, Layout, Sink, words};
use crate::ir::{
    Arena, Body, DecisionEntry, Effect, EndpointEntry, Guard, HookPrograms, Id, IdentityNamespace, L4Table,
    L7Program, Projection, Snapshot,
};
use crate::label::{Labels, Scope};
use crate::model::{EndpointId, EndpointKind, HttpMatch, PathMatch, PolicyId};
use crate::selector::{Expr, LabelRef};
use crate::verdict::{Cause, Direction, Hook, RuleRef, Verdict};

use fmt::Result as Written;

pub(super) fn snapshot(snapshot: &Snapshot, sink: &mut impl Sink) -> Written {
    sink.label("portcullis-ir")?;
    sink.number(u64::from(FORM_VERSION))?;
    sink.label("generation")?;
    sink.number(snapshot.generation)?;
    sink.label("addresses")?;
    lines(sink, &snapshot.addresses, |sink, (net, class)| {
        sink.net(net)?;
        sink.id(*class)
    })?;
    sink.label("projections")?;
    arena(sink, &snapshot.projections, projection)?;
    sink.label("programs")?;
    arena(sink, &snapshot.programs, |sink, program| {
        sink.label("v4")?;
        body(sink, &program.v4)?;
        sink.label("v6")?;
        body(sink, &program.v6)
    })?;
    sink.label("tables")?;
    arena(sink, &snapshot.tables, table)?;
    sink.label("decisions")?;
    arena(sink, &snapshot.decisions, decision)?;
    sink.label("l7")?;
    arena(sink, &snapshot.l7, l7_program)?;
    sink.label("endpoints")?;
    lines(sink, &snapshot.endpoints, endpoint)?;
    sink.label("identities")?;
    lines(sink, &snapshot.identities, |sink, (name, namespace)| {
        sink.name(name)?;
        identity_namespace(sink, namespace)
    })
}

fn lines<S: Sink, T>(
    sink: &mut S,
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    write: impl FnMut(&mut S, T) -> Written,
) -> Written {
    list(sink, Layout::Lines, items, write)
}

fn inline<S: Sink, T>(
    sink: &mut S,
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    write: impl FnMut(&mut S, T) -> Written,
) -> Written {
    list(sink, Layout::Inline, items, write)
}

fn list<S: Sink, T>(
    sink: &mut S,
    layout: Layout,
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    mut write: impl FnMut(&mut S, T) -> Written,
) -> Written {
    let items = items.into_iter();
    sink.open(items.len(), layout)?;
    for item in items {
        sink.item()?;
        write(sink, item)?;
    }
    sink.close()
}

fn arena<S: Sink, I: Id, T>(
    sink: &mut S,
    arena: &Arena<I, T>,
    mut write: impl FnMut(&mut S, &T) -> Written,
) -> Written {
    sink.open(arena.len(), Layout::Lines)?;
    for (id, entry) in arena.iter() {
        sink.item()?;
        sink.id(id)?;
        write(sink, entry)?;
    }
    sink.close()
}

fn projection(sink: &mut impl Sink, projection: &Projection) -> Written {
    sink.label("rows")?;
    sink.number(u64::from(projection.rows))?;
    inline(sink, &projection.row_of, |sink, (class, row)| {
        sink.id(*class)?;
        sink.number(u64::from(*row))
    })
}

fn body(sink: &mut impl Sink, body: &Body) -> Written {
    sink.label("source")?;
    sink.id(body.source)?;
    sink.label("destination")?;
    sink.id(body.destination)?;
    sink.label("columns")?;
    sink.number(u64::from(body.columns))?;
    inline(sink, &body.cells, |sink, cell| sink.id(*cell))
}

fn table(sink: &mut impl Sink, table: &L4Table) -> Written {
    sink.label("other")?;
    sink.id(table.other)?;
    inline(sink, &table.protocols, |sink, (protocol, sources)| {
        sink.number(u64::from(protocol.0))?;
        inline(sink, sources, |sink, source| {
            sink.label("to")?;
            sink.number(u64::from(source.last))?;
            inline(sink, source.keys.intervals(), |sink, interval| {
                sink.label("to")?;
                sink.number(u64::from(interval.last))?;
                sink.id(interval.decision)
            })
        })
    })
}

fn decision(sink: &mut impl Sink, decision: &DecisionEntry) -> Written {
    let verdict = match decision.verdict {
        Verdict::Allow => 0,
        Verdict::Deny => 1,
        Verdict::Continue => 2,
        Verdict::Inspect => 3,
    };
    sink.choice(words::VERDICTS, verdict)?;
    cause(sink, &decision.cause)?;
    sink.label("logs")?;
    inline(sink, &decision.logs, rule)?;
    sink.label("l7")?;
    optional(sink, decision.l7, |sink, id| sink.id(id))
}

fn optional<S: Sink, T>(sink: &mut S, value: Option<T>, write: impl FnOnce(&mut S, T) -> Written) -> Written {
    sink.present(value.is_some())?;
    value.map_or(Ok(()), |value| write(sink, value))
}

fn cause(sink: &mut impl Sink, cause: &Cause) -> Written {
    let kind = words::CAUSES.iter().position(|word| *word == cause.name()).unwrap_or_default();
    sink.choice(words::CAUSES, kind)?;
    match cause {
        Cause::Rule(reference) => rule(sink, reference),
        Cause::TierDefault { tier, policy: last } => {
            sink.name(tier)?;
            policy(sink, last)
        }
        Cause::Profile { profile, index } => {
            sink.name(profile)?;
            optional(sink, *index, |sink, index| sink.number(wide(index)))
        }
        Cause::ProfileDefault
        | Cause::NoPolicy
        | Cause::Loopback
        | Cause::Node
        | Cause::WorkloadToHost
        | Cause::Failsafe
        | Cause::NeighbourDiscovery
        | Cause::Tunnel
        | Cause::NoBackend
        | Cause::NoServicePort => Ok(()),
    }
}

fn wide(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}

fn rule(sink: &mut impl Sink, rule: &RuleRef) -> Written {
    policy(sink, &rule.policy)?;
    sink.label("tier")?;
    sink.name(&rule.tier)?;
    sink.choice(
        words::DIRECTIONS,
        match rule.direction {
            Direction::Ingress => 0,
            Direction::Egress => 1,
        },
    )?;
    sink.number(wide(rule.index))
}

fn policy(sink: &mut impl Sink, id: &PolicyId) -> Written {
    sink.name(&id.kind)?;
    optional(sink, id.namespace.as_ref(), |sink, namespace| sink.name(namespace))?;
    sink.name(&id.name)
}

fn l7_program(sink: &mut impl Sink, program: &L7Program) -> Written {
    inline(sink, &program.steps, |sink, step| {
        guard(sink, &step.guard)?;
        match &step.effect {
            Effect::Decide(id) => {
                sink.choice(words::EFFECTS, 0)?;
                sink.id(*id)
            }
            Effect::SkipTo(step) => {
                sink.choice(words::EFFECTS, 1)?;
                sink.number(u64::from(*step))
            }
            Effect::Log(reference) => {
                sink.choice(words::EFFECTS, 2)?;
                rule(sink, reference)
            }
        }
    })
}

fn guard(sink: &mut impl Sink, guard: &Guard) -> Written {
    sink.label("identities")?;
    inline(sink, &guard.identities, |sink, identity| expr(sink, &identity.expr))?;
    sink.label("http")?;
    optional(sink, guard.http.as_ref(), http)
}

fn http(sink: &mut impl Sink, http: &HttpMatch) -> Written {
    sink.label("methods")?;
    inline(sink, &http.methods, |sink, method| sink.name(method))?;
    sink.label("paths")?;
    inline(sink, &http.paths, |sink, path| {
        let (kind, path) = match path {
            PathMatch::Exact(path) => (0, path),
            PathMatch::Prefix(path) => (1, path),
        };
        sink.choice(words::PATHS, kind)?;
        sink.name(path)
    })
}

pub(super) fn expr(sink: &mut impl Sink, expr: &Expr) -> Written {
    let (code, label) = match expr {
        Expr::All => (0, None),
        Expr::Global => (1, None),
        Expr::Has(label) => (2, Some(label)),
        Expr::Eq(label, _) => (3, Some(label)),
        Expr::Ne(label, _) => (4, Some(label)),
        Expr::In(label, _) => (5, Some(label)),
        Expr::NotIn(label, _) => (6, Some(label)),
        Expr::Contains(label, _) => (7, Some(label)),
        Expr::StartsWith(label, _) => (8, Some(label)),
        Expr::EndsWith(label, _) => (9, Some(label)),
        Expr::Not(_) => (10, None),
        Expr::And(_) => (11, None),
        Expr::Or(_) => (12, None),
    };
    sink.choice(words::EXPRS, code)?;
    if let Some(LabelRef { scope, key }) = label {
        let scope = match scope {
            Scope::Own => 0,
            Scope::Namespace => 1,
            Scope::ServiceAccount => 2,
        };
        sink.choice(words::SCOPES, scope)?;
        sink.name(key)?;
    }
    match expr {
        Expr::All | Expr::Global | Expr::Has(_) => Ok(()),
        Expr::Eq(_, text)
        | Expr::Ne(_, text)
        | Expr::Contains(_, text)
        | Expr::StartsWith(_, text)
        | Expr::EndsWith(_, text) => sink.name(text),
        Expr::In(_, values) | Expr::NotIn(_, values) => inline(sink, values, |sink, value| sink.name(value)),
        Expr::Not(inner) => self::expr(sink, inner),
        Expr::And(operands) | Expr::Or(operands) => inline(sink, operands, self::expr),
    }
}

fn endpoint(sink: &mut impl Sink, (id, entry): (&EndpointId, &EndpointEntry)) -> Written {
    sink.choice(
        words::KINDS,
        match id.kind {
            EndpointKind::Workload => 0,
            EndpointKind::Host => 1,
        },
    )?;
    optional(sink, id.namespace.as_ref(), |sink, namespace| sink.name(namespace))?;
    sink.name(&id.name)?;
    sink.label("enforced")?;
    hooks(sink, &entry.enforced)?;
    sink.label("staged")?;
    optional(sink, entry.staged.as_ref(), hooks)
}

fn hooks(sink: &mut impl Sink, programs: &HookPrograms) -> Written {
    inline(sink, &programs.0, |sink, (hook, program)| {
        let code = Hook::ALL.iter().position(|known| known == hook).unwrap_or_default();
        sink.choice(words::HOOKS, code)?;
        sink.id(*program)
    })
}

fn identity_namespace(sink: &mut impl Sink, namespace: &IdentityNamespace) -> Written {
    labels(sink, &namespace.labels)?;
    sink.label("accounts")?;
    inline(sink, &namespace.service_accounts, |sink, (name, own)| {
        sink.name(name)?;
        labels(sink, own)
    })
}

fn labels(sink: &mut impl Sink, labels: &Labels) -> Written {
    sink.open(labels.len(), Layout::Inline)?;
    for (key, value) in labels.iter() {
        sink.item()?;
        sink.name(key)?;
        sink.name(value)?;
    }
    sink.close()
}
