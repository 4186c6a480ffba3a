//! Policies of other network plugins, by kind.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;

use portcullis_core::quote::quoted;

use crate::document::Document;
use crate::error::{ReadError, ReadErrorKind};
use crate::position::Position;

/// Policies of one kind that another network plugin enforces and that are not read: answers leave them out (decision
/// D30). Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignPolicies {
    /// The group of their kind; empty for the core group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// How many there are.
    pub count: u64,
    /// The file of the first one, as the caller named it.
    pub file: Arc<str>,
    /// Where the first one begins in that file.
    pub position: Position,
}

/// Counts foreign policies by group and kind.
#[derive(Debug, Default)]
pub(crate) struct ForeignCount(BTreeMap<String, ForeignPolicies>);

impl ForeignCount {
    pub(crate) fn add(&mut self, document: &Document) {
        let group = document.api_version().split_once('/').map_or("", |(group, _)| group);
        let kind = document.kind();
        let found = self.0.entry(format!("{group}/{kind}")).or_insert_with(|| ForeignPolicies {
            group: group.to_owned(),
            kind: kind.to_owned(),
            count: 0,
            file: document.shared_file(),
            position: document.position(),
        });
        found.count = found.count.saturating_add(1);
    }

    pub(crate) fn finish(self) -> Vec<ForeignPolicies> {
        self.0.into_values().collect()
    }
}

/// `file:line:column: 2 CiliumNetworkPolicy of cilium.io …`, with the place of the first one.
impl fmt::Display for ForeignPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, kind, count, .. } = self;
        let (kind, group) = (quoted(kind), quoted(if group.is_empty() { "v1" } else { group }));
        let reason = match count {
            1 => format!("1 {kind} of {group} is a policy of another network plugin, answers leave it out"),
            _ => format!(
                "{count} {kind} of {group} are policies of another network plugin, answers leave them out; the first one is here"
            ),
        };
        ReadError::new(ReadErrorKind::Meaning, reason)
            .with_file(Arc::clone(&self.file))
            .with_position(Some(self.position))
            .fmt(f)
    }
}
