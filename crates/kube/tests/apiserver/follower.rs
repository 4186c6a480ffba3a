//! A world that follows, and a batch import of the objects as they are to compare it with.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use portcullis_core::model::{Cluster, Update};
use portcullis_k8s::{ImportOptions, Importer, Kind, Object, ObjectSource, World, WorldOptions};
use portcullis_kube::{Event, Options, Source, State, Watch};

use crate::control_plane::ControlPlane;
use crate::objects::ALL;

pub(crate) struct Follower {
    watch: Watch,
    pub(crate) world: World,
    cluster: Cluster,
    /// The world never holds less.
    pub(crate) least: usize,
    pub(crate) synced: u32,
    pub(crate) refused: usize,
    pub(crate) replacements: u32,
    pub(crate) refusals: Vec<String>,
}

impl Follower {
    pub(crate) fn start(kubeconfig: &Path) -> Self {
        let source = Source::Kubeconfig { path: kubeconfig.into(), context: None };
        Self {
            watch: Watch::start(source, Options::new()).unwrap(),
            world: World::new(WorldOptions::new()),
            cluster: Cluster::new(),
            least: 0,
            synced: 0,
            refused: 0,
            replacements: 0,
            refusals: Vec::new(),
        }
    }

    pub(crate) fn until_synced(&mut self, plane: &ControlPlane, what: &str) -> Duration {
        let began = Instant::now();
        self.until("synced", |follower| follower.synced == 1);
        let time = began.elapsed();
        self.until_same(plane, what);
        time
    }

    /// Until the model is the one of the objects as they are.
    pub(crate) fn until_same(&mut self, plane: &ControlPlane, what: &str) -> Duration {
        let began = Instant::now();
        let wanted = import(plane);
        loop {
            if self.cluster == wanted {
                return began.elapsed();
            }
            if began.elapsed() > LONG {
                for (one, other, side) in
                    [(&self.cluster, &wanted, "followed"), (&wanted, &self.cluster, "imported")]
                {
                    let others: Vec<Update> = other.updates().collect();
                    for update in one.updates().filter(|update| !others.contains(update)) {
                        println!("only {side}: {update:?}");
                    }
                }
                panic!("{what}: not the same after {LONG:?}");
            }
            self.take_waiting();
        }
    }

    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < LONG, "not so after {LONG:?}: {what}");
            self.take_waiting();
        }
    }

    pub(crate) fn during(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.take_waiting();
        }
    }

    fn take_waiting(&mut self) {
        let Some(change) = self.watch.try_next() else { return thread::sleep(Duration::from_millis(2)) };
        match &change.event {
            Event::Synced => self.synced += 1,
            Event::Replace { .. } => self.replacements += 1,
            Event::State { kind, state } => {
                println!("  {}: {state:?}", kind.as_deref().unwrap_or("kinds"));
                self.refused += usize::from(matches!(state, State::Refused { status: 403, .. }));
            }
            Event::Unidentified(error) => panic!("{error}"),
            _ => {}
        }
        let changes = change.event.apply_to(&mut self.world);
        self.refusals
            .extend(changes.refusals.iter().map(|refusal| format!("{}: {}", refusal.object, refusal.errors)));
        self.cluster.extend(changes.updates);
        let held = self.world.len();
        assert!(held >= self.least, "{held} objects are held, which were {} before", self.least);
    }
}

fn import(plane: &ControlPlane) -> Cluster {
    let mut importer = Importer::new(ImportOptions::new().source(ObjectSource::Cluster));
    for known in ALL {
        let kind = Kind::of(known.api, known.kind).kind().unwrap();
        for object in plane.list(known) {
            importer.add(Object::deserialize(kind, object).unwrap()).unwrap();
        }
    }
    let mut cluster = Cluster::new();
    cluster.extend(importer.finish().unwrap().updates);
    cluster
}

const LONG: Duration = Duration::from_secs(90);
