//! Nothing is kept of what is gone.

use super::*;
use crate::safe_form::tests::spoil;

fn events() -> u64 {
    let given = std::env::var("PORTCULLIS_WORLD_EVENTS").ok();
    given.map_or(2_000, |count| count.parse().expect("a number of events"))
}

/// How much a world keeps: objects, entries of indexes and counts, refusals, and names beyond those that are always kept.
fn kept(world: &World) -> (usize, usize, usize) {
    (world.len(), format!("{:?}", world.usage).len(), world.refusals.len())
}

/// Random events, with objects that can be read and objects that cannot, over and over: when the same objects are left,
/// the same is kept.
#[test]
fn after_any_events_as_much_is_kept_as_before() {
    let mut random = Random(0x3e30);
    let mut world = World::new(WorldOptions::new());
    let base: Vec<Value> = KINDS.iter().map(|of| object(&mut random, *of)).collect();
    for object in &base {
        world.put(observed(object));
    }
    let before = kept(&world);
    let model: Cluster = world.model().collect();
    let mut followed = model.clone();
    let mut known: BTreeMap<_, Value> =
        base.iter().map(|object| (place_of(object), object.clone())).collect();
    let mut refused = 0;
    for event in 0..events() {
        let of = random.pick(&KINDS);
        let mut object = object(&mut random, of);
        // Names that never come again.
        if random.chance(30) && !["WorkloadEndpoint", "Profile", "FelixConfiguration"].contains(&of.1) {
            object["metadata"]["name"] = json!(format!("n{event}"));
        }
        if random.chance(20) {
            let _ = spoil(&mut object, &mut random);
        }
        let changes = match Observed::from_value(kind(of.0, of.1), object.clone()) {
            Ok(read) if random.chance(70) => {
                let key = read.key().clone();
                let place = (
                    key.kind().to_string(),
                    key.namespace().map(ToString::to_string).unwrap_or_default(),
                    key.name().to_string(),
                );
                known.insert(place, object);
                world.put(read)
            }
            Ok(read) => {
                let key = read.key().clone().with_uid("");
                known.retain(|(kind, namespace, name), _| {
                    let of_key = key.namespace().map(ToString::to_string).unwrap_or_default();
                    kind != key.kind() || *namespace != of_key || *name != key.name().as_str()
                });
                world.remove(&key)
            }
            Err(_) => continue,
        };
        refused += changes.refusals.len();
        followed.extend(changes.updates);
        assert_eq!(world.len(), known.len(), "event {event}");
    }
    assert!(refused > 20, "{refused}");
    let derived: Cluster = world.model().collect();
    assert_same(&derived, &followed, "told and derived");
    // All but what was there at first goes, and that comes back as it was.
    for (of, namespace, name) in known.keys() {
        let versions = KINDS.iter().map(|(version, of)| kind(version, of));
        let kind = versions.into_iter().find(|kind| kind.name() == of).unwrap();
        let namespace = kind.is_namespaced().then_some(namespace.as_str());
        followed.extend(world.remove(&ObjectKey::new(kind, namespace, name).unwrap()).updates);
    }
    assert!(world.is_empty());
    assert_eq!(format!("{:?}", world.usage), format!("{:?}", Usage::default()));
    for object in &base {
        followed.extend(world.put(observed(object)).updates);
    }
    assert_eq!(kept(&world), before);
    assert!(followed == model);
    assert!(world.names.len() <= 2_048, "{}", world.names.len());
}
