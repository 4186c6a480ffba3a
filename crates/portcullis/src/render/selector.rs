//! Selectors in the language of their object.

use portcullis_core::label::{NAME_KEY, Name, Scope};
use portcullis_core::model::{EntityKinds, EntitySelector};
use portcullis_core::quote::escaped;
use portcullis_core::selector::{Expr, LabelRef};

use super::Dialect;

/// What `selector` selects: `pods app=web in namespace shop`, or `endpoints app == "web" in namespace shop`.
#[must_use]
pub fn selector(selector: &EntitySelector, dialect: Dialect) -> String {
    let kinds = kinds(selector.kinds);
    if kinds.is_empty() {
        return "nobody".into();
    }
    let mut terms = Vec::new();
    flatten(&selector.expr, &mut terms);
    let mut of_scope = [Vec::new(), Vec::new(), Vec::new()];
    let mut mixed = Vec::new();
    for term in terms {
        match scope(term) {
            Ok(Some(scope)) => {
                let [own, namespace, account] = &mut of_scope;
                match scope {
                    Scope::Own => own.push(term),
                    Scope::Namespace => namespace.push(term),
                    Scope::ServiceAccount => account.push(term),
                }
            }
            Ok(None) if matches!(term, Expr::All | Expr::Global) => {}
            Ok(None) | Err(Mixed) => mixed.push(term),
        }
    }
    let [own, namespace, account] = of_scope;
    let mut text = match own.as_slice() {
        [] if mixed.is_empty() => format!("all {kinds}"),
        [] => kinds,
        own => format!("{kinds} {}", join(own, dialect)),
    };
    let parts =
        [named("namespace", "in", &namespace, dialect), named("service account", "with", &account, dialect)];
    for part in parts.into_iter().flatten() {
        text.push(' ');
        text.push_str(&part);
    }
    // A condition on labels of several objects at once has no shorter form.
    for term in mixed {
        text.push_str(" where ");
        text.push_str(&escaped(&term.to_string()).to_string());
    }
    text
}

fn kinds(kinds: EntityKinds) -> String {
    if kinds == EntityKinds::CALICO {
        return "endpoints".into();
    }
    let names = [
        (EntityKinds::WORKLOAD, "pods"),
        (EntityKinds::HOST, "host endpoints"),
        (EntityKinds::NETWORK_SET, "network sets"),
        (EntityKinds::NODE, "nodes"),
    ];
    let names: Vec<&str> =
        names.iter().filter(|(kind, _)| kinds.contains(*kind)).map(|(_, name)| *name).collect();
    names.join(", ")
}

/// The operands of nested conjunctions.
fn flatten<'e>(expr: &'e Expr, terms: &mut Vec<&'e Expr>) {
    match expr {
        Expr::And(operands) => operands.iter().for_each(|operand| flatten(operand, terms)),
        term => terms.push(term),
    }
}

/// Labels of more than one object.
struct Mixed;

/// Whose labels a term asks for; `None` when it asks for none.
fn scope(term: &Expr) -> Result<Option<Scope>, Mixed> {
    match term {
        Expr::Not(inner) => scope(inner),
        Expr::And(operands) | Expr::Or(operands) => {
            let mut all = None;
            for operand in operands {
                match (all, scope(operand)?) {
                    (Some(known), Some(found)) if known != found => return Err(Mixed),
                    (_, Some(found)) => all = Some(found),
                    (_, None) => {}
                }
            }
            Ok(all)
        }
        term => Ok(label(term).map(|label| label.scope)),
    }
}

const fn label(term: &Expr) -> Option<&LabelRef> {
    match term {
        Expr::Has(label)
        | Expr::Eq(label, _)
        | Expr::Ne(label, _)
        | Expr::In(label, _)
        | Expr::NotIn(label, _)
        | Expr::Contains(label, _)
        | Expr::StartsWith(label, _)
        | Expr::EndsWith(label, _) => Some(label),
        _ => None,
    }
}

/// The namespace or service account that `terms` ask for: by name where they name it.
fn named(what: &str, word: &str, terms: &[&Expr], dialect: Dialect) -> Option<String> {
    let is_name = |label: &LabelRef| {
        let key = label.key.as_str();
        key == NAME_KEY || (label.scope == Scope::Namespace && key == "kubernetes.io/metadata.name")
    };
    match terms {
        [] => None,
        [Expr::Eq(label, name)] if is_name(label) => Some(format!("{word} {what} {}", escaped(name))),
        [Expr::In(label, names)] if is_name(label) && !names.is_empty() => {
            let plural = if names.len() > 1 { "s" } else { "" };
            Some(format!("{word} {what}{plural} {}", list(names)))
        }
        [Expr::Has(label)] if label.key.as_str() == NAME_KEY => Some(format!("{word} any {what}")),
        terms => Some(format!("{word} {what}s {}", join(terms, dialect))),
    }
}

fn join(terms: &[&Expr], dialect: Dialect) -> String {
    let texts: Vec<String> = match dialect {
        Dialect::Kubernetes => terms.iter().map(|term| kubernetes(term)).collect(),
        Dialect::Calico => terms.iter().map(|term| calico(term)).collect(),
    };
    texts.join(match dialect {
        Dialect::Kubernetes => ",",
        Dialect::Calico => " && ",
    })
}

/// A term as `kubectl --selector` takes it, where it has such a form.
fn kubernetes(term: &Expr) -> String {
    let key = |label: &LabelRef| escaped(&label.key).to_string();
    match term {
        Expr::Has(label) => key(label),
        Expr::Eq(label, value) => format!("{}={}", key(label), escaped(value)),
        Expr::Ne(label, value) => format!("{}!={}", key(label), escaped(value)),
        Expr::In(label, values) if values.len() == 1 => format!("{}={}", key(label), list(values)),
        Expr::In(label, values) => format!("{} in ({})", key(label), list(values)),
        Expr::NotIn(label, values) if values.len() == 1 => format!("{}!={}", key(label), list(values)),
        Expr::NotIn(label, values) => format!("{} notin ({})", key(label), list(values)),
        Expr::Not(inner) => match &**inner {
            Expr::Has(label) => format!("!{}", key(label)),
            _ => calico(term),
        },
        _ => calico(term),
    }
}

fn calico(term: &Expr) -> String {
    escaped(&unscoped(term).to_string()).to_string()
}

fn list(values: &[Name]) -> String {
    let values: Vec<String> = values.iter().map(|value| escaped(value).to_string()).collect();
    values.join(", ")
}

/// `expr` with every label as one of the object's own, which is how users write selectors of namespaces. Its depth is
/// limited where selectors are parsed.
fn unscoped(expr: &Expr) -> Expr {
    let own = |label: &LabelRef| LabelRef { scope: Scope::Own, key: label.key.clone() };
    let all = |operands: &[Expr]| operands.iter().map(unscoped).collect();
    match expr {
        Expr::Has(label) => Expr::Has(own(label)),
        Expr::Eq(label, value) => Expr::Eq(own(label), value.clone()),
        Expr::Ne(label, value) => Expr::Ne(own(label), value.clone()),
        Expr::In(label, values) => Expr::In(own(label), values.clone()),
        Expr::NotIn(label, values) => Expr::NotIn(own(label), values.clone()),
        Expr::Contains(label, value) => Expr::Contains(own(label), value.clone()),
        Expr::StartsWith(label, value) => Expr::StartsWith(own(label), value.clone()),
        Expr::EndsWith(label, value) => Expr::EndsWith(own(label), value.clone()),
        Expr::Not(inner) => Expr::Not(Box::new(unscoped(inner))),
        Expr::And(operands) => Expr::And(all(operands)),
        Expr::Or(operands) => Expr::Or(all(operands)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::selector::Selector;

    fn scoped(scope: Scope, text: &str) -> Expr {
        fn rescope(expr: Expr, scope: Scope) -> Expr {
            let to = |label: LabelRef| LabelRef { scope, key: label.key };
            match expr {
                Expr::Eq(label, value) => Expr::Eq(to(label), value),
                Expr::In(label, values) => Expr::In(to(label), values),
                Expr::Has(label) => Expr::Has(to(label)),
                other => other,
            }
        }
        rescope(Selector::parse(text).unwrap().into_expr(), scope)
    }

    #[test]
    fn selectors_are_said_in_the_language_of_their_object() {
        use Dialect::{Calico, Kubernetes};
        let own = |text: &str| Selector::parse(text).unwrap().into_expr();
        let shop = || scoped(Scope::Namespace, "projectcalico.org/name == 'shop'");
        let by_label = || scoped(Scope::Namespace, "kubernetes.io/metadata.name == 'shop'");
        let team = || scoped(Scope::Namespace, "team in {'a', 'b'}");
        let account = || scoped(Scope::ServiceAccount, "projectcalico.org/name in {'cart'}");
        let both = |a: Expr, b: Expr| Expr::And(vec![a, b]);
        for (dialect, kinds, expr, want) in [
            (
                Kubernetes,
                EntityKinds::WORKLOAD,
                both(shop(), own("app == 'web'")),
                "pods app=web in namespace shop",
            ),
            (Kubernetes, EntityKinds::WORKLOAD, by_label(), "all pods in namespace shop"),
            (Kubernetes, EntityKinds::WORKLOAD, Expr::All, "all pods"),
            (
                Kubernetes,
                EntityKinds::WORKLOAD,
                both(
                    team(),
                    own("app in {'a', 'b'} && has(x) && !has(y) && z != 'q' && v not in {'1', '2'}"),
                ),
                "pods app in (a, b),x,!y,z!=q,v notin (1, 2) in namespaces team in (a, b)",
            ),
            (Kubernetes, EntityKinds::NODE, own("zone == 'x'"), "nodes zone=x"),
            (Kubernetes, EntityKinds::NONE, Expr::All, "nobody"),
            (
                Calico,
                EntityKinds::CALICO,
                both(shop(), own("app == 'web'")),
                "endpoints app == \"web\" in namespace shop",
            ),
            (
                Calico,
                EntityKinds::CALICO,
                both(shop(), account()),
                "all endpoints in namespace shop with service account cart",
            ),
            (
                Calico,
                EntityKinds::CALICO,
                scoped(Scope::Namespace, "has(projectcalico.org/name)"),
                "all endpoints in any namespace",
            ),
            (Calico, EntityKinds::CALICO, team(), "all endpoints in namespaces team in {\"a\", \"b\"}"),
            (
                Calico,
                EntityKinds::WORKLOAD,
                Expr::Or(vec![shop(), own("a == 'b'")]),
                "pods where (ns:projectcalico.org/name == \"shop\" || a == \"b\")",
            ),
            (
                Calico,
                EntityKinds::CALICO,
                own("a == 'b' || c == 'd'"),
                "endpoints (a == \"b\" || c == \"d\")",
            ),
        ] {
            assert_eq!(selector(&EntitySelector { kinds, expr }, dialect), want);
        }
    }
}
