//! The Linux kernel as an engine: the compiled policy is loaded where no traffic meets it, and single packets are asked
//! about.
//!
//! The types are there with every set of features, so that a program can offer these engines and say why one is missing.

use core::cell::RefCell;
use core::error::Error;
use core::fmt;

#[cfg(all(target_os = "linux", feature = "nftables-oracle"))]
use portcullis_core::backend::Oracle as _;
use portcullis_core::evaluate::Evaluate;
use portcullis_core::ir::{Snapshot, View};
use portcullis_core::model::EndpointId;
use portcullis_core::packet::Packet;
use portcullis_core::verdict::{Cause, Decision, Hook, Verdict};

/// A way to ask the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelEngine {
    /// A table of netfilter in a private network namespace, and real packets through it. Needs root and the programs
    /// `nft` and `ip`.
    Nftables,
    /// The eBPF program, and test runs of it. Needs root.
    Ebpf,
}

impl KernelEngine {
    /// What it is called: `nftables` or `ebpf`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Ebpf => "ebpf",
        }
    }

    /// The feature of this crate that adds it.
    #[must_use]
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Nftables => "nftables-oracle",
            Self::Ebpf => "ebpf-oracle",
        }
    }
}

/// One view of a compiled policy, loaded into the kernel.
#[derive(Debug)]
pub struct Kernel(Oracle);

impl Kernel {
    /// Loads what `view` of `snapshot` says for all of its endpoints.
    ///
    /// # Errors
    /// The engine is not part of this build, or the machine cannot do it: no root, a program that is missing, or a
    /// kernel that refuses.
    pub fn load(engine: KernelEngine, snapshot: &Snapshot, view: View) -> Result<Self, KernelError> {
        #[cfg(not(all(target_os = "linux", any(feature = "nftables-oracle", feature = "ebpf-oracle"))))]
        let _ = (snapshot, view);
        match engine {
            #[cfg(all(target_os = "linux", feature = "nftables-oracle"))]
            KernelEngine::Nftables => portcullis_nftables::oracle::Oracle::load(snapshot.clone(), view)
                .map(|oracle| Self(Oracle::Nftables(oracle)))
                .map_err(|error| KernelError::new(engine, &error)),
            #[cfg(all(target_os = "linux", feature = "ebpf-oracle"))]
            KernelEngine::Ebpf => portcullis_ebpf::oracle::Oracle::load(snapshot.clone(), view)
                .map(|oracle| Self(Oracle::Ebpf(oracle)))
                .map_err(|error| KernelError::new(engine, &error)),
            #[cfg(not(all(target_os = "linux", feature = "nftables-oracle", feature = "ebpf-oracle")))]
            _ => Err(KernelError { engine, reason: None }),
        }
    }

    /// What the kernel does with `packet` at `hook` of `endpoint`.
    ///
    /// # Errors
    /// The packet cannot be sent, or the kernel does not route it, so that no policy was asked.
    #[cfg_attr(
        not(all(target_os = "linux", any(feature = "nftables-oracle", feature = "ebpf-oracle"))),
        expect(unused_variables, reason = "there is no kernel to ask in this build")
    )]
    pub fn ask(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Result<Decision, KernelError> {
        match self.0 {
            #[cfg(all(target_os = "linux", feature = "nftables-oracle"))]
            Oracle::Nftables(ref oracle) => oracle
                .ask(endpoint, hook, packet)
                .map_err(|error| KernelError::new(KernelEngine::Nftables, &error)),
            #[cfg(all(target_os = "linux", feature = "ebpf-oracle"))]
            Oracle::Ebpf(ref oracle) => oracle
                .ask(endpoint, hook, packet)
                .map_err(|error| KernelError::new(KernelEngine::Ebpf, &error)),
        }
    }

    /// Answers `question`, which may ask hook by hook.
    ///
    /// # Errors
    /// The first packet that had no answer; what came of the question then is not used.
    pub fn answer<T>(&self, question: impl FnOnce(&dyn Evaluate) -> T) -> Result<T, KernelError> {
        let asking = Asking { kernel: self, failed: RefCell::default() };
        let answer = question(&asking);
        match asking.failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }
}

#[derive(Debug)]
enum Oracle {
    #[cfg(all(target_os = "linux", feature = "nftables-oracle"))]
    Nftables(portcullis_nftables::oracle::Oracle),
    #[cfg(all(target_os = "linux", feature = "ebpf-oracle"))]
    Ebpf(portcullis_ebpf::oracle::Oracle),
}

/// Notes the first question that had no answer.
struct Asking<'a> {
    kernel: &'a Kernel,
    failed: RefCell<Option<KernelError>>,
}

impl Evaluate for Asking<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.kernel.ask(endpoint, hook, packet).unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            Decision::new(Verdict::Deny, Cause::NoPolicy)
        })
    }
}

/// Why the kernel cannot be asked, or has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    engine: KernelEngine,
    /// None where this build is without the engine.
    reason: Option<String>,
}

impl KernelError {
    #[cfg(all(target_os = "linux", any(feature = "nftables-oracle", feature = "ebpf-oracle")))]
    fn new(engine: KernelEngine, reason: &dyn fmt::Display) -> Self {
        Self { engine, reason: Some(reason.to_string()) }
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> KernelEngine {
        self.engine
    }

    /// Whether this build is without the engine: its feature is off, or the system is not Linux.
    #[must_use]
    pub const fn is_not_built(&self) -> bool {
        self.reason.is_none()
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine `{}`: ", self.engine.name())?;
        match &self.reason {
            None if cfg!(target_os = "linux") => {
                write!(f, "not in this build, which lacks the feature `{}`", self.engine.feature())
            }
            None => f.write_str("it needs Linux"),
            Some(reason) => f.write_str(reason),
        }
    }
}

impl Error for KernelError {}
