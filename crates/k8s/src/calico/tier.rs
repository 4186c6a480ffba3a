//! Tiers.

use alloc::format;

use portcullis_core::model::{DefaultAction, Order, Tier};
use portcullis_core::quote::quoted;

use crate::calico::policy;
use crate::calico::spec::TierSpec;
use crate::context::Context;
use crate::path::Path;
use crate::tier;
use crate::validate;

/// Converts a tier.
///
/// A tier without an order gets 1,000,000, as Calico's client writes it (decision D1). The built-in tiers must be
/// given with the order and action they have. Sources: Calico `libcalico-go/lib/resources/tier.go` and the rules in
/// the resource definition of tiers.
pub(super) fn convert(cx: &mut Context<'_>, name: &str, spec: &TierSpec) -> Option<Tier> {
    let path = Path::root("spec");
    // Empty: it was refused before.
    if let Err(reason) = validate::dns_label(name)
        && !name.is_empty()
    {
        cx.error(&Path::root("metadata").field("name"), format!("{} {reason}", quoted(name)));
    }
    let order_path = path.field("order");
    let order = policy::order(cx, &order_path, spec.order);
    let action_path = path.field("defaultAction");
    let default_action = match spec.default_action.as_deref() {
        None | Some("Deny") => DefaultAction::Deny,
        Some("Pass") => DefaultAction::Pass,
        Some(other) => {
            cx.error(&action_path, format!("{} is not a default action: Deny or Pass", quoted(other)));
            return None;
        }
    };
    if let Some(forced) = tier::built_in().into_iter().find(|tier| tier.name == name) {
        if order != forced.order {
            let order = forced.order.map_or(0.0, Order::value);
            cx.error(&order_path, format!("must be {order} in the built-in tier `{name}`"));
        }
        if default_action != forced.default_action {
            let action = match forced.default_action {
                DefaultAction::Deny => "Deny",
                DefaultAction::Pass => "Pass",
            };
            cx.error(&action_path, format!("must be {action} in the built-in tier `{name}`"));
        }
    }
    Some(Tier { name: cx.name(name), order: Some(order.unwrap_or(Order::from(UNORDERED))), default_action })
}

/// The order of a tier that gives none.
const UNORDERED: u32 = 1_000_000;
