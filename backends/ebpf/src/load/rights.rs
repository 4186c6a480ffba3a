//! What a process lacks when the kernel refuses it something for want of rights.

use std::fs;

/// Capabilities that this thread needs and has not, and what else may be why, for a message. `None` where all seems to be there.
///
/// Source: capabilities(7); `bpf_capable` and `perfmon_capable` of the kernel, which CAP_SYS_ADMIN stands for as well.
pub(crate) fn lacking() -> Option<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    told(
        &read("/proc/thread-self/status"),
        &read("/proc/thread-self/uid_map"),
        &read("/proc/sys/kernel/unprivileged_bpf_disabled"),
        &read("/proc/sys/kernel/osrelease"),
        &read("/proc/thread-self/limits"),
    )
}

fn told(status: &str, uid_map: &str, unprivileged: &str, release: &str, limits: &str) -> Option<String> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())?;
    let has = |bit: u32| effective >> bit & 1 == 1;
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, bit, by_admin)| !(has(*bit) || (*by_admin && has(SYS_ADMIN))))
        .map(|(name, ..)| *name)
        .collect();
    if !missing.is_empty() {
        let mut text = format!("this process lacks {}", missing.join(", "));
        if missing.contains(&BPF) && !matches!(unprivileged.trim(), "" | "0") {
            text += &format!("; kernel.unprivileged_bpf_disabled is {}", unprivileged.trim());
        }
        return Some(text);
    }
    let is_initial = uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    if !is_initial && !uid_map.trim().is_empty() {
        return Some(
            "eBPF needs these capabilities in the initial user namespace, and this process is in another"
                .into(),
        );
    }
    // From Linux 5.11 on, maps count as memory of the control group.
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let is_old =
        matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) < (5, 11));
    let is_limited = limits.lines().any(|line| {
        line.strip_prefix("Max locked memory").is_some_and(|limits| !limits.trim().starts_with("unlimited"))
    });
    (is_old && is_limited)
        .then(|| "the limit of locked memory (ulimit -l, RLIMIT_MEMLOCK) is too small".into())
}

const BPF: &str = "CAP_BPF";
/// With the number of each, and whether CAP_SYS_ADMIN stands for it.
const NEEDED: [(&str, u32, bool); 3] =
    [(BPF, 39, true), ("CAP_NET_ADMIN", 12, false), ("CAP_PERFMON", 38, true)];
const SYS_ADMIN: u32 = 21;

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_is_missing_is_named() {
        let initial = "         0          0 4294967295\n";
        let limit = "Max locked memory         65536                65536                bytes\n";
        let with = |bits: u64| format!("Name:\tx\nCapInh:\t0\nCapEff:\t{bits:016x}\n");
        let all = (1 << 39) | (1 << 12) | (1 << 38);
        for (bits, map, release, said) in [
            (
                0,
                initial,
                "6.1.0",
                Some(
                    "this process lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON; kernel.unprivileged_bpf_disabled is 2",
                ),
            ),
            (
                1 << 12,
                initial,
                "6.1.0",
                Some("this process lacks CAP_BPF, CAP_PERFMON; kernel.unprivileged_bpf_disabled is 2"),
            ),
            (1 << 21, initial, "6.1.0", Some("this process lacks CAP_NET_ADMIN")),
            (all & !(1 << 38), initial, "6.1.0", Some("this process lacks CAP_PERFMON")),
            (
                all,
                "0 1000 1",
                "6.1.0",
                Some(
                    "eBPF needs these capabilities in the initial user namespace, and this process is in another",
                ),
            ),
            (all, initial, "6.1.0-13-amd64", None),
            (
                all,
                initial,
                "5.10.0-8",
                Some("the limit of locked memory (ulimit -l, RLIMIT_MEMLOCK) is too small"),
            ),
        ] {
            assert_eq!(told(&with(bits), map, "2\n", release, limit).as_deref(), said);
        }
        assert_eq!(told("", initial, "2\n", "6.1", limit), None);
    }
}
