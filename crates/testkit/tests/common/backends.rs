//! The dataplanes that scenarios run on: every backend of the registry.

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use portcullis::backend::{
    Applied, Binding, Bindings, Dataplane, DataplaneOptions, DesiredState, Event, Interface,
};
use portcullis::backends::Backend;
use portcullis::compile::Compiler;
use portcullis::ebpf::{self, AttachMode, Capacity, NodeBackends};
use portcullis::model::EndpointId;
use portcullis_testkit::{kernel_can_be_asked, wanted_backends};

use crate::CANNOT;
use crate::node::{Pod, node};
use crate::wide::{Site, site};

/// A backend, and what it needs to know in a test besides what every dataplane takes.
#[derive(Clone, Debug)]
pub(crate) struct UnderTest {
    pub(crate) backend: &'static Backend,
    /// How eBPF gets onto interfaces.
    pub(crate) attach_mode: AttachMode,
    /// How many flows of each family have room, where that is an option.
    flows: Option<u32>,
    /// The control group that holds the processes of the test's node.
    group: Option<PathBuf>,
}

impl fmt::Display for UnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attach_mode {
            AttachMode::Auto => f.write_str(self.backend.name()),
            mode => write!(f, "{} with {mode:?}", self.backend.name()),
        }
    }
}

/// Which variants of a backend a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variants {
    /// Each backend once.
    Default,
    /// Every way in which it gets onto interfaces.
    AttachModes,
}

impl UnderTest {
    pub(crate) const fn new(backend: &'static Backend, attach_mode: AttachMode) -> Self {
        Self { backend, attach_mode, flows: None, group: None }
    }

    fn all(variants: Variants) -> Vec<Self> {
        let modes = |backend: &'static Backend| -> &[AttachMode] {
            match (variants, backend.name()) {
                (Variants::AttachModes, "ebpf") => &[AttachMode::Tcx, AttachMode::Clsact],
                _ => &[AttachMode::Auto],
            }
        };
        let backends = wanted_backends().into_iter();
        backends.flat_map(|backend| modes(backend).iter().map(|mode| Self::new(backend, *mode))).collect()
    }

    /// The same for the node of `site`.
    pub(crate) fn at(&self, site: &Site) -> Self {
        Self { group: Some(site.group.folder.clone()), ..self.clone() }
    }

    /// The same with room for so many flows of each family.
    pub(crate) fn with_flows(mut self, flows: u32) -> Self {
        self.flows = Some(flows);
        self
    }

    /// The dataplane of a new process. Changes nothing yet.
    pub(crate) fn open(&self, options: DataplaneOptions) -> Box<dyn Dataplane> {
        match self.backend.name() {
            "ebpf" => Box::new(ebpf::Enforcer::open(self.ebpf(options)).unwrap()),
            _ => self.backend.open(options).unwrap(),
        }
    }

    /// Room for a test, and no packets of other tests' nodes.
    pub(crate) fn ebpf(&self, options: DataplaneOptions) -> ebpf::Options {
        let default = Capacity::default();
        let [flows_v4, flows_v6] =
            [default.flows_v4, default.flows_v6].map(|flows| self.flows.unwrap_or(flows));
        let capacity = Capacity { addresses_v4: 1_024, addresses_v6: 1_024, flows_v4, flows_v6, ..default };
        let group = self.group.clone();
        ebpf::Options::from(options)
            .with_capacity(capacity)
            .with_attach_mode(self.attach_mode)
            .with_node_backends(group.map_or(NodeBackends::Unguarded, NodeBackends::GuardedAt))
    }

    /// Opens a dataplane and brings this in force, all of it.
    pub(crate) fn load(
        &self,
        options: DataplaneOptions,
        compiler: &Compiler,
        bindings: &Bindings,
    ) -> Box<dyn Dataplane> {
        let mut dataplane = self.open(options);
        complete(&dataplane.load(DesiredState::new(compiler.snapshot(), bindings)).unwrap());
        dataplane
    }
}

/// The next event, which may take a moment.
pub(crate) fn next_event(dataplane: &mut dyn Dataplane) -> Event {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        if let Some(event) = dataplane.next_event().unwrap() {
            return event;
        }
        assert!(Instant::now() < end, "no event came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Nothing was left out.
pub(crate) fn complete(applied: &Applied) {
    assert!(applied.is_complete(), "{applied:?}");
}

/// The options of a node that rewrites destinations.
pub(crate) fn with_services() -> DataplaneOptions {
    let options = DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
    options.with_services("fd00:96::/112".parse().unwrap())
}

/// The interface of this name as it is now.
pub(crate) fn interface(name: &str) -> Interface {
    Interface::new(name).unwrap().with_index(nix::net::if_::if_nametoindex(name).unwrap())
}

/// The pods with their addresses.
pub(crate) fn bind(pods: &[Pod], ids: &[EndpointId]) -> Bindings {
    let bind = |(pod, id): (&Pod, &EndpointId)| {
        (id.clone(), Binding::workload(interface(&pod.interface), pod.addresses))
    };
    pods.iter().zip(ids).map(bind).collect()
}

/// Runs `scenario` for each backend in a thread that becomes a node with so many pods.
pub(crate) fn on_every_node(
    pods: usize,
    variants: Variants,
    scenario: impl Fn(&UnderTest, &[Pod]) + Clone + Send + 'static,
) {
    on_every(variants, move |under| {
        let pods = node(pods);
        scenario(under, &pods);
    });
}

/// The same on a node with an uplink, and hosts behind that.
pub(crate) fn on_every_site(pods: usize, scenario: impl Fn(&UnderTest, &Site) + Clone + Send + 'static) {
    on_every(Variants::Default, move |under| {
        let site = site(pods);
        scenario(&under.at(&site), &site);
    });
}

/// Why `backend` does not run the scenario of this thread, which is told and counted.
fn cannot(backend: &str) -> bool {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let found = CANNOT.iter().find(|(of, scenario, _)| *of == backend && *scenario == name);
    if let Some((_, _, reason)) = found {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        // Past the harness, which keeps what passing tests print.
        let line = format!("NOT ON {backend} ({count} of {}): {name}: {reason}\n", CANNOT.len());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    found.is_some()
}

/// Runs `scenario` for each backend in a thread, which is to become a node.
pub(crate) fn on_every(variants: Variants, scenario: impl Fn(&UnderTest) + Clone + Send + 'static) {
    if !kernel_can_be_asked() {
        return;
    }
    for under in UnderTest::all(variants).into_iter().filter(|under| !cannot(under.backend.name())) {
        eprintln!("{}: {under}", std::thread::current().name().unwrap_or_default());
        let scenario = scenario.clone();
        in_namespaces(move || scenario(&under));
    }
}

/// Runs `test` in a thread with a table of mounts and a BPF file system of its own, which go with it.
pub(crate) fn in_namespaces(test: impl FnOnce() + Send + 'static) {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).unwrap();
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}
