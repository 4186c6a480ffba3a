extern crate std;

mod cost;
mod memory;
pub(crate) mod objects;
mod refusals;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use portcullis_core::model::{Cluster, EndpointId};
use serde_json::{Value, json};

use super::*;
use crate::importer::{Import, ImportOptions, Importer, ObjectSource};
use crate::kind::Relevance;
use crate::object::Object;
use objects::{KINDS, Random, object};

fn kind_of(object: &Value) -> Kind {
    kind(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap())
}

fn kind(version: &str, kind: &str) -> Kind {
    let Relevance::Relevant(kind) = Kind::of(version, kind) else { panic!("{version} {kind}") };
    kind
}

/// Half of the objects as text, half as values.
fn observed(object: &Value) -> Observed {
    let kind = kind_of(object);
    if object["metadata"]["name"].as_str().is_some_and(|name| name.len() % 2 == 0) {
        Observed::from_json(kind, object.to_string().as_bytes()).unwrap()
    } else {
        Observed::from_value(kind, object.clone()).unwrap()
    }
}

/// A world, the objects that it was given, and the model by the changes that it told.
struct Followed {
    world: World,
    objects: BTreeMap<(String, String, String), Value>,
    model: Cluster,
    settings: Settings,
    baseline: BaselineReading,
}

impl Followed {
    fn new(options: WorldOptions) -> Self {
        let baseline = options.baseline;
        let mut followed = Self {
            world: World::new(options),
            objects: BTreeMap::new(),
            model: Cluster::new(),
            settings: Settings::default(),
            baseline,
        };
        // The first event tells of the built-in tiers, whatever it is about.
        followed.replace(kind("v1", "Pod"), &[]);
        assert_eq!(followed.model.tiers().len(), 3);
        followed
    }

    fn apply(&mut self, changes: Changes) -> Changes {
        for update in changes.updates.clone() {
            let before = self.model.clone();
            self.model.apply(update.clone());
            assert!(before != self.model, "a change without effect: {update:?}");
        }
        if let Some(settings) = changes.settings.clone() {
            assert!(settings != self.settings);
            self.settings = settings;
        }
        changes
    }

    fn put(&mut self, object: &Value) -> Changes {
        self.objects.insert(place_of(object), object.clone());
        let changes = self.world.put(observed(object));
        self.apply(changes)
    }

    fn remove(&mut self, object: &Value) -> Changes {
        let key = ObjectKey::of_value(kind_of(object), object).unwrap();
        let place = place_of(object);
        if self.objects.get(&place).is_some_and(|o| o["metadata"]["uid"] == object["metadata"]["uid"]) {
            self.objects.remove(&place);
        }
        let changes = self.world.remove(&key);
        self.apply(changes)
    }

    fn replace(&mut self, kind: Kind, objects: &[Value]) -> Changes {
        self.objects.retain(|(of, _, _), _| of != kind.name());
        self.objects.extend(objects.iter().map(|object| (place_of(object), object.clone())));
        let changes = self.world.replace(kind, objects.iter().map(|object| Ok(observed(object))));
        self.apply(changes)
    }

    fn check(&self) {
        let whole: Cluster = self.world.model().collect();
        assert_same(&whole, &self.model, "told and derived");
        let import = import(self.objects.values(), self.baseline);
        let batch: Cluster = import.updates.into_iter().collect();
        assert_same(&batch, &self.model, "imported at once and followed");
        assert_eq!(import.settings, self.settings);
        assert_eq!(import.settings, *self.world.settings());
        assert_eq!(import.configured, self.world.configured());
        assert_eq!(import.frontends, self.world.frontends().collect::<Vec<_>>());
        for frontend in &import.frontends {
            assert_eq!(self.world.frontend(&frontend.id).as_ref(), Some(frontend));
            for address in frontend.addresses() {
                assert!(self.world.services_at(address).any(|id| *id == frontend.id));
            }
        }
        let mut workloads = BTreeMap::new();
        for namespace in ["a", "b"] {
            workloads.extend(self.world.workloads(&namespace.into()));
            for name in ["x", "y", "z", "w"] {
                let id = EndpointId::workload(namespace, name);
                assert_eq!(import.places.get(&id), self.world.place(&id).as_ref(), "{id}");
            }
        }
        assert_eq!(import.workloads, workloads);
        for endpoint in batch.endpoints().values().filter(|endpoint| endpoint.id.namespace.is_some()) {
            for address in &endpoint.addresses {
                assert!(self.world.endpoints_at(*address).any(|id| *id == endpoint.id));
            }
        }
        let lines = |warnings: &[Warning]| -> BTreeSet<String> {
            // Which policy of several is named depends on their order.
            let text = |warning: &Warning| warning.to_string().replace(&warning.object.to_string(), "");
            warnings.iter().filter(|warning| is_of_all(warning)).map(text).collect()
        };
        assert_eq!(lines(&import.warnings), lines(&self.world.doubts()));
    }
}

/// Whether a warning needs more than one object, and does not name one of several by their order.
fn is_of_all(warning: &Warning) -> bool {
    ["does not exist", "ignored for HostEndpoint"].iter().any(|part| warning.message.contains(part))
}

fn place_of(object: &Value) -> (String, String, String) {
    let key = ObjectKey::of_value(kind_of(object), object).unwrap();
    let namespace = key.namespace().map(ToString::to_string).unwrap_or_default();
    (key.kind().into(), namespace, key.name().to_string())
}

fn import<'a>(objects: impl Iterator<Item = &'a Value>, baseline: BaselineReading) -> Import {
    let options = ImportOptions::new().source(ObjectSource::Cluster).baseline(baseline);
    let mut importer = Importer::new(options);
    for object in objects {
        importer.add(Object::deserialize(kind_of(object), object).unwrap()).unwrap();
    }
    importer.finish().unwrap()
}

fn assert_same(one: &Cluster, other: &Cluster, what: &str) {
    let (left, right): (Vec<Update>, Vec<Update>) = (one.updates().collect(), other.updates().collect());
    for update in &left {
        assert!(right.contains(update), "{what}: only in the first: {update:?}");
    }
    for update in &right {
        assert!(left.contains(update), "{what}: only in the second: {update:?}");
    }
}

fn sequences() -> u64 {
    let given = std::env::var("PORTCULLIS_WORLD_SEQUENCES").ok();
    given.map_or(400, |count| count.parse().expect("a number of sequences"))
}

/// Any sequence of events leaves the model that an import of the objects as they are makes.
#[test]
fn any_events_leave_what_an_import_makes() {
    for seed in 0..sequences() {
        let mut random = Random(seed);
        let baseline = random.pick(&[BaselineReading::PerDirection, BaselineReading::PerPod]);
        let mut followed = Followed::new(WorldOptions::new().baseline(baseline));
        let mut earlier = followed.model.clone();
        for step in 0..random.below(60) {
            let known: Vec<Value> = followed.objects.values().cloned().collect();
            let any = usize::try_from(random.below(known.len().max(1) as u64)).unwrap();
            let changes = match (random.below(10), known.get(any)) {
                // Again, as a watch does after it broke.
                (0, Some(again)) => {
                    let changes = followed.put(again);
                    assert!(changes.updates.is_empty(), "seed {seed}: {changes:?}");
                    changes
                }
                (1 | 2, Some(gone)) => followed.remove(gone),
                // An object of its name that was there before, or is not yet.
                (3, Some(other)) => {
                    let mut other = other.clone();
                    other["metadata"]["uid"] = json!("of another time");
                    followed.remove(&other)
                }
                (4, Some(made_again)) => {
                    let mut again = object(&mut random, kind_of_pair(made_again));
                    for field in ["name", "namespace"] {
                        if let Some(value) = made_again["metadata"].get(field) {
                            again["metadata"][field] = value.clone();
                        }
                    }
                    let is_bound = ["WorkloadEndpoint", "Profile"].contains(&again["kind"].as_str().unwrap());
                    if is_bound { followed.put(made_again) } else { followed.put(&again) }
                }
                (5, _) => {
                    let of = random.pick(&KINDS);
                    let mut listed: BTreeMap<_, Value> = BTreeMap::new();
                    for _ in 0..random.below(4) {
                        let object = object(&mut random, of);
                        listed.insert(place_of(&object), object);
                    }
                    let kept = known.iter().filter(|object| kind_of_pair(object) == of);
                    for kept in kept.filter(|_| random.chance(50)) {
                        listed.insert(place_of(kept), kept.clone());
                    }
                    let listed: Vec<Value> = listed.into_values().collect();
                    followed.replace(kind(of.0, of.1), &listed)
                }
                _ => {
                    let of = random.pick(&KINDS);
                    let object = object(&mut random, of);
                    followed.put(&object)
                }
            };
            assert!(changes.refusals.is_empty(), "seed {seed}, step {step}: {:?}", changes.refusals);
            if step % 7 == 0 {
                followed.check();
                earlier.clone_from(&followed.model);
            }
        }
        followed.check();
        let mut back = followed.model.clone();
        back.extend(followed.model.difference(&earlier));
        assert!(back == earlier, "seed {seed}: the difference leads elsewhere");
        // Nothing stays of what is gone.
        let all: Vec<Value> = followed.objects.values().cloned().collect();
        for gone in &all {
            followed.remove(gone);
        }
        followed.check();
        assert!(followed.world.is_empty());
        assert_eq!(format!("{:?}", followed.world.usage), format!("{:?}", Usage::default()), "seed {seed}");
    }
}

fn kind_of_pair(object: &Value) -> (&'static str, &'static str) {
    let pair = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    KINDS.into_iter().find(|known| *known == pair).unwrap()
}
