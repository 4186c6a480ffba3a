//! A world that follows the scripted server, and what must hold meanwhile.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_core::model::{Cluster, EndpointId};
use portcullis_k8s::{Refusal, Unidentified, World, WorldOptions};
use portcullis_kube::{Event, Options, Source, State, Watch};
use serde_json::{Value, json};

use crate::server::Server;

pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";

/// What came out of a watch until now.
pub(crate) struct Seen {
    watch: Watch,
    kubeconfig: PathBuf,
    pub(crate) world: World,
    pub(crate) cluster: Cluster,
    pub(crate) states: Vec<(Option<String>, State)>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) unidentified: Vec<Unidentified>,
    /// Kind and number of objects of each replacement.
    pub(crate) replaced: Vec<(&'static str, usize)>,
    pub(crate) synced: u32,
    /// Pods that must always be held, from when they were seen.
    pub(crate) always: Vec<&'static str>,
}

impl Seen {
    /// Watches with windows of a second.
    pub(crate) fn of(server: &Server) -> Self {
        Self::with(server, Options::new().window(Duration::from_secs(1)))
    }

    pub(crate) fn with(server: &Server, options: Options) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let kubeconfig =
            std::env::temp_dir().join(format!("portcullis-kube-{}-{number}", std::process::id()));
        fs::write(&kubeconfig, server.kubeconfig("one")).unwrap();
        let source = Source::Kubeconfig { path: kubeconfig.clone(), context: None };
        Self {
            watch: Watch::start(source, options).unwrap(),
            kubeconfig,
            world: World::new(WorldOptions::new()),
            cluster: Cluster::new(),
            states: Vec::new(),
            refusals: Vec::new(),
            unidentified: Vec::new(),
            replaced: Vec::new(),
            synced: 0,
            always: Vec::new(),
        }
    }

    pub(crate) fn rewrite_kubeconfig(&self, text: &str) {
        fs::write(&self.kubeconfig, text).unwrap();
    }

    /// Takes changes until it is so.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !is_so(self) {
            let late = began.elapsed() > LONG;
            assert!(!late, "not so after {LONG:?}: {what}; states {:?}, pods {:?}", self.states, self.pods());
            match self.watch.try_next() {
                Some(change) => {
                    assert!(change.received <= Instant::now());
                    self.take(change.event);
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
        began.elapsed()
    }

    /// Takes what comes for a time.
    pub(crate) fn during(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.until("time passes", |_| Instant::now() >= end);
    }

    fn take(&mut self, event: Event) {
        match &event {
            Event::State { kind, state } => self.states.push((kind.clone(), state.clone())),
            Event::Unidentified(error) => self.unidentified.push(error.clone()),
            Event::Replace { kind, objects } => self.replaced.push((kind.name(), objects.len())),
            Event::Synced => self.synced += 1,
            _ => {}
        }
        let changes = event.apply_to(&mut self.world);
        self.refusals.extend(changes.refusals);
        self.cluster.extend(changes.updates);
        for pod in &self.always {
            assert!(self.has_pod(pod), "the pod {pod} was not held meanwhile");
        }
    }

    pub(crate) fn has_pod(&self, name: &str) -> bool {
        self.cluster.endpoints().contains_key(&EndpointId::workload("n", name))
    }

    pub(crate) fn pods(&self) -> Vec<String> {
        self.cluster.endpoints().keys().map(|id| id.name.to_string()).collect()
    }

    /// The last state of a kind.
    pub(crate) fn state(&self, kind: &str) -> Option<&State> {
        let of_kind = self.states.iter().rev().find(|(known, _)| known.as_deref() == Some(kind));
        of_kind.map(|(_, state)| state)
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        fs::remove_file(&self.kubeconfig).unwrap();
    }
}

/// A pod in the namespace `n`.
pub(crate) fn pod(name: &str, host: usize) -> Value {
    let address = format!("10.{}.{}.{}", host >> 16, (host >> 8) & 255, host & 255);
    json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": {"containers": []},
        "status": {"phase": "Running", "podIP": address}})
}

/// A policy in the namespace `n` that denies everything.
pub(crate) fn policy(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})
}

const LONG: Duration = Duration::from_secs(20);
