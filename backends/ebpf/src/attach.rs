//! The program on interfaces: links of the kernel's TCX, pinned, so that they outlive the process.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::binding::Binding;
use crate::load_error::LoadError;
use crate::object;

/// The folder in a bpffs where links and flow tables are pinned.
#[derive(Clone, Debug)]
pub(crate) struct Pins(PathBuf);

/// Which program guards which direction of an interface.
const WORKLOAD: [(TcAttachType, &str, &str); 2] =
    [(TcAttachType::Ingress, "ingress", "from_workload"), (TcAttachType::Egress, "egress", "to_workload")];
const NETWORK: [(TcAttachType, &str, &str); 2] =
    [(TcAttachType::Ingress, "ingress", "from_network"), (TcAttachType::Egress, "egress", "to_network")];

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
        self.0.join(format!("{map}-{FLOW_LAYOUT}-{entries}"))
    }

    /// Attaches the programs for `binding` to `interface`, in place of what an earlier process attached there. At no time is
    /// there none.
    pub(crate) fn attach(&self, ebpf: &mut Ebpf, interface: u32, binding: &Binding) -> Result<(), LoadError> {
        let programs = match binding {
            Binding::Workload { .. } | Binding::WorkloadAnyAddress { .. } => WORKLOAD,
            Binding::Host { .. } | Binding::Uplink { .. } => NETWORK,
        };
        for (kind, direction, name) in programs {
            self.attach_one(object::program(ebpf, name)?, interface, kind, direction)
                .map_err(|error| error.with_hint(&format!("interface {interface}, {direction}")))?;
        }
        Ok(())
    }

    fn attach_one(
        &self,
        program: &mut SchedClassifier,
        interface: u32,
        kind: TcAttachType,
        direction: &str,
    ) -> Result<(), LoadError> {
        let pin = self.0.join(format!("{interface}-{direction}"));
        if pin.exists() && self.replace(program, &pin).is_ok() {
            return Ok(());
        }
        // No pin, or one of an interface that is gone.
        remove(&pin)?;
        let failed = |error: &(dyn core::error::Error + 'static)| LoadError::new("cannot attach", error);
        let name = nix::net::if_::if_indextoname(interface).map_err(|error| failed(&error))?;
        let name = name.to_str().map_err(|error| failed(&error))?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program.attach_with_options(name, kind, options).map_err(|error| failed(&error))?;
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
        for path in self.entries()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let interface = name.split_once('-').and_then(|(number, _)| number.parse().ok());
            if interface.is_some_and(|interface| !kept(interface)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes everything, and the folder.
    pub(crate) fn remove(&self) -> Result<(), LoadError> {
        for path in self.entries()? {
            remove(&path)?;
        }
        fs::remove_dir(&self.0).map_err(|error| LoadError::new(format!("`{}`", self.0.display()), &error))
    }

    /// Removes flow tables but these.
    pub(crate) fn keep_flows(&self, kept: &[PathBuf]) -> Result<(), LoadError> {
        for path in self.entries()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("flows_") && !kept.contains(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<PathBuf>, LoadError> {
        let failed = |error| LoadError::new(format!("`{}`", self.0.display()), &error);
        let entries = fs::read_dir(&self.0).map_err(failed)?;
        let mut entries: Vec<PathBuf> =
            entries.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>().map_err(failed)?;
        entries.sort();
        Ok(entries)
    }
}

/// Changes whenever keys or values of the flow tables do.
const FLOW_LAYOUT: u32 = 1;

fn remove(path: &Path) -> Result<(), LoadError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(LoadError::new(format!("`{}`", path.display()), &error))
        }
        _ => Ok(()),
    }
}
