//! The node that this process enforces policy on: compiler, bindings and dataplane kept together.

mod closed;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use portcullis_core::backend::{
    Applied, Binding, BindingError, Bindings, Dataplane, DataplaneError, DataplaneErrorKind, DesiredState,
    Health, Interface, LowerError, NewlyDenied, NodeInterfaces,
};
use portcullis_core::compile::{CompileScope, Compiler, UpdateError};
use portcullis_core::ir::{BeforeImages, Delta, DeltaError, Previous, Snapshot};
use portcullis_core::model::{Cluster, EndpointId, PolicyId, Update};
use portcullis_core::settings::WorkloadToHost;

use closed::Closed;
pub use closed::ClosedPolicy;

/// Policy on this node: what objects, endpoints and interfaces are to mean, and the dataplane that enforces it.
///
/// One call, [`LocalNode::change`], does everything that a change needs: it checks and applies updates, commits them,
/// brings the result in force, and ends the flows that it newly denies where [that is chosen](LocalNode::ending_newly_denied).
/// After an error of the dataplane, the next change brings everything in force that is missing, and ends the flows that
/// were allowed by the policy before the error and are denied now.
///
/// A policy that does not fit the limits of the dataplane, or those of the [compiler](Compiler::with_limits), is closed: it denies everything to its own subjects until it fits,
/// and everybody else is served. [`Changed::closed`] tells it, and [`LocalNode::closed_policies`].
///
/// When not to use it: to analyse policy without enforcing it; a [`Compiler`] does.
pub struct LocalNode {
    compiler: Compiler,
    bindings: Bindings,
    dataplane: Box<dyn Dataplane>,
    /// How to look up the node's interfaces, where newly denied flows are to be ended.
    interfaces: Option<Box<LookUp>>,
    stage: Stage,
    closed: Closed,
    /// Policies that came or changed since the state that is in force.
    changed: BTreeSet<PolicyId>,
}

type LookUp = dyn FnMut() -> Result<NodeInterfaces, DataplaneError> + Send;

/// How far the dataplane has followed.
enum Stage {
    /// No change was asked for yet. What an earlier process left is not touched.
    New,
    /// A change was asked for, and the load failed.
    NotLoaded,
    /// The last commit is in force, and no flow is left that should have been ended.
    Current,
    /// The last commit is not in force, or flows are left. The images lead back to the last state that was.
    Behind(Box<BeforeImages>),
}

impl fmt::Debug for LocalNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNode")
            .field("dataplane", &self.dataplane.name())
            .field("generation", &self.snapshot().generation)
            .field("is_current", &self.is_current())
            .field("ends_newly_denied", &self.interfaces.is_some())
            .finish_non_exhaustive()
    }
}

/// What is changed at once. See [`LocalNode::change`].
#[derive(Debug, Default)]
pub struct Change {
    updates: Vec<Update>,
    edits: Vec<Edit>,
}

#[derive(Debug)]
enum Edit {
    Bind(EndpointId, Binding),
    Unbind(EndpointId),
    Close(Interface),
    Reopen(String),
    Uplink(Interface),
    RemoveUplink(String),
}

impl Change {
    /// An object that came, changed or went.
    pub fn apply(&mut self, update: Update) {
        self.updates.push(update);
    }

    /// As [`Bindings::bind`].
    pub fn bind(&mut self, id: EndpointId, binding: Binding) {
        self.edits.push(Edit::Bind(id, binding));
    }

    /// As [`Bindings::unbind`].
    pub fn unbind(&mut self, id: EndpointId) {
        self.edits.push(Edit::Unbind(id));
    }

    /// As [`Bindings::close`].
    pub fn close(&mut self, interface: Interface) {
        self.edits.push(Edit::Close(interface));
    }

    /// As [`Bindings::reopen`].
    pub fn reopen(&mut self, name: &str) {
        self.edits.push(Edit::Reopen(name.into()));
    }

    /// As [`Bindings::uplink`].
    pub fn uplink(&mut self, interface: Interface) {
        self.edits.push(Edit::Uplink(interface));
    }

    /// As [`Bindings::remove_uplink`].
    pub fn remove_uplink(&mut self, name: &str) {
        self.edits.push(Edit::RemoveUplink(name.into()));
    }
}

impl Edit {
    fn make(self, bindings: &mut Bindings) {
        match self {
            Self::Bind(id, binding) => bindings.bind(id, binding),
            Self::Unbind(id) => drop(bindings.unbind(&id)),
            Self::Close(interface) => bindings.close(interface),
            Self::Reopen(name) => {
                bindings.reopen(&name);
            }
            Self::Uplink(interface) => bindings.uplink(interface),
            Self::RemoveUplink(name) => {
                bindings.remove_uplink(&name);
            }
        }
    }
}

/// What a change did. The whole desired state is in force, but for the endpoints that [`Changed::applied`] names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "endpoints that were not reached are only told here"]
pub struct Changed {
    /// What is in force.
    pub applied: Applied,
    /// How many entries of flow tables were ended.
    pub ended_flows: usize,
    /// Policies that do not fit and are closed since this change.
    pub closed: Vec<ClosedPolicy>,
    /// Policies that were closed and fit now: they are in force as they were written.
    pub reopened: Vec<PolicyId>,
}

/// Why a change was not carried out, or not as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// An update has no meaning. Nothing was changed at all.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The bindings would contradict each other. Nothing was changed at all.
    #[error(transparent)]
    Bindings(#[from] BindingError),
    /// The change is noted and not in force; the policy before is. The next change brings both in force.
    #[error("policy is not in force: {0}")]
    Dataplane(#[source] DataplaneError),
    /// The change is in force, and flows may be left that it newly denies. The next change ends them.
    #[error("flows that policy denies now may go on: {source}")]
    Flows {
        /// What is in force.
        applied: Applied,
        /// Why flows could not be ended.
        source: DataplaneError,
    },
}

/// The dataplane does something else with traffic from a workload to its own host than the compiler's settings say, so
/// that what is evaluated would not be what is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the dataplane has `{}` for traffic from workloads to their host, the settings say otherwise", word(*.dataplane))]
pub struct SettingsDiffer {
    dataplane: WorkloadToHost,
}

impl SettingsDiffer {
    /// What the dataplane does.
    #[must_use]
    pub const fn dataplane(&self) -> WorkloadToHost {
        self.dataplane
    }
}

const fn word(action: WorkloadToHost) -> &'static str {
    match action {
        WorkloadToHost::Accept => "accept",
        WorkloadToHost::Drop => "drop",
        WorkloadToHost::HostPolicy => "host-policy",
    }
}

impl LocalNode {
    /// A node with the objects of `compiler` and no endpoints. Nothing is enforced before the first
    /// [change](LocalNode::change), and what an earlier process left in force stays until then.
    ///
    /// # Errors
    /// When the dataplane's [`workload_to_host`](portcullis_core::backend::DataplaneOptions::workload_to_host) is not
    /// that of this node in the [settings](Compiler::settings) of `compiler`; with
    /// [`CompileScope::All`], when it is that of no node.
    pub fn new(compiler: Compiler, dataplane: Box<dyn Dataplane>) -> Result<Self, SettingsDiffer> {
        let enforced = dataplane.options().workload_to_host;
        let settings = compiler.settings();
        let agrees = if let CompileScope::Node(node) = compiler.scope() {
            settings.of_node(Some(node)).workload_to_host == enforced
        } else {
            // Which node this is, is not known.
            let mut nodes = core::iter::once(&settings.every_node).chain(settings.nodes.values());
            nodes.any(|node| node.workload_to_host == enforced)
        };
        if !agrees {
            return Err(SettingsDiffer { dataplane: enforced });
        }
        let bindings = Bindings::new();
        Ok(Self {
            compiler,
            bindings,
            dataplane,
            interfaces: None,
            stage: Stage::New,
            closed: Closed::default(),
            changed: BTreeSet::new(),
        })
    }

    /// Tracked flows that a change newly denies are ended (decision D16), see [`NewlyDenied`]. Without this, they go on
    /// until they end by themselves. The first change ends none, because the policy that allowed them is not known.
    ///
    /// Whenever flows are to be ended, `look_up` tells which interfaces and addresses the node has. With a kernel
    /// backend, that is `backends::node_interfaces`. When it fails, so does the change, with [`ChangeError::Flows`].
    #[must_use]
    pub fn ending_newly_denied(
        mut self,
        look_up: impl FnMut() -> Result<NodeInterfaces, DataplaneError> + Send + 'static,
    ) -> Self {
        self.interfaces = Some(Box::new(look_up));
        self
    }

    /// Makes all changes that `edit` asks for, together: packets are decided by the policy before all of them or after
    /// all of them. The first change loads the dataplane, in place of what an earlier process left.
    ///
    /// # Errors
    /// See [`ChangeError`]. After an error of the dataplane, the next change tries again; [`LocalNode::catch_up`] is
    /// one without anything new.
    pub fn change(&mut self, edit: impl FnOnce(&mut Change)) -> Result<Changed, ChangeError> {
        let mut change = Change::default();
        edit(&mut change);
        change.updates.iter().try_for_each(Compiler::check)?;
        if !change.edits.is_empty() {
            let mut bindings = self.bindings.clone();
            change.edits.into_iter().for_each(|edit| edit.make(&mut bindings));
            bindings.check()?;
            self.bindings = bindings;
        }
        let mut made_room = false;
        for update in change.updates {
            match &update {
                Update::Policy(policy) => {
                    // Told again what is known not to fit: an agent that reads all objects anew does that.
                    if self.closed.is(policy) {
                        continue;
                    }
                    made_room |= !self.closed.forget(&policy.id);
                    self.changed.insert(policy.id.clone());
                }
                Update::RemovePolicy(id) => {
                    made_room = true;
                    self.closed.forget(id);
                    self.changed.remove(id);
                }
                Update::RemoveEndpoint(_) => made_room = true,
                _ => {}
            }
            self.compiler.apply(update)?;
        }
        let delta = self.compiler.commit();
        let mut changed = match self.follow(&delta) {
            Err(ChangeError::Dataplane(error)) => self.close_what_does_not_fit(error)?,
            result => result?,
        };
        if made_room && changed.closed.is_empty() {
            self.reopen_what_fits(&mut changed)?;
        }
        Ok(changed)
    }

    /// Brings in force what is not yet. Before the first change, that is the state without endpoints: it loads it.
    ///
    /// # Errors
    /// As for [`LocalNode::change`].
    pub fn catch_up(&mut self) -> Result<Changed, ChangeError> {
        self.change(|_| {})
    }

    /// What an agent calls every few seconds and when an interface appears: catches up where that is due, and
    /// [maintains](Dataplane::maintain) the dataplane. Before the first change it does nothing.
    ///
    /// As long as the last change cannot be brought in force, nothing is repaired either: a repair brings the whole
    /// desired state in force, so it would fail for the same reason.
    ///
    /// # Errors
    /// As for [`LocalNode::change`], and when the dataplane cannot be looked at or repaired.
    pub fn maintain(&mut self) -> Result<Health, ChangeError> {
        let mut changed = Changed::default();
        let mut flows_are_left = match self.stage {
            Stage::New => return Ok(Health::default()),
            Stage::Current => None,
            Stage::NotLoaded | Stage::Behind(_) => match self.catch_up() {
                // What could not be reached is told by the health.
                Ok(step) => {
                    changed.add(step);
                    None
                }
                // The state is in force and can be looked after.
                Err(error @ ChangeError::Flows { .. }) => Some(error),
                Err(error) => return Err(error),
            },
        };
        if flows_are_left.is_none() {
            self.closed.wait_less();
            // `closed_policies` tells what came of it.
            match self.reopen_what_fits(&mut changed) {
                Ok(()) => {}
                Err(error @ ChangeError::Flows { .. }) => flows_are_left = Some(error),
                Err(error) => return Err(error),
            }
        }
        let desired = DesiredState::new(self.compiler.snapshot(), &self.bindings);
        let health = match self.dataplane.maintain(desired) {
            Err(error) if error.kind() == DataplaneErrorKind::NotLoaded => {
                self.dataplane.load(desired).map(|applied| {
                    let mut health = Health::default();
                    health.applied = applied;
                    health
                })
            }
            result => result,
        };
        let mut health = health.map_err(ChangeError::Dataplane)?;
        health.applied.warnings.splice(0..0, changed.applied.warnings);
        flows_are_left.map_or(Ok(health), Err)
    }

    /// The policies that do not fit the limits of the dataplane, in order. They deny everything to their own subjects, in the
    /// directions they are for; [`LocalNode::cluster`] has them in that form. They are tried again when they change, when
    /// there is room, and now and then by [`LocalNode::maintain`].
    pub fn closed_policies(&self) -> impl Iterator<Item = ClosedPolicy> + '_ {
        self.closed.iter()
    }

    /// Whether the last change is in force, and no flow is left that it should have ended.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        matches!(self.stage, Stage::Current)
    }

    /// The objects.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        self.compiler.cluster()
    }

    /// The compiled policy.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        self.compiler.snapshot()
    }

    /// The endpoints and their interfaces.
    #[must_use]
    pub const fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// The dataplane, for its counters, events and usage. When it is [removed](Dataplane::remove) by this, the next
    /// change or [`LocalNode::maintain`] loads it again; [`LocalNode::remove`] is for good.
    pub fn dataplane(&mut self) -> &mut dyn Dataplane {
        &mut *self.dataplane
    }

    /// Takes policy off this machine, see [`Dataplane::remove`]. Dropping the node leaves it in force.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(mut self) -> Result<(), DataplaneError> {
        self.dataplane.remove()
    }

    fn follow(&mut self, delta: &Delta) -> Result<Changed, ChangeError> {
        // What is compiled would deny to all subjects of a program what only one policy is to blame for.
        let excess = self.compiler.excess().map(|excess| {
            LowerError::limit(excess.limit, excess.value, excess.value.saturating_add(1)).into()
        });
        let desired = DesiredState::new(self.compiler.snapshot(), &self.bindings);
        // The images of commits that were not followed, or why there are none. `None`: those of the last commit do.
        let behind = match core::mem::replace(&mut self.stage, Stage::NotLoaded) {
            Stage::New | Stage::NotLoaded => {
                let loaded = excess.map_or_else(|| self.dataplane.load(desired), Err);
                let applied = loaded.map_err(ChangeError::Dataplane)?;
                self.stage = Stage::Current;
                self.changed.clear();
                return Ok(Changed { applied, ..Changed::default() });
            }
            Stage::Current => Ok(None),
            Stage::Behind(mut behind) => {
                behind.append(self.compiler.before_images().clone()).map(|()| Some(behind))
            }
        };
        let updated = match excess.map_or_else(|| self.dataplane.update(desired, delta), Err) {
            // It was removed in between.
            Err(error) if error.kind() == DataplaneErrorKind::NotLoaded => self.dataplane.load(desired),
            result => result,
        };
        let result = match updated {
            Err(error) => Err(ChangeError::Dataplane(error)),
            Ok(applied) => {
                self.changed.clear();
                let ended = match &behind {
                    Ok(behind) => self.end_flows(behind.as_deref()),
                    Err(error) => Err(does_not_follow(*error)),
                };
                match ended {
                    Err(source) => Err(ChangeError::Flows { applied, source }),
                    Ok(ended_flows) => Ok(Changed { applied, ended_flows, ..Changed::default() }),
                }
            }
        };
        self.stage = match &result {
            Ok(_) => Stage::Current,
            Err(_) => {
                let behind = behind.ok().flatten();
                Stage::Behind(behind.unwrap_or_else(|| Box::new(self.compiler.before_images().clone())))
            }
        };
        result
    }

    /// Ends the flows that were allowed in the state that `behind` or else the last commit remembers, and are denied
    /// now.
    fn end_flows(&mut self, behind: Option<&BeforeImages>) -> Result<usize, DataplaneError> {
        let before = behind.unwrap_or_else(|| self.compiler.before_images());
        let Some(look_up) = &mut self.interfaces else { return Ok(0) };
        if before.from_generation() == before.to_generation() {
            return Ok(0);
        }
        let snapshot = self.compiler.snapshot();
        let previous = Previous::new(snapshot, before).map_err(does_not_follow)?;
        let node = look_up()?;
        let desired = DesiredState::new(snapshot, &self.bindings);
        let options = self.dataplane.options().clone();
        let newly_denied = NewlyDenied::new(previous, desired, &options, &node);
        let newly_denied = newly_denied.with_objects(self.compiler.cluster());
        self.dataplane.terminate(&|flow| newly_denied.contains(flow))
    }
}

/// Which flows were allowed is not known.
fn does_not_follow(error: DeltaError) -> DataplaneError {
    LowerError::generation(error.found, error.expected).into()
}

const _: () = {
    const fn moved_to_a_thread<T: Send>() {}
    moved_to_a_thread::<LocalNode>();
};
