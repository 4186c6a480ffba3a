//! What the maps take of the kernel's memory.

use alloc::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;
use aya::maps::{Map, MapInfo};

use crate::error::{Context as _, LoadError};

/// The maps of a loaded object, by the names that it gives them.
#[derive(Clone, Debug)]
pub(crate) struct Memory(BTreeMap<String, u32>);

impl Memory {
    /// Before any map is taken out of `ebpf`.
    pub(crate) fn of(ebpf: &Ebpf) -> Result<Self, LoadError> {
        let mut ids = BTreeMap::new();
        for (name, map) in ebpf.maps() {
            let data = match map {
                Map::Array(data)
                | Map::ArrayOfMaps(data)
                | Map::HashMap(data)
                | Map::LpmTrie(data)
                | Map::LruHashMap(data)
                | Map::PerCpuArray(data)
                | Map::RingBuf(data) => data,
                _ => return Err(LoadError::plain(format!("map `{name}` is of another kind"))),
            };
            let info = data.info().context(format!("map `{name}`"))?;
            ids.insert(name.to_owned(), info.id());
        }
        Ok(Self(ids))
    }

    /// The bytes of each map, as the kernel accounts them now: `memlock` of the map's file.
    pub(crate) fn bytes(&self) -> Result<BTreeMap<String, u64>, LoadError> {
        self.0.iter().map(|(name, id)| Ok((name.clone(), bytes(*id, name)?))).collect()
    }
}

fn bytes(id: u32, name: &str) -> Result<u64, LoadError> {
    let what = format!("map `{name}`");
    let map = MapInfo::from_id(id).and_then(|info| info.fd()).context(&what)?;
    let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let text = fs::read_to_string(path).context(&what)?;
    let memlock = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    memlock.ok_or_else(|| LoadError::plain(format!("the kernel does not say how large map `{name}` is")))
}
