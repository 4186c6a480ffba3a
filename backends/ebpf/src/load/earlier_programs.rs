//! The programs of an earlier process, held so that a load which fails can put them back.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;

use aya::programs::{SchedClassifier, loaded_programs};

use crate::error::{Context as _, LoadError};
use crate::load::clsact::Filters;
use crate::load::direction::Direction;
use crate::load::pins::Pins;
use crate::options::AttachMode;

/// What was attached to interfaces before a load replaced it. Programs go when nobody holds them, so they are held here.
#[derive(Debug, Default)]
pub(crate) struct EarlierPrograms {
    programs: BTreeMap<u32, SchedClassifier>,
    on: BTreeMap<u32, Vec<(Direction, AttachMode, u32)>>,
}

impl EarlierPrograms {
    /// Notes what `interface` has. What cannot be read is as if it were not there: it enforces nothing that could be put back.
    pub(crate) fn hold(&mut self, pins: &mut Pins, interface: u32) {
        let mut found = Vec::new();
        for direction in Direction::BOTH {
            if let Ok(Some(info)) = pins.linked(interface, direction) {
                let id = info.id();
                let program = SchedClassifier::from_program_info(info, Cow::Borrowed("earlier"));
                found.extend(self.keep(id, program.ok()).map(|id| (direction, AttachMode::Tcx, id)));
            }
            if let Ok(Some(id)) = Filters(pins).program(interface, direction) {
                let program = if self.programs.contains_key(&id) { None } else { program_of(id) };
                found.extend(self.keep(id, program).map(|id| (direction, AttachMode::Clsact, id)));
            }
        }
        self.on.entry(interface).or_insert(found);
    }

    fn keep(&mut self, id: u32, program: Option<SchedClassifier>) -> Option<u32> {
        if let Some(program) = program {
            self.programs.entry(id).or_insert(program);
        }
        self.programs.contains_key(&id).then_some(id)
    }

    /// Gives `interface` back what it had when it was noted; where that was nothing, nothing.
    pub(crate) fn put_back(&mut self, pins: &mut Pins, interface: u32) -> Result<(), LoadError> {
        let had = self.on.get(&interface).map(Vec::as_slice).unwrap_or_default();
        if had.is_empty() {
            return pins.detach(interface);
        }
        let has_filters = had.iter().any(|(_, mode, _)| *mode == AttachMode::Clsact);
        for (direction, mode, id) in had {
            let program = self.programs.get_mut(id).ok_or_else(|| LoadError::plain("a program is gone"))?;
            pins.put(program, interface, *direction, *mode)?;
        }
        if has_filters { Ok(()) } else { Filters(pins).release(interface) }
    }
}

fn program_of(id: u32) -> Option<SchedClassifier> {
    let info = loaded_programs().filter_map(Result::ok).find(|info| info.id() == id)?;
    SchedClassifier::from_program_info(info, Cow::Borrowed("earlier")).context("programs").ok()
}
