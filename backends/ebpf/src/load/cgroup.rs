//! The program where packets are delivered to sockets of the node: links to a hierarchy of control groups (cgroup2), pinned.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::error::{Context as _, LoadError};
use crate::load::object;
use crate::load::pins::Pins;
use crate::options::{NodeBackends, Options};

/// The name of the program, and of pins of its links up to a number.
const NAME: &str = "to_node";

/// Attaches the program and pins its link, beside those of earlier processes: a packet is then delivered if
/// both let it pass. The name of the pin, if there is anything to guard.
pub(crate) fn guard(
    ebpf: &mut Ebpf,
    pins: &mut Pins,
    options: &Options,
) -> Result<Option<String>, LoadError> {
    let group = match &options.node_backends {
        _ if options.dataplane.services.is_empty() => return Ok(None),
        NodeBackends::Unguarded => return Ok(None),
        NodeBackends::Guarded => find_root(&read(Path::new("/proc/thread-self/mounts"))?)?,
        NodeBackends::GuardedAt(group) => group.clone(),
    };
    let what = format!("cannot guard sockets under `{}`", group.display());
    let found = statfs(&group).context(&what).map_err(LoadError::of_environment)?;
    if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
        let reason = format!("`{}` is not in a cgroup2 hierarchy", group.display());
        return Err(LoadError::plain(reason).of_environment());
    }
    let file = File::open(&group).context(&what)?;
    let program = object::socket_program(ebpf, NAME)?;
    // Links of control groups stand beside each other, whatever the mode; the kernel takes no flag for that.
    let id = program.attach(file, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single).context(&what)?;
    let link = FdLink::try_from(program.take_link(id).context(&what)?).context(&what)?;
    let last = pinned(pins).map(|(number, _)| number).max().unwrap_or_default();
    let pin = format!("{NAME}-{}", last.saturating_add(1));
    link.pin(pins.path(&pin)).context(&what)?;
    pins.note(pin.clone());
    Ok(Some(pin))
}

/// Whether the link of this pin is there and still attached: it stays pinned when it is detached (`BPF_LINK_DETACH`), and when its
/// control group is removed, also if another one gets its name.
pub(crate) fn is_attached(ebpf: &mut Ebpf, pins: &Pins, pin: &str) -> Result<bool, LoadError> {
    let what = "what guards sockets";
    // Held open, so that the kernel tells about it.
    let Ok(pinned) = PinnedLink::from_pin(pins.path(pin)) else { return Ok(false) };
    let link = FdLink::from(pinned);
    let id = link.info().context(what)?.id();
    let program = object::socket_program(ebpf, NAME)?.info().context(what)?.id();
    for entry in fs::read_dir("/proc/self/fdinfo").context(what)? {
        // Other threads close theirs meanwhile.
        let Ok(told) = entry.and_then(|entry| fs::read_to_string(entry.path())) else { continue };
        let number = |name: &str| {
            told.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
        };
        if number("link_id") == Some(id.into()) {
            // 0 once it is detached (`bpf_cgroup_link_show_fdinfo` in the kernel's kernel/bpf/cgroup.c).
            return Ok(number("cgroup_id").is_some_and(|group| group != 0)
                && number("prog_id") == Some(program.into()));
        }
    }
    Ok(false)
}

/// Drops the links of earlier processes. Called when no interface has a program of theirs any more.
pub(crate) fn keep(pins: &mut Pins, kept: Option<&str>) -> Result<(), LoadError> {
    let others: Vec<String> = pinned(pins).map(|(_, name)| name).collect();
    others.iter().filter(|name| Some(name.as_str()) != kept).try_for_each(|name| pins.unpin(name))
}

/// Pins of links, with their numbers.
fn pinned(pins: &Pins) -> impl Iterator<Item = (u64, String)> {
    let ends = pins.ends_of(NAME).filter_map(|end| end.strip_prefix('-'));
    ends.filter_map(|number| Some((number.parse().ok()?, format!("{NAME}-{number}"))))
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
    let reason = format!(
        "{what}, so services that lead to processes of the node cannot be guarded; mount it (mount -t cgroup2 none \
         /sys/fs/cgroup), name the folder that all these processes are under, or choose to leave them unguarded"
    );
    Err(LoadError::plain(reason).of_environment())
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
    fs::read_to_string(path).context(format!("`{}`", path.display()))
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
