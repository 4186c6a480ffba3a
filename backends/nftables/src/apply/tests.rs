//! The backend on the real kernel, in network namespaces that end with the threads that made them.

mod drift;
mod enforce;
mod faults;
#[cfg(feature = "nftables-json")]
mod json;
mod load;
mod node;
mod oracle;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a network namespace of its own. Without root it says so and does nothing.
fn in_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !portcullis_testkit::kernel_can_be_asked() {
        eprintln!(
            "SKIPPED: {} needs root, `nft` and `ip`",
            std::thread::current().name().unwrap_or("a test")
        );
        return None;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test()
    };
    match std::thread::spawn(run).join() {
        Ok(value) => Some(value),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// What `nft` prints; it must not complain.
fn nft(arguments: &[&str]) -> String {
    let output = std::process::Command::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "nft {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `nft` lists of our tables, all families.
fn tables() -> String {
    let ours = nft(&["list", "tables"]);
    let ours = ours.lines().filter_map(|line| line.strip_prefix("table ")?.strip_suffix(" portcullis"));
    ours.map(|family| nft(&["list", "table", family, "portcullis"])).collect()
}
