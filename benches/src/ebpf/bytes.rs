//! Memory of maps, as the kernel counts it.

use std::collections::HashMap;
use std::fs;

use aya::maps::loaded_maps;

use crate::nftables::Failure;

/// Bytes of each map that this process has open, by its id (`memlock` in `/proc/self/fdinfo`).
pub(super) fn open_maps() -> Result<HashMap<u32, u64>, Failure> {
    let mut maps = HashMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // The folder itself is among them, and closed by now.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(bytes)) = (value("map_id"), value("memlock")) {
            maps.insert(u32::try_from(id)?, bytes);
        }
    }
    Ok(maps)
}

/// Bytes of maps that were not there `before`.
pub(super) fn since(before: &HashMap<u32, u64>) -> Result<u64, Failure> {
    Ok(open_maps()?.iter().filter(|(id, _)| !before.contains_key(id)).map(|(_, bytes)| bytes).sum())
}

/// The same by the name of the map, largest first.
pub(super) fn by_name(before: &HashMap<u32, u64>) -> Result<Vec<(String, u64)>, Failure> {
    let mut names = HashMap::new();
    for map in loaded_maps() {
        let map = map?;
        names.insert(map.id(), map.name_as_str().unwrap_or("?").to_owned());
    }
    let maps = open_maps()?;
    let new = maps.into_iter().filter(|(id, _)| !before.contains_key(id));
    let mut sizes: Vec<(String, u64)> =
        new.map(|(id, bytes)| (names.remove(&id).unwrap_or_else(|| "?".into()), bytes)).collect();
    sizes.sort_by_key(|(_, bytes)| core::cmp::Reverse(*bytes));
    Ok(sizes)
}

/// Megabytes of 1,000,000 bytes.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
