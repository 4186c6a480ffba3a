//! The maps of a loaded object, by name.

use aya::Ebpf;
use aya::maps::{Map, MapError};

use crate::error::{Context as _, LoadError};

/// Takes a map of the object, as the type it is used as.
pub(crate) fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, LoadError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map =
        ebpf.take_map(name).ok_or_else(|| LoadError::plain(format!("the object has no map `{name}`")))?;
    M::try_from(map).context(format!("map `{name}`"))
}
