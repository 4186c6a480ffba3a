//! The table in the kernel against the table that was written.

use portcullis_core::label::Name;

use crate::apply::ended::EndedFlows;
use crate::apply::netlink::Netlink;
use crate::apply::transport::ApplyError;
use crate::lower::base_names::BaseNames;
use crate::lower::state::Expected;

/// How the table in the kernel differs from the table that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Not at all.
    None,
    /// An object is missing, or has another place, other rules or elements: its name, or the table's when that is gone or
    /// asleep.
    Changed(Name),
    /// There is an object that is not ours.
    Stray(Name),
}

/// Reads the whole table: names, places of chains, every expression of every rule, shapes and elements of sets. Values of counters
/// are not compared, and of ended flows only that they are there.
pub(crate) fn compare(
    netlink: &mut Netlink,
    table: &Name,
    expected: &Expected<'_>,
    ended_flows: &EndedFlows,
) -> Result<Drift, ApplyError> {
    let found = netlink.found(table)?;
    if found.awake != *expected.families {
        return Ok(Drift::Changed(table.clone()));
    }
    for (name, wanted) in &expected.chains {
        if !netlink.is_chain(table, &found, name, *wanted)? {
            return Ok(Drift::Changed((*name).clone()));
        }
    }
    for set in &expected.sets {
        if !found.has_set(&set.set, &set.key, set.kind) || !netlink.holds(table, set)? {
            return Ok(Drift::Changed(set.set.clone()));
        }
    }
    if let Some(name) = expected.counters.iter().find(|name| !found.has_counter(name)) {
        return Ok(Drift::Changed(name.clone()));
    }
    let lasting = BaseNames::lasting();
    for ((name, key), kind) in &lasting {
        let written = ended_flows.certain(name, key, std::time::Instant::now());
        if !found.has_set(name, key, *kind) || !netlink.holds_all(table, &written)? {
            return Ok(Drift::Changed(name.clone()));
        }
    }
    let ours = |name: &Name| {
        lasting.iter().any(|((set, _), _)| set == name) || expected.sets.iter().any(|set| set.set == *name)
    };
    let stray = found.chains().find(|name| !expected.chains.contains_key(*name));
    let stray = stray.or_else(|| found.sets().find(|name| !ours(name)));
    Ok(stray.map_or(Drift::None, |name| Drift::Stray(name.clone())))
}
