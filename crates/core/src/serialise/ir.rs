//! Snapshots and deltas.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ir::{
    ClassId, DecisionEntry, DecisionId, Delta, EndpointEntry, IdentityNamespace, L4Table, L4TableId,
    L7Program, L7ProgramId, Program, ProgramId, ProjectionChange, ProjectionId, Snapshot,
};
use crate::label::Name;
use crate::model::EndpointId;
use crate::net::Cidr;

/// The [text form](crate::ir::form) in formats for people, else the binary form.
impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.text())
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

/// What is read is [verified](Snapshot::verify).
impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Snapshot;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a snapshot of the IR in its text or binary form")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Snapshot, E> {
                Snapshot::parse(text).map_err(E::custom)
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Snapshot, E> {
                Snapshot::from_bytes(bytes).map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Form)
        } else {
            deserializer.deserialize_bytes(Form)
        }
    }
}

/// The fields of a [`Delta`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Delta", deny_unknown_fields)]
struct DeltaForm {
    from: u64,
    to: u64,
    decisions: Vec<(DecisionId, Option<DecisionEntry>)>,
    l7: Vec<(L7ProgramId, Option<L7Program>)>,
    tables: Vec<(L4TableId, Option<L4Table>)>,
    projections: Vec<(ProjectionId, Option<ProjectionChange>)>,
    programs: Vec<(ProgramId, Option<Program>)>,
    addresses: Vec<(Cidr, Option<ClassId>)>,
    endpoints: Vec<(EndpointId, Option<EndpointEntry>)>,
    identities: Vec<(Name, Option<IdentityNamespace>)>,
}

impl Serialize for Delta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DeltaForm::serialize(self, serializer)
    }
}

/// Lists must be in order. What a delta says about other entries can only be checked where it leads: call
/// [`Snapshot::verify`] after [`Snapshot::apply`] on a delta that comes from elsewhere.
impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn ordered<K: Ord, V>(list: &[(K, V)]) -> bool {
            list.is_sorted_by(|(a, _), (b, _)| a < b)
        }
        let delta = DeltaForm::deserialize(deserializer)?;
        let rows = |(_, change): &(ProjectionId, Option<ProjectionChange>)| {
            change.as_ref().is_none_or(|change| ordered(&change.set))
        };
        let in_order = ordered(&delta.decisions)
            && ordered(&delta.l7)
            && ordered(&delta.tables)
            && ordered(&delta.projections)
            && delta.projections.iter().all(rows)
            && ordered(&delta.programs)
            && ordered(&delta.addresses)
            && ordered(&delta.endpoints)
            && ordered(&delta.identities);
        if !in_order {
            return Err(D::Error::custom("a list of the delta is not sorted, or has a key twice"));
        }
        Ok(delta)
    }
}
