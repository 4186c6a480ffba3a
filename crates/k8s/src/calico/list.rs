//! Limits on lists and texts.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use portcullis_core::quote::quoted;

use crate::context::Context;
use crate::path::Path;

/// The most items that a list may have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// This many.
    Items(usize),
    /// Any number.
    None,
}

/// The items of a list that is a set: each may occur once.
///
/// Source: `x-kubernetes-list-type: set` and `maxItems` in Calico's resource definitions.
pub(super) fn set<'a>(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    items: Option<&'a [String]>,
    limit: Limit,
) -> &'a [String] {
    let items = items.unwrap_or_default();
    if let Limit::Items(limit) = limit
        && items.len() > limit
    {
        cx.error(path, format!("must have no more than {limit} items"));
    }
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        if !seen.insert(item.as_str()) {
            cx.error(&path.index(index), format!("{} is given twice", quoted(item)));
        }
    }
    items
}

/// A text of at most `limit` characters; an absent or empty one gives nothing.
pub(super) fn text<'a>(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    text: Option<&'a str>,
    limit: usize,
) -> Option<&'a str> {
    let text = text.filter(|t| !t.is_empty())?;
    if text.chars().count() > limit {
        cx.error(path, format!("must have no more than {limit} characters"));
    }
    Some(text)
}
