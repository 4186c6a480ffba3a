//! The walk that reads a snapshot: the mirror of the one that writes it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use crate::ir::form::{FORM_VERSION, MAX_VACANT, ReadError, Source, Tagged, words};
use crate::ir::{
    Arena, Body, DecisionEntry, Effect, EndpointEntry, Guard, HookPrograms, IdentityNamespace, Interval,
    L4Table, L7Program, L7Step, MAX_EXPR_DEPTH, PortMap, Program, Projection, Snapshot, SourceInterval,
};
use crate::label::{Labels, Scope};
use crate::model::{EndpointId, EndpointKind, HttpMatch, IdentityMatch, PathMatch, PolicyId};
use crate::packet::Protocol;
use crate::selector::{Expr, LabelRef};
use crate::verdict::{Cause, Direction, Hook, RuleRef, Verdict};

type Read<T> = Result<T, ReadError>;

pub(super) fn snapshot<S: Source>(source: &mut S) -> Read<Snapshot> {
    let mut new = Snapshot::new();
    source.label("portcullis-ir")?;
    let version = source.number(u64::from(u16::MAX))?;
    if version != u64::from(FORM_VERSION) {
        return Err(source.fail(&format!("version {version} is not known, only {FORM_VERSION}")));
    }
    source.label("generation")?;
    new.generation = source.number(u64::MAX)?;
    source.label("addresses")?;
    new.addresses = map(source, |source| Ok((source.net()?, source.id()?)))?;
    source.label("projections")?;
    new.projections = arena(source, projection)?;
    source.label("programs")?;
    new.programs = arena(source, |source| {
        source.label("v4")?;
        let v4 = body(source)?;
        source.label("v6")?;
        Ok(Program { v4, v6: body(source)? })
    })?;
    source.label("tables")?;
    new.tables = arena(source, table)?;
    source.label("decisions")?;
    new.decisions = arena(source, decision)?;
    source.label("l7")?;
    new.l7 = arena(source, |source| Ok(L7Program { steps: list(source, step)? }))?;
    source.label("endpoints")?;
    new.endpoints = map(source, endpoint)?;
    source.label("identities")?;
    new.identities = map(source, |source| Ok((source.name()?, identity_namespace(source)?)))?;
    Ok(new)
}

fn list<S: Source, T>(source: &mut S, mut read: impl FnMut(&mut S) -> Read<T>) -> Read<Vec<T>> {
    let mut items = Vec::new();
    let mut open = source.open()?;
    while source.more(&mut open)? {
        items.push(read(source)?);
    }
    Ok(items)
}

/// A map whose keys stand in order, each once.
fn map<S: Source, K: Ord, V>(
    source: &mut S,
    mut read: impl FnMut(&mut S) -> Read<(K, V)>,
) -> Read<BTreeMap<K, V>> {
    let mut items: BTreeMap<K, V> = BTreeMap::new();
    let mut open = source.open()?;
    while source.more(&mut open)? {
        let (key, value) = read(source)?;
        if items.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(source.fail("the entries are not in order, or one is given twice"));
        }
        items.insert(key, value);
    }
    Ok(items)
}

fn arena<S: Source, I: Tagged, T>(
    source: &mut S,
    mut read: impl FnMut(&mut S) -> Read<T>,
) -> Read<Arena<I, T>> {
    let mut entries = Arena::new();
    let mut open = source.open()?;
    while source.more(&mut open)? {
        let id: I = source.id()?;
        let vacant = u64::from(id.number()).saturating_sub(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        if id.number() < entries.bound() {
            return Err(source.fail("the entries are not in order, or one is given twice"));
        }
        if vacant > u64::from(MAX_VACANT) {
            return Err(source.fail("the id leaves too many ids before it vacant"));
        }
        let entry = read(source)?;
        entries.put(id, entry);
    }
    Ok(entries)
}

fn u32(source: &mut impl Source) -> Read<u32> {
    Ok(u32::try_from(source.number(u64::from(u32::MAX))?).unwrap_or(u32::MAX))
}

fn u16(source: &mut impl Source) -> Read<u16> {
    Ok(u16::try_from(source.number(u64::from(u16::MAX))?).unwrap_or(u16::MAX))
}

fn index(source: &mut impl Source) -> Read<usize> {
    let index = source.number(u64::MAX)?;
    usize::try_from(index).map_err(|_| source.fail("the number is too large for this machine"))
}

fn optional<S: Source, T>(source: &mut S, read: impl FnOnce(&mut S) -> Read<T>) -> Read<Option<T>> {
    if source.present()? { read(source).map(Some) } else { Ok(None) }
}

fn projection<S: Source>(source: &mut S) -> Read<Projection> {
    source.label("rows")?;
    let rows = u32(source)?;
    Ok(Projection { rows, row_of: map(source, |source| Ok((source.id()?, u32(source)?)))? })
}

fn body<S: Source>(source: &mut S) -> Read<Body> {
    source.label("source")?;
    let from = source.id()?;
    source.label("destination")?;
    let to = source.id()?;
    source.label("columns")?;
    let columns = u32(source)?;
    Ok(Body { source: from, destination: to, columns, cells: list(source, S::id)? })
}

fn table<S: Source>(source: &mut S) -> Read<L4Table> {
    source.label("other")?;
    let other = source.id()?;
    let protocols = list(source, |source| {
        let protocol = u8::try_from(source.number(u64::from(u8::MAX))?).unwrap_or(u8::MAX);
        let sources = list(source, |source| {
            source.label("to")?;
            let last = u16(source)?;
            let keys = list(source, |source| {
                source.label("to")?;
                Ok(Interval { last: u16(source)?, decision: source.id()? })
            })?;
            Ok(SourceInterval { last, keys: PortMap::new(keys) })
        })?;
        Ok((Protocol(protocol), sources))
    })?;
    Ok(L4Table { protocols, other })
}

fn decision<S: Source>(source: &mut S) -> Read<DecisionEntry> {
    let verdict = match source.choice(words::VERDICTS)? {
        0 => Verdict::Allow,
        2 => Verdict::Continue,
        3 => Verdict::Inspect,
        _ => Verdict::Deny,
    };
    let cause = cause(source)?;
    source.label("logs")?;
    let logs = list(source, rule)?;
    source.label("l7")?;
    Ok(DecisionEntry { verdict, cause, logs, l7: optional(source, S::id)? })
}

fn cause<S: Source>(source: &mut S) -> Read<Cause> {
    Ok(match source.choice(words::CAUSES)? {
        0 => Cause::Rule(rule(source)?),
        1 => Cause::TierDefault { tier: source.name()?, policy: policy(source)? },
        2 => Cause::Profile { profile: source.name()?, index: optional(source, index)? },
        3 => Cause::ProfileDefault,
        5 => Cause::Loopback,
        6 => Cause::Node,
        7 => Cause::WorkloadToHost,
        8 => Cause::Failsafe,
        9 => Cause::NeighbourDiscovery,
        10 => Cause::NoBackend,
        11 => Cause::NoServicePort,
        12 => Cause::Tunnel,
        _ => Cause::NoPolicy,
    })
}

fn rule<S: Source>(source: &mut S) -> Read<RuleRef> {
    let policy = policy(source)?;
    source.label("tier")?;
    let tier = source.name()?;
    let direction = match source.choice(words::DIRECTIONS)? {
        0 => Direction::Ingress,
        _ => Direction::Egress,
    };
    Ok(RuleRef { policy, tier, direction, index: index(source)? })
}

fn policy<S: Source>(source: &mut S) -> Read<PolicyId> {
    Ok(PolicyId { kind: source.name()?, namespace: optional(source, S::name)?, name: source.name()? })
}

fn step<S: Source>(source: &mut S) -> Read<L7Step> {
    let guard = guard(source)?;
    let effect = match source.choice(words::EFFECTS)? {
        0 => Effect::Decide(source.id()?),
        1 => Effect::SkipTo(u32(source)?),
        _ => Effect::Log(rule(source)?),
    };
    Ok(L7Step { guard, effect })
}

fn guard<S: Source>(source: &mut S) -> Read<Guard> {
    source.label("identities")?;
    let identities = list(source, |source| Ok(IdentityMatch { expr: expr(source, 0)? }))?;
    source.label("http")?;
    Ok(Guard { identities, http: optional(source, http)? })
}

fn http<S: Source>(source: &mut S) -> Read<HttpMatch> {
    source.label("methods")?;
    let methods = list(source, S::name)?;
    source.label("paths")?;
    let paths = list(source, |source| {
        Ok(match source.choice(words::PATHS)? {
            0 => PathMatch::Exact(source.name()?),
            _ => PathMatch::Prefix(source.name()?),
        })
    })?;
    Ok(HttpMatch { methods, paths })
}

/// Depth counts as in [`MAX_EXPR_DEPTH`]. Tests are read in a function of their own, so that a level of nesting takes
/// little stack.
pub(super) fn expr<S: Source>(source: &mut S, above: usize) -> Read<Expr> {
    let code = source.choice(words::EXPRS)?;
    let depth = above.saturating_add(if matches!(code, 11 | 12) { 3 } else { 1 });
    if depth > MAX_EXPR_DEPTH {
        return Err(source.fail("the expression is too deep"));
    }
    match code {
        10 => Ok(Expr::Not(Box::new(expr(source, depth)?))),
        11 => Ok(Expr::And(operands(source, depth)?)),
        12 => Ok(Expr::Or(operands(source, depth)?)),
        code => test(source, code),
    }
}

fn operands<S: Source>(source: &mut S, depth: usize) -> Read<Vec<Expr>> {
    list(source, |source| expr(source, depth))
}

#[inline(never)]
fn test<S: Source>(source: &mut S, code: usize) -> Read<Expr> {
    Ok(match code {
        0 => Expr::All,
        1 => Expr::Global,
        2 => Expr::Has(label(source)?),
        3 => Expr::Eq(label(source)?, source.name()?),
        4 => Expr::Ne(label(source)?, source.name()?),
        5 => Expr::In(label(source)?, list(source, S::name)?),
        6 => Expr::NotIn(label(source)?, list(source, S::name)?),
        7 => Expr::Contains(label(source)?, source.name()?),
        8 => Expr::StartsWith(label(source)?, source.name()?),
        _ => Expr::EndsWith(label(source)?, source.name()?),
    })
}

fn label<S: Source>(source: &mut S) -> Read<LabelRef> {
    let scope = match source.choice(words::SCOPES)? {
        0 => Scope::Own,
        1 => Scope::Namespace,
        _ => Scope::ServiceAccount,
    };
    Ok(LabelRef { scope, key: source.name()? })
}

fn endpoint<S: Source>(source: &mut S) -> Read<(EndpointId, EndpointEntry)> {
    let kind = match source.choice(words::KINDS)? {
        0 => EndpointKind::Workload,
        _ => EndpointKind::Host,
    };
    let id = EndpointId { kind, namespace: optional(source, S::name)?, name: source.name()? };
    source.label("enforced")?;
    let enforced = hooks(source)?;
    source.label("staged")?;
    Ok((id, EndpointEntry { enforced, staged: optional(source, hooks)? }))
}

fn hooks<S: Source>(source: &mut S) -> Read<HookPrograms> {
    let programs = map(source, |source| {
        let code = source.choice(words::HOOKS)?;
        let hook = Hook::ALL.get(code).copied().ok_or_else(|| source.fail("there is no such hook"))?;
        Ok((hook, source.id()?))
    })?;
    Ok(HookPrograms(programs))
}

fn identity_namespace<S: Source>(source: &mut S) -> Read<IdentityNamespace> {
    let labels = labels(source)?;
    source.label("accounts")?;
    let service_accounts = map(source, |source| Ok((source.name()?, self::labels(source)?)))?;
    Ok(IdentityNamespace { labels, service_accounts })
}

fn labels<S: Source>(source: &mut S) -> Read<Labels> {
    let pairs = map(source, |source| Ok((source.name()?, source.name()?)))?;
    Ok(pairs.into_iter().collect())
}
