//! The program as a filter of the clsact qdisc, for kernels without TCX.
//!
//! A filter outlives the process that made it. Ours has a handle that nobody else takes, [`HANDLE`], in the first priority
//! where there is room for it. A folder in the BPF file system, where no files can be, marks what is ours:
//! `{interface}-{direction}-clsact-{priority}` the filter, `{interface}-clsact` the qdisc, when nobody had added it before.
//! A mark is made before what it marks, so that a process which is killed in between leaves nothing that the next one does
//! not find.

use aya::programs::links::Link as _;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, tc};
use nix::errno::Errno;

use crate::error::{Context as _, LoadError};
use crate::load::direction::{Direction, interface_name};
use crate::load::pins::Pins;
use crate::load::qdisc;

/// The letters `port`. The kernel gives out handles from 1 on.
const HANDLE: TcHandle = TcHandle::new(0x706f, 0x7274);
/// The first is asked first. Others may have a filter of another kind in it.
const PRIORITIES: core::ops::RangeInclusive<u16> = 1..=16;

/// The filters that one folder of pins marks.
pub(crate) struct Filters<'a>(pub(crate) &'a mut Pins);

impl Filters<'_> {
    /// Makes `program` the filter of a direction. An earlier one is replaced in place: each packet meets one of them.
    pub(crate) fn attach(
        mut self,
        program: &mut SchedClassifier,
        interface: u32,
        direction: Direction,
    ) -> Result<(), LoadError> {
        let name = interface_name(interface)?;
        let marked = self.marked(interface, direction);
        let mut refused = LoadError::plain("no priority is free");
        for priority in marked.iter().copied().chain(PRIORITIES.filter(|n| !marked.contains(n))) {
            let mark = mark(interface, direction, priority);
            self.0.mark(&mark)?;
            match self.put(program, interface, &name, direction.attach_type(), priority) {
                Ok(()) => {
                    // A process that was killed while it looked for a priority may have left others.
                    for other in marked.into_iter().filter(|other| *other != priority) {
                        self.detach(interface, direction, other)?;
                    }
                    return Ok(());
                }
                Err(error) => refused = error,
            }
            self.0.unmark(&mark)?;
        }
        self.release(interface)?;
        Err(refused)
    }

    /// Removes our filter of a direction, if there is one.
    pub(crate) fn detach_all(mut self, interface: u32, direction: Direction) -> Result<(), LoadError> {
        for priority in self.marked(interface, direction) {
            self.detach(interface, direction, priority)?;
        }
        Ok(())
    }

    /// Whether the program of this number is our filter of a direction.
    pub(crate) fn holds(self, interface: u32, direction: Direction, program: u32) -> Result<bool, LoadError> {
        let marked = self.marked(interface, direction);
        let filters = qdisc::filters(interface, direction).context("cannot list filters")?;
        Ok(filters.iter().any(|filter| {
            filter.handle == u32::from(HANDLE)
                && marked.contains(&filter.priority)
                && filter.program == Some(program)
        }))
    }

    /// The number of the program that our filter of a direction has.
    pub(crate) fn program(self, interface: u32, direction: Direction) -> Result<Option<u32>, LoadError> {
        let marked = self.marked(interface, direction);
        if marked.is_empty() {
            return Ok(None);
        }
        let filters = qdisc::filters(interface, direction).context("cannot list filters")?;
        let is_ours =
            |filter: &&qdisc::Filter| filter.handle == u32::from(HANDLE) && marked.contains(&filter.priority);
        Ok(filters.iter().find(is_ours).and_then(|filter| filter.program))
    }

    /// Removes the qdisc of an interface if we added it, unless others have a filter there.
    pub(crate) fn release(self, interface: u32) -> Result<(), LoadError> {
        let mark = qdisc_mark(interface);
        if !self.0.has(&mark) {
            return Ok(());
        }
        let what = format!("clsact of interface {interface}");
        if interface_name(interface).is_ok() && !qdisc::has_filters(interface).context(&what)? {
            match qdisc::delete(interface) {
                // Another process removed it first.
                Err(error) if is_gone(error.raw_os_error()) => {}
                other => other.context(&what)?,
            }
        }
        self.0.unmark(&mark)
    }

    /// Replaces the filter, or makes it where there is none.
    fn put(
        &mut self,
        program: &mut SchedClassifier,
        interface: u32,
        name: &str,
        kind: TcAttachType,
        priority: u16,
    ) -> Result<(), LoadError> {
        let what = "cannot attach a filter";
        let old = SchedClassifierLink::attached(name, kind, priority, HANDLE, None).context(what)?;
        let id = match program.attach_to_link(old) {
            Ok(id) => id,
            Err(_) => {
                self.add_qdisc(interface, name)?;
                let options = NlOptions { priority, handle: HANDLE, classid: None };
                let options = TcAttachOptions::Netlink(options);
                program.attach_with_options(name, kind, options).context(what)?
            }
        };
        // Dropping it would remove the filter.
        core::mem::forget(program.take_link(id).context(what)?);
        Ok(())
    }

    fn add_qdisc(&mut self, interface: u32, name: &str) -> Result<(), LoadError> {
        let mark = qdisc_mark(interface);
        let marked = self.0.has(&mark);
        self.0.mark(&mark)?;
        match tc::qdisc_add_clsact(name) {
            Ok(()) => Ok(()),
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
                if marked {
                    Ok(())
                } else {
                    self.0.unmark(&mark)
                }
            }
            Err(error) => {
                let error = LoadError::new("cannot add a clsact qdisc", error);
                if marked {
                    return Err(error);
                }
                self.0.unmark(&mark).and(Err(error))
            }
        }
    }

    fn detach(&mut self, interface: u32, direction: Direction, priority: u16) -> Result<(), LoadError> {
        let what = "cannot remove a filter";
        // Filters go with their interface.
        if let Ok(name) = interface_name(interface) {
            let link = SchedClassifierLink::attached(&name, direction.attach_type(), priority, HANDLE, None);
            match link.context(what)?.detach() {
                Err(ProgramError::NetlinkError(error)) if is_gone(error.raw_os_error()) => {}
                other => other.context(what)?,
            }
        }
        self.0.unmark(&mark(interface, direction, priority))
    }

    /// The priorities where our filter is, or may be.
    fn marked(&self, interface: u32, direction: Direction) -> Vec<u16> {
        let beginning = format!("{interface}-{}-clsact-", direction.name());
        let mut found: Vec<u16> = self.0.ends_of(&beginning).filter_map(|end| end.parse().ok()).collect();
        found.sort_unstable();
        found
    }
}

fn mark(interface: u32, direction: Direction, priority: u16) -> String {
    format!("{interface}-{}-clsact-{priority}", direction.name())
}

fn qdisc_mark(interface: u32) -> String {
    format!("{interface}-clsact")
}

/// No such filter, priority, qdisc or interface: the kernel has several numbers for that.
fn is_gone(code: Option<i32>) -> bool {
    [Errno::ENOENT, Errno::EINVAL, Errno::ENODEV].iter().any(|errno| code == Some(*errno as i32))
}
