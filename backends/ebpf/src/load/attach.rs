//! The program on interfaces, in a way that outlives the process: as links of the kernel's TCX, pinned, or as filters of
//! the clsact qdisc.

use alloc::collections::BTreeSet;
use core::time::Duration;
use std::io::ErrorKind;
use std::time::Instant;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType};

use crate::error::{Context as _, LoadError};
use crate::load::clsact::Filters;
use crate::load::direction::{Direction, interface_name};
use crate::load::faults::{self, Place};
use crate::load::object;
use crate::load::pins::{Pins, interface_of};
use crate::options::AttachMode;

/// Which programs guard an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guard {
    /// The host's end of a workload's interface, or a closed one.
    Workload,
    /// An interface of the host.
    Network,
}

impl Guard {
    /// The program of each direction.
    pub(crate) const fn programs(self) -> [(Direction, &'static str); 2] {
        match self {
            Self::Workload => [(Direction::Ingress, "from_workload"), (Direction::Egress, "to_workload")],
            Self::Network => [(Direction::Ingress, "from_network"), (Direction::Egress, "to_network")],
        }
    }
}

/// How programs are attached when `wanted` is asked for: never [`AttachMode::Auto`].
pub(crate) fn attach_mode(wanted: AttachMode) -> AttachMode {
    match wanted {
        // A kernel without TCX refuses this query.
        AttachMode::Auto if SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok() => {
            AttachMode::Tcx
        }
        AttachMode::Auto => AttachMode::Clsact,
        other => other,
    }
}

impl Pins {
    /// Attaches the programs of `guard` to `interface`. They replace those of an earlier process, attached in either
    /// way. The interface is never without one; for a moment both may be attached, and a packet then has to pass both.
    pub(crate) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        interface: u32,
        guard: Guard,
        mode: AttachMode,
    ) -> Result<(), LoadError> {
        faults::reach(Place::Attach(interface))?;
        for (direction, name) in guard.programs() {
            self.put(object::program(ebpf, name)?, interface, direction, mode)?;
        }
        if mode == AttachMode::Clsact { Ok(()) } else { Filters(self).release(interface) }
    }

    /// Makes `program` the only one of ours in one direction.
    pub(crate) fn put(
        &mut self,
        program: &mut SchedClassifier,
        interface: u32,
        direction: Direction,
        mode: AttachMode,
    ) -> Result<(), LoadError> {
        let done = match mode {
            AttachMode::Clsact => Filters(self)
                .attach(program, interface, direction)
                .and_then(|()| self.detach_link(interface, direction)),
            _ => self
                .attach_link(program, interface, direction)
                .and_then(|()| Filters(self).detach_all(interface, direction)),
        };
        done.map_err(|error| error.with_hint(&format!("interface {interface}, {}", direction.name())))
    }

    /// The directions of `interface` where the program of `guard` is not attached, because others took it away.
    pub(crate) fn missing(
        &mut self,
        ebpf: &mut Ebpf,
        interface: u32,
        guard: Guard,
        mode: AttachMode,
    ) -> Result<Vec<Direction>, LoadError> {
        let name = interface_name(interface)?;
        let mut missing = Vec::new();
        for (direction, program) in guard.programs() {
            let program = object::program(ebpf, program)?;
            let id = program.info().context("programs")?.id();
            let is_there = match mode {
                AttachMode::Clsact => Filters(self).holds(interface, direction, id)?,
                _ => attached_links(&name, direction)?.iter().any(|program| program.id() == id),
            };
            if !is_there {
                missing.push(direction);
            }
        }
        Ok(missing)
    }

    /// The program that a pinned link has in one direction of an interface.
    pub(crate) fn linked(
        &self,
        interface: u32,
        direction: Direction,
    ) -> Result<Option<ProgramInfo>, LoadError> {
        let pin = link(interface, direction);
        if !self.has(&pin) {
            return Ok(None);
        }
        let what = "cannot read a link";
        let pinned: FdLink = PinnedLink::from_pin(self.path(&pin)).context(what)?.into();
        let id = pinned.info().context(what)?.program_id();
        let attached = attached_links(&interface_name(interface)?, direction)?;
        Ok(attached.into_iter().find(|program| program.id() == id))
    }

    fn attach_link(
        &mut self,
        program: &mut SchedClassifier,
        interface: u32,
        direction: Direction,
    ) -> Result<(), LoadError> {
        let pin = link(interface, direction);
        // A link that others detached can be updated as well, and is nowhere then.
        if self.has(&pin) && self.replace(program, &pin).is_ok() && {
            let id = program.info().context("programs")?.id();
            let attached = attached_links(&interface_name(interface)?, direction)?;
            attached.iter().any(|program| program.id() == id)
        } {
            return Ok(());
        }
        // No pin, or one of an interface that is gone.
        self.unpin(&pin)?;
        let what = "cannot attach";
        let name = interface_name(interface)?;
        let id = attach_first(program, &name, direction).context(what)?;
        let link = FdLink::try_from(program.take_link(id).context(what)?).context(what)?;
        link.pin(self.path(&pin)).context(what)?;
        self.note(pin);
        Ok(())
    }

    /// Takes a link off, and waits until it is. A packet that its program allowed and noted would pass ours as established.
    fn detach_link(&mut self, interface: u32, direction: Direction) -> Result<(), LoadError> {
        let linked = self.linked(interface, direction).ok().flatten();
        self.unpin(&link(interface, direction))?;
        let Some(linked) = linked else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        let name = interface_name(interface)?;
        while attached_links(&name, direction)?.iter().any(|program| program.id() == linked.id()) {
            if Instant::now() >= deadline {
                return Err(LoadError::plain("the kernel does not take a link off"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Puts `program` in the place of the one that a pinned link holds.
    fn replace(&self, program: &mut SchedClassifier, pin: &str) -> Result<(), LoadError> {
        let what = "cannot replace";
        let link: FdLink = PinnedLink::from_pin(self.path(pin)).context(what)?.into();
        let link = SchedClassifierLink::try_from(link).context(what)?;
        let id = program.attach_to_link(link).context(what)?;
        // The pin keeps it.
        drop(program.take_link(id).context(what)?);
        Ok(())
    }

    /// The interfaces with pins or marks.
    pub(crate) fn interfaces(&self) -> BTreeSet<u32> {
        self.names().filter_map(interface_of).collect()
    }

    /// Takes the programs off an interface, if it is still there.
    pub(crate) fn detach(&mut self, interface: u32) -> Result<(), LoadError> {
        for direction in Direction::BOTH {
            self.unpin(&link(interface, direction))?;
            Filters(self).detach_all(interface, direction)?;
        }
        Filters(self).release(interface)
    }

    /// Removes everything, and the folder.
    pub(crate) fn remove(&mut self) -> Result<(), LoadError> {
        for interface in self.interfaces() {
            self.detach(interface)?;
        }
        let rest: Vec<String> = self.names().map(str::to_owned).collect();
        for name in rest {
            self.unpin(&name)?;
        }
        self.remove_folder()
    }
}

/// Attaches `program` before others: what one of them accepts is not shown to those behind it.
///
/// The kernel takes a link off some time after its pin was removed, and refuses a second link of the same program until then;
/// so a program that comes back to an interface waits for that.
fn attach_first(
    program: &mut SchedClassifier,
    interface: &str,
    direction: Direction,
) -> Result<SchedClassifierLinkId, ProgramError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(interface, direction.attach_type(), options) {
            Err(ProgramError::SyscallError(error))
                if error.io_error.kind() == ErrorKind::AlreadyExists && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// How long a link of ours may take to go. It takes milliseconds, and longer while the kernel frees maps.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name that the link of a direction is pinned under.
fn link(interface: u32, direction: Direction) -> String {
    format!("{interface}-{}", direction.name())
}

/// The programs that TCX has there.
fn attached_links(interface: &str, direction: Direction) -> Result<Vec<ProgramInfo>, LoadError> {
    // A program may go between the question and the look at it.
    for _ in 0..RETRIES {
        match SchedClassifier::query_tcx(interface, direction.attach_type()) {
            Ok((_, programs)) => return Ok(programs),
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(LoadError::new("cannot ask what is attached", error)),
        }
    }
    Err(LoadError::plain("what is attached changes all the time"))
}

const RETRIES: usize = 8;
