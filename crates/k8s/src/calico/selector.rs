//! Selector texts of Calico objects, and what `all()` and `global()` mean in each place.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use portcullis_core::label::{NAME_KEY, Name, Scope};
use portcullis_core::quote::quoted;
use portcullis_core::selector::{Expr, LabelRef, Selector};

use crate::context::Context;
use crate::path::Path;

/// Longest selector that the resource definitions allow, in characters.
const MAX_CHARS: usize = 1024;

/// Where a selector stands; decides what its parts mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A selector over the labels of endpoints and network sets.
    Own,
    /// The `namespaceSelector` of a policy: `all()` is "has a namespace".
    PolicyNamespace,
    /// The `serviceAccountSelector` of a NetworkPolicy.
    PolicyServiceAccount,
    /// The `serviceAccountSelector` of a GlobalNetworkPolicy: `all()` is "has a service account".
    GlobalPolicyServiceAccount,
    /// The `namespaceSelector` of a rule: `all()` is "has a namespace", `global()` alone is "has none".
    RuleNamespace,
    /// The `serviceAccounts.selector` of a rule. `all()` is true here, also without a service account, and the
    /// length is not limited.
    RuleServiceAccount,
}

/// Reads the selector in `text`; an absent or empty one gives nothing, and so does one that is refused.
///
/// A text of blanks is `all()`. Which part means what is decided on the parsed expression, never on the text
/// (decision D18), so quoted values are safe. Source: Calico `libcalico-go/lib/backend/syncersv1/updateprocessors`
/// and, for `global()`, `libcalico-go/lib/validator/v3/validator.go`.
pub(super) fn read(cx: &mut Context<'_>, path: &Path<'_>, text: Option<&str>, place: Place) -> Option<Expr> {
    let text = text.filter(|t| !t.is_empty())?;
    if place != Place::RuleServiceAccount && text.chars().count() > MAX_CHARS {
        cx.error(path, "a selector must have no more than 1024 characters");
        return None;
    }
    let expr = match Selector::parse(text) {
        Ok(selector) => selector.into_expr(),
        Err(error) => {
            cx.error(path, format!("{} is not a selector: {error}", quoted(text)));
            return None;
        }
    };
    if place == Place::RuleNamespace && expr == Expr::Global {
        return Some(Expr::Not(Box::new(Expr::Has(namespace_name()))));
    }
    if expr.contains_global() {
        let reason = match place {
            Place::RuleNamespace => "`global()` must stand alone",
            _ => "`global()` is only allowed in the namespaceSelector of a rule",
        };
        cx.error(path, reason);
        return None;
    }
    Some(match place {
        Place::Own => expr,
        Place::PolicyNamespace | Place::RuleNamespace => {
            replace_all(expr.in_scope(Scope::Namespace), &namespace_name())
        }
        Place::GlobalPolicyServiceAccount => {
            replace_all(expr.in_scope(Scope::ServiceAccount), &service_account_name())
        }
        Place::PolicyServiceAccount | Place::RuleServiceAccount => expr.in_scope(Scope::ServiceAccount),
    })
}

/// The name of the namespace, as a label.
pub(super) fn namespace_name() -> LabelRef {
    LabelRef::new(Scope::Namespace, NAME_KEY)
}

/// The name of the service account, as a label.
pub(super) fn service_account_name() -> LabelRef {
    LabelRef::new(Scope::ServiceAccount, NAME_KEY)
}

/// "Is in the namespace `name`".
pub(super) fn in_namespace(name: &Name) -> Expr {
    Expr::Eq(namespace_name(), name.clone())
}

/// All of `parts`; `None` when there is no part.
pub(super) fn all_of(parts: impl IntoIterator<Item = Option<Expr>>) -> Option<Expr> {
    let mut parts: Vec<Expr> = parts.into_iter().flatten().collect();
    if parts.len() > 1 { Some(Expr::And(parts)) } else { parts.pop() }
}

/// `expr` with every `all()` in it replaced by "the label is present".
fn replace_all(expr: Expr, label: &LabelRef) -> Expr {
    match expr {
        Expr::All => Expr::Has(label.clone()),
        Expr::Not(inner) => Expr::Not(Box::new(replace_all(*inner, label))),
        Expr::And(parts) => Expr::And(parts.into_iter().map(|p| replace_all(p, label)).collect()),
        Expr::Or(parts) => Expr::Or(parts.into_iter().map(|p| replace_all(p, label)).collect()),
        test => test,
    }
}
