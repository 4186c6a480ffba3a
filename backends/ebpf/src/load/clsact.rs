//! The program as a filter of the clsact qdisc, for kernels without TCX.
//!
//! A filter outlives the process that made it. Ours has a handle that nobody else takes, [`HANDLE`], in the first priority
//! where there is room for it. A folder in the BPF file system, where no files can be, marks what is ours:
//! `{interface}-{direction}-clsact-{priority}` the filter, `{interface}-clsact` the qdisc, when nobody had added it before.
//! A mark is made before what it marks, so that a process which is killed in between leaves nothing that the next one does
//! not find.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::programs::links::Link as _;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, tc};
use nix::errno::Errno;

use crate::load::attach::{Direction, interface_name};
use crate::load::error::LoadError;
use crate::load::pins;
use crate::load::qdisc;

/// The letters `port`. The kernel gives out handles from 1 on.
const HANDLE: TcHandle = TcHandle::new(0x706f, 0x7274);
/// The first is asked first. Others may have a filter of another kind in it.
const PRIORITIES: core::ops::RangeInclusive<u16> = 1..=16;

/// The filters in one folder of pins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filters<'a>(pub(crate) &'a Path);

impl Filters<'_> {
    /// Makes `program` the filter of a direction. An earlier one is replaced in place: each packet meets one of them.
    pub(crate) fn attach(
        self,
        program: &mut SchedClassifier,
        interface: u32,
        direction: Direction,
    ) -> Result<(), LoadError> {
        let name = interface_name(interface)?;
        let marked = self.marked(interface, direction)?;
        let mut refused = LoadError::plain("no priority is free");
        for priority in marked.iter().copied().chain(PRIORITIES.filter(|n| !marked.contains(n))) {
            let mark = self.mark(interface, direction, priority);
            make(&mark)?;
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
            unmake(&mark)?;
        }
        self.release(interface)?;
        Err(refused)
    }

    /// Removes our filter of a direction, if there is one.
    pub(crate) fn detach_all(self, interface: u32, direction: Direction) -> Result<(), LoadError> {
        for priority in self.marked(interface, direction)? {
            self.detach(interface, direction, priority)?;
        }
        Ok(())
    }

    /// Removes the qdisc of an interface if we added it, unless somebody has a filter there.
    pub(crate) fn release(self, interface: u32) -> Result<(), LoadError> {
        let mark = self.qdisc_mark(interface);
        if !mark.exists() {
            return Ok(());
        }
        let failed =
            |error: std::io::Error| LoadError::new(format!("clsact of interface {interface}"), &error);
        if interface_name(interface).is_ok() && !qdisc::has_filters(interface).map_err(failed)? {
            match qdisc::delete(interface) {
                // Somebody was faster.
                Err(error) if is_gone(error.raw_os_error()) => {}
                other => other.map_err(failed)?,
            }
        }
        unmake(&mark)
    }

    /// Replaces the filter, or makes it where there is none.
    fn put(
        self,
        program: &mut SchedClassifier,
        interface: u32,
        name: &str,
        kind: TcAttachType,
        priority: u16,
    ) -> Result<(), LoadError> {
        let failed =
            |error: &(dyn core::error::Error + 'static)| LoadError::new("cannot attach a filter", error);
        let old = SchedClassifierLink::attached(name, kind, priority, HANDLE, None);
        let replaced = program.attach_to_link(old.map_err(|error| failed(&error))?);
        let id = match replaced {
            Ok(id) => id,
            Err(_) => {
                self.add_qdisc(interface, name)?;
                let options = NlOptions { priority, handle: HANDLE, classid: None };
                let options = TcAttachOptions::Netlink(options);
                program.attach_with_options(name, kind, options).map_err(|error| failed(&error))?
            }
        };
        // Dropping it would remove the filter.
        core::mem::forget(program.take_link(id).map_err(|error| failed(&error))?);
        Ok(())
    }

    fn add_qdisc(self, interface: u32, name: &str) -> Result<(), LoadError> {
        let mark = self.qdisc_mark(interface);
        let marked = mark.exists();
        make(&mark)?;
        match tc::qdisc_add_clsact(name) {
            Ok(()) => Ok(()),
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
                if marked {
                    Ok(())
                } else {
                    unmake(&mark)
                }
            }
            Err(error) => {
                let error = LoadError::new("cannot add a clsact qdisc", &error);
                if marked {
                    return Err(error);
                }
                unmake(&mark).and(Err(error))
            }
        }
    }

    fn detach(self, interface: u32, direction: Direction, priority: u16) -> Result<(), LoadError> {
        let failed =
            |error: &(dyn core::error::Error + 'static)| LoadError::new("cannot remove a filter", error);
        // Filters go with their interface.
        if let Ok(name) = interface_name(interface) {
            let link = SchedClassifierLink::attached(&name, direction.attach_type(), priority, HANDLE, None);
            match link.map_err(|error| failed(&error))?.detach() {
                Err(ProgramError::NetlinkError(error)) if is_gone(error.raw_os_error()) => {}
                other => other.map_err(|error| failed(&error))?,
            }
        }
        unmake(&self.mark(interface, direction, priority))
    }

    /// The priorities where our filter is, or may be.
    fn marked(self, interface: u32, direction: Direction) -> Result<Vec<u16>, LoadError> {
        let prefix = format!("{interface}-{}-clsact-", direction.name());
        let entries = pins::entries(self.0)?;
        let numbers = entries.iter().filter_map(|(name, _)| name.strip_prefix(&prefix)?.parse().ok());
        let mut found: Vec<u16> = numbers.collect();
        found.sort_unstable();
        Ok(found)
    }

    fn mark(self, interface: u32, direction: Direction, priority: u16) -> PathBuf {
        self.0.join(format!("{interface}-{}-clsact-{priority}", direction.name()))
    }

    fn qdisc_mark(self, interface: u32) -> PathBuf {
        self.0.join(format!("{interface}-clsact"))
    }
}

/// No such filter, priority, qdisc or interface: the kernel has several numbers for that.
fn is_gone(code: Option<i32>) -> bool {
    [Errno::ENOENT, Errno::EINVAL, Errno::ENODEV].iter().any(|errno| code == Some(*errno as i32))
}

fn make(mark: &Path) -> Result<(), LoadError> {
    match fs::create_dir(mark) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(LoadError::new(format!("`{}`", mark.display()), &error))
        }
        _ => Ok(()),
    }
}

fn unmake(mark: &Path) -> Result<(), LoadError> {
    match fs::remove_dir(mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(LoadError::new(format!("`{}`", mark.display()), &error))
        }
        _ => Ok(()),
    }
}
