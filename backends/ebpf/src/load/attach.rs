//! The program on interfaces, in a way that outlives the process: as links of the kernel's TCX, pinned, or as filters of
//! the clsact qdisc.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::binding::Binding;
use crate::load::clsact::Filters;
use crate::load::error::LoadError;
use crate::load::flow_tables::{self, Earlier};
use crate::load::object;
use crate::load::pins;
use crate::options::Attachment;

/// The folder in a bpffs where links and flow tables are pinned, and filters marked.
#[derive(Clone, Debug)]
pub(crate) struct Pins(PathBuf);

/// Which packets of an interface, as the host sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    pub(crate) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// Which program guards which direction of an interface.
const WORKLOAD: [(Direction, &str); 2] =
    [(Direction::Ingress, "from_workload"), (Direction::Egress, "to_workload")];
const NETWORK: [(Direction, &str); 2] =
    [(Direction::Ingress, "from_network"), (Direction::Egress, "to_network")];

/// How programs are attached when `wanted` is asked for: never [`Attachment::Auto`].
pub(crate) fn attachment(wanted: Attachment) -> Attachment {
    match wanted {
        // The kernel is asked what is attached; one that does not know TCX does not know the question.
        Attachment::Auto if SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok() => {
            Attachment::Tcx
        }
        Attachment::Auto => Attachment::Clsact,
        other => other,
    }
}

/// The name of an interface, for calls that take no number.
pub(crate) fn interface_name(interface: u32) -> Result<String, LoadError> {
    let failed = |error: &(dyn core::error::Error + 'static)| LoadError::new("no such interface", error);
    let name = nix::net::if_::if_indextoname(interface).map_err(|error| failed(&error))?;
    let name = name.to_str().map_err(|error| failed(&error))?;
    // What nix 0.31 answers for a number that nobody has.
    if name.is_empty() {
        return Err(failed(&nix::errno::Errno::ENODEV));
    }
    Ok(name.to_owned())
}

impl Pins {
    /// Makes the folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, LoadError> {
        let failed = |error: &(dyn core::error::Error + 'static)| {
            LoadError::new(format!("`{}`", folder.display()), error)
        };
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let found = statfs(folder).map_err(|error| failed(&error))?;
        if found.filesystem_type() != BPF_FS_MAGIC {
            let reason = format!(
                "`{}` is not in a BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf",
                folder.display()
            );
            return Err(LoadError::plain(reason));
        }
        Ok(Self(folder.to_owned()))
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Where a map of flows is pinned. The name carries layout and size, because a map with others cannot be used.
    pub(crate) fn flows(&self, map: &str, entries: u32) -> PathBuf {
        self.0.join(format!("{map}-{}-{entries}", flow_tables::LAYOUT))
    }

    /// Flow tables that are pinned beside these.
    pub(crate) fn earlier_flows(&self, current: &[PathBuf]) -> Result<Vec<Earlier>, LoadError> {
        let entries = pins::entries(&self.0)?.into_iter().map(|(_, path)| path);
        Ok(entries.filter(|path| !current.contains(path)).filter_map(Earlier::at).collect())
    }

    /// Attaches the programs for `binding` to `interface`, in place of what an earlier process attached there, in whatever
    /// way. At no time is there none; for a moment there may be two, which pass what both pass.
    pub(crate) fn attach(
        &self,
        ebpf: &mut Ebpf,
        interface: u32,
        binding: &Binding,
        attachment: Attachment,
    ) -> Result<(), LoadError> {
        let programs = if binding.is_of_host() { NETWORK } else { WORKLOAD };
        for (direction, name) in programs {
            let program = object::program(ebpf, name)?;
            let filters = Filters(&self.0);
            match attachment {
                Attachment::Clsact => filters
                    .attach(program, interface, direction)
                    .and_then(|()| remove(&self.link(interface, direction))),
                _ => self
                    .attach_link(program, interface, direction)
                    .and_then(|()| filters.detach_all(interface, direction)),
            }
            .map_err(|error| error.with_hint(&format!("interface {interface}, {}", direction.name())))?;
        }
        if attachment == Attachment::Clsact { Ok(()) } else { Filters(&self.0).release(interface) }
    }

    /// Where the link of a direction is pinned.
    fn link(&self, interface: u32, direction: Direction) -> PathBuf {
        self.0.join(format!("{interface}-{}", direction.name()))
    }

    fn attach_link(
        &self,
        program: &mut SchedClassifier,
        interface: u32,
        direction: Direction,
    ) -> Result<(), LoadError> {
        let pin = self.link(interface, direction);
        if pin.exists() && self.replace(program, &pin).is_ok() {
            return Ok(());
        }
        // No pin, or one of an interface that is gone.
        remove(&pin)?;
        let failed = |error: &(dyn core::error::Error + 'static)| LoadError::new("cannot attach", error);
        let name = interface_name(interface)?;
        // Before others: what one of them accepts is not shown to those behind it.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let kind = direction.attach_type();
        let id = program.attach_with_options(&name, kind, options).map_err(|error| failed(&error))?;
        let link = program.take_link(id).map_err(|error| failed(&error))?;
        let link = FdLink::try_from(link).map_err(|error| failed(&error))?;
        link.pin(&pin).map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Puts `program` in the place of the one that a pinned link holds.
    fn replace(&self, program: &mut SchedClassifier, pin: &Path) -> Result<(), LoadError> {
        let failed = |error: &(dyn core::error::Error + 'static)| LoadError::new("cannot replace", error);
        let link: FdLink = PinnedLink::from_pin(pin).map_err(|error| failed(&error))?.into();
        let link = SchedClassifierLink::try_from(link).map_err(|error| failed(&error))?;
        let id = program.attach_to_link(link).map_err(|error| failed(&error))?;
        // The pin keeps it.
        drop(program.take_link(id).map_err(|error| failed(&error))?);
        Ok(())
    }

    /// Takes the programs off every interface that is not kept.
    pub(crate) fn detach_but(&self, kept: impl Fn(u32) -> bool) -> Result<(), LoadError> {
        for (name, _) in pins::entries(&self.0)? {
            let interface = name.split_once('-').and_then(|(number, _)| number.parse().ok());
            if let Some(interface) = interface.filter(|interface| !kept(*interface)) {
                self.detach(interface)?;
            }
        }
        Ok(())
    }

    fn detach(&self, interface: u32) -> Result<(), LoadError> {
        for direction in Direction::BOTH {
            remove(&self.link(interface, direction))?;
            Filters(&self.0).detach_all(interface, direction)?;
        }
        Filters(&self.0).release(interface)
    }

    /// Removes everything, and the folder.
    pub(crate) fn remove(&self) -> Result<(), LoadError> {
        self.detach_but(|_| false)?;
        for (_, path) in pins::entries(&self.0)? {
            remove(&path)?;
        }
        fs::remove_dir(&self.0).map_err(|error| LoadError::new(format!("`{}`", self.0.display()), &error))
    }

    /// Removes flow tables but these.
    pub(crate) fn keep_flows(&self, kept: &[PathBuf]) -> Result<(), LoadError> {
        for (name, path) in pins::entries(&self.0)? {
            if name.starts_with("flows_") && !kept.contains(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), LoadError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(LoadError::new(format!("`{}`", path.display()), &error))
        }
        _ => Ok(()),
    }
}
