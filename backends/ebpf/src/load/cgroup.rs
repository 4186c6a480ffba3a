//! The program where packets are delivered to sockets of the node: links to a hierarchy of control groups (cgroup2), pinned.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::load::error::LoadError;
use crate::load::object;
use crate::load::pins;
use crate::options::{NodeBackends, Options};

/// The name of the program, and of pins of its links up to a number.
const NAME: &str = "to_node";

/// Attaches the program and pins its link in `folder`, beside those of earlier processes: a packet is then delivered if
/// both let it pass. The pin, if there is anything to guard.
pub(crate) fn guard(ebpf: &mut Ebpf, folder: &Path, options: &Options) -> Result<Option<PathBuf>, LoadError> {
    let group = match &options.node_backends {
        _ if options.services.is_empty() => return Ok(None),
        NodeBackends::Unguarded => return Ok(None),
        NodeBackends::Guarded => find_root(&read(Path::new("/proc/thread-self/mounts"))?)?,
        NodeBackends::GuardedAt(group) => group.clone(),
    };
    let failed = |error: &(dyn core::error::Error + 'static)| {
        LoadError::new(format!("cannot guard sockets under `{}`", group.display()), error)
    };
    let found = statfs(&group).map_err(|error| failed(&error))?;
    if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(LoadError::plain(format!("`{}` is not in a cgroup2 hierarchy", group.display())));
    }
    let file = File::open(&group).map_err(|error| failed(&error))?;
    let program = object::socket_program(ebpf, NAME)?;
    // Links of control groups stand beside each other, whatever the mode; the kernel takes no flag for that.
    let id = program
        .attach(file, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single)
        .map_err(|error| failed(&error))?;
    let link = FdLink::try_from(program.take_link(id).map_err(|error| failed(&error))?)
        .map_err(|error| failed(&error))?;
    let last = pins(folder)?.into_iter().map(|(number, _)| number).max().unwrap_or_default();
    let pin = folder.join(format!("{NAME}-{}", last.saturating_add(1)));
    link.pin(&pin).map_err(|error| failed(&error))?;
    Ok(Some(pin))
}

/// Drops the links of earlier processes. Called when no interface has a program of theirs any more.
pub(crate) fn keep(folder: &Path, kept: Option<&Path>) -> Result<(), LoadError> {
    for (_, pin) in pins(folder)? {
        if Some(pin.as_path()) != kept {
            fs::remove_file(&pin).map_err(|error| LoadError::new(format!("`{}`", pin.display()), &error))?;
        }
    }
    Ok(())
}

/// Pins of links, with their numbers.
fn pins(folder: &Path) -> Result<Vec<(u64, PathBuf)>, LoadError> {
    let number = |name: &str| name.strip_prefix(NAME)?.strip_prefix('-')?.parse().ok();
    let entries = pins::entries(folder)?.into_iter();
    Ok(entries.filter_map(|(name, path)| Some((number(&name)?, path))).collect())
}

/// The root of the hierarchy. A control group that only looks like the root, because the process has a namespace of its
/// own, would leave out the node's other processes.
fn find_root(mounts: &str) -> Result<PathBuf, LoadError> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(unescaped(folder)))
    });
    let mut inner = None;
    for folder in mounted {
        // Only the root has none.
        if !folder.join("cgroup.type").exists() {
            return Ok(folder);
        }
        inner = Some(folder);
    }
    let what = match inner {
        Some(folder) => format!("`{}` is a part of the cgroup2 hierarchy only", folder.display()),
        None => "no cgroup2 hierarchy is mounted".to_owned(),
    };
    Err(LoadError::plain(format!(
        "{what}, so services that lead to processes of the node cannot be guarded; mount it (mount -t cgroup2 none \
         /sys/fs/cgroup), name the folder that all these processes are under, or choose to leave them unguarded"
    )))
}

/// The mount table writes blanks as `\040`, for example.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                text.push(char::from(code));
                text.push_str(rest);
            }
            _ => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

fn read(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|error| LoadError::new(format!("`{}`", path.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_among_mounts() {
        let folder = std::env::temp_dir().join(format!("portcullis groups {}", std::process::id()));
        let inner = folder.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("cgroup.type"), "domain\n").unwrap();
        let line = |kind: &str, path: &Path| {
            format!("{kind} {} {kind} rw 0 0\n", path.display().to_string().replace(' ', "\\040"))
        };
        let found = |mounts: String| find_root(&mounts).map_err(|error| error.to_string());
        let others = line("cgroup", &folder);
        assert_eq!(
            found(others.clone() + &line("cgroup2", &inner) + &line("cgroup2", &folder)),
            Ok(folder.clone())
        );
        let part = found(others.clone() + &line("cgroup2", &inner)).unwrap_err();
        assert!(part.contains("inner` is a part of the cgroup2 hierarchy only, so services"), "{part}");
        let none = found(others).unwrap_err();
        assert!(none.starts_with("no cgroup2 hierarchy is mounted, so services"), "{none}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
