//! Which marks of packets can be read: classes have other numbers in the next process, and after each flip of the buffers.

use std::path::PathBuf;

use aya::maps::{Array, Map, MapData};

use crate::error::{Context as _, LoadError};
use crate::layout::RETIRED;
use crate::load::pins::Pins;

/// The name of pins of the map `active_buffer`, up to a number and the parity.
const NAME: &str = "marks-";
/// The same map before the first packet is marked by it.
const FRESH: &str = "fresh-marks";

/// What a process needs to tell its marks from those of the one before.
#[derive(Clone, Debug)]
pub(crate) struct MarkGeneration {
    pin: String,
    /// A mark says the active buffer, plus this, modulo two.
    pub(crate) parity: u32,
}

impl MarkGeneration {
    /// The one after what the pins say. It begins with buffer 0.
    pub(crate) fn next(pins: &mut Pins) -> Result<Self, LoadError> {
        pins.unpin(FRESH)?;
        let Some((number, parity, name)) = found(pins).max() else {
            return Ok(Self { pin: format!("{NAME}1-0"), parity: 0 });
        };
        let path = pins.path(&name);
        let what = format!("`{}`", path.display());
        let map = MapData::from_pin(&path).context(&what)?;
        let map: Array<MapData, u32> = Array::try_from(Map::Array(map)).context(&what)?;
        let buffer = map.get(&0, 0).context(&what)?;
        let parity = 1 ^ ((buffer ^ parity) & 1);
        Ok(Self { pin: format!("{NAME}{}-{parity}", number.saturating_add(1)), parity })
    }

    /// The name of its pin.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }

    /// Where the map is pinned when it is made.
    pub(crate) fn fresh(pins: &Pins) -> PathBuf {
        pins.path(FRESH)
    }

    /// Called before the first packet is marked by it: a process that ended earlier than that does not count.
    pub(crate) fn begin(&self, pins: &mut Pins) -> Result<(), LoadError> {
        pins.rename(FRESH, &self.pin)
    }

    /// Drops the pins of earlier processes.
    pub(crate) fn keep(pins: &mut Pins, kept: Option<&Self>) -> Result<(), LoadError> {
        let others: Vec<String> = found(pins).map(|(.., name)| name).collect();
        for name in others.iter().filter(|name| kept.is_none_or(|kept| kept.pin != **name)) {
            pins.unpin(name)?;
        }
        Ok(())
    }

    /// Has programs of earlier processes that are still attached somewhere let everything pass to those of this one, and note
    /// nothing. The kernel takes links off sockets some time after their last pin is gone; until then both programs see a packet.
    /// Whether there may be any.
    pub(crate) fn retire(pins: &Pins, kept: Option<&Self>) -> Result<bool, LoadError> {
        let mut any = false;
        for (.., name) in found(pins).filter(|(.., name)| kept.is_none_or(|kept| kept.pin != *name)) {
            let path = pins.path(&name);
            let what = format!("`{}`", path.display());
            let map = MapData::from_pin(&path).context(&what)?;
            let mut map: Array<MapData, u32> = Array::try_from(Map::Array(map)).context(&what)?;
            let buffer = map.get(&0, 0).context(&what)?;
            map.set(0, buffer | RETIRED, 0).context(&what)?;
            any = true;
        }
        Ok(any)
    }
}

/// Pins with their number and parity.
fn found(pins: &Pins) -> impl Iterator<Item = (u64, u32, String)> {
    pins.ends_of(NAME).filter_map(|end| {
        let (number, parity) = end.split_once('-')?;
        Some((number.parse().ok()?, parity.parse().ok()?, format!("{NAME}{end}")))
    })
}
