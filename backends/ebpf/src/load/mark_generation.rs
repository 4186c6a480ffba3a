//! Which marks of packets can be read: classes have other numbers in the next process, and after a turn of the sides.

use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};

use crate::load::error::LoadError;
use crate::load::pins;

/// The name of pins of the map `phase`, up to a number and the parity.
const NAME: &str = "phase";

/// What a process needs to tell its marks from those of the one before.
#[derive(Clone, Debug)]
pub(crate) struct MarkGeneration {
    /// Where its `phase` is pinned when it is made.
    pub(crate) fresh: PathBuf,
    /// Where it is pinned while packets are marked by it.
    pin: PathBuf,
    /// A mark says the side that is read, plus this, modulo two.
    pub(crate) parity: u32,
}

impl MarkGeneration {
    /// The one after what the pins in `folder` say. It begins with side 0.
    pub(crate) fn next(folder: &Path) -> Result<Self, LoadError> {
        let fresh = folder.join(format!("fresh-{NAME}"));
        if fresh.exists() {
            fs::remove_file(&fresh)
                .map_err(|error| LoadError::new(format!("`{}`", fresh.display()), &error))?;
        }
        let Some((number, parity, pin)) = pins(folder)?.into_iter().max() else {
            return Ok(Self { fresh, pin: folder.join(format!("{NAME}-1-0")), parity: 0 });
        };
        let failed = |error: &(dyn core::error::Error + 'static)| {
            LoadError::new(format!("`{}`", pin.display()), error)
        };
        let map = MapData::from_pin(&pin).map_err(|error| failed(&error))?;
        let map: Array<MapData, u32> = Array::try_from(Map::Array(map)).map_err(|error| failed(&error))?;
        let side = map.get(&0, 0).map_err(|error| failed(&error))?;
        let parity = 1 ^ ((side ^ parity) & 1);
        let pin = folder.join(format!("{NAME}-{}-{parity}", number.saturating_add(1)));
        Ok(Self { fresh, pin, parity })
    }

    /// Called before the first packet is marked by it: a process that ended earlier than that does not count.
    pub(crate) fn begin(&self) -> Result<(), LoadError> {
        fs::rename(&self.fresh, &self.pin)
            .map_err(|error| LoadError::new(format!("`{}`", self.pin.display()), &error))
    }

    /// Drops the pins of earlier processes.
    pub(crate) fn keep(folder: &Path, kept: Option<&Self>) -> Result<(), LoadError> {
        for (.., pin) in pins(folder)? {
            if kept.is_none_or(|kept| kept.pin != pin) {
                fs::remove_file(&pin)
                    .map_err(|error| LoadError::new(format!("`{}`", pin.display()), &error))?;
            }
        }
        Ok(())
    }
}

/// Pins with their number and parity.
fn pins(folder: &Path) -> Result<Vec<(u64, u32, PathBuf)>, LoadError> {
    let mut pins = Vec::new();
    for (name, path) in pins::entries(folder)? {
        let mut parts = name.split('-');
        let is_ours = parts.next() == Some(NAME);
        let number = parts.next().and_then(|part| part.parse().ok());
        let parity = parts.next().and_then(|part| part.parse().ok());
        if let (true, Some(number), Some(parity)) = (is_ours, number, parity) {
            pins.push((number, parity, path));
        }
    }
    Ok(pins)
}
