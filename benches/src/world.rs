//! Single objects of a large cluster, as a watch gives them: from their text to the changes of the model.

use core::error::Error;
use std::io::Write;
use std::time::Instant;

use portcullis::k8s::{Kind, Observed, World, WorldOptions};

use crate::measure::{Times, peak_megabytes};

const PODS: u32 = 100_000;
const POLICIES: u32 = 10_000;
const NAMESPACES: u32 = 1_000;
const EVENTS: u32 = 5_000;

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let pod_kind = Kind::of("v1", "Pod").kind().ok_or("no kind Pod")?;
    let policy_kind =
        Kind::of("networking.k8s.io/v1", "NetworkPolicy").kind().ok_or("no kind NetworkPolicy")?;
    let mut world = World::new(WorldOptions::new());
    let start = Instant::now();
    for number in 0..PODS {
        put(&mut world, pod_kind, &pod(number, 0), 1)?;
    }
    for number in 0..POLICIES {
        put(&mut world, policy_kind, &policy(number, 0), 1)?;
    }
    let time = start.elapsed().as_secs_f64();
    writeln!(out, "world: {} objects in {time:.2} s; peak memory {} MB", world.len(), peak_megabytes()?)?;

    // Other objects each time, with labels that are known and another address or port.
    let pods = |event: u32| pod(event.wrapping_mul(7_919) % PODS, 1 + event % 3);
    events(out, &mut world, pod_kind, "pod", pods)?;
    let policies = |event: u32| policy(event.wrapping_mul(7_919) % POLICIES, 1 + event % 3);
    events(out, &mut world, policy_kind, "policy", policies)
}

/// Puts the object that `text` gives for each event, and prints the times with and without reading it.
fn events(
    out: &mut dyn Write,
    world: &mut World,
    kind: Kind,
    what: &str,
    text: impl Fn(u32) -> String,
) -> Result<(), Box<dyn Error>> {
    let (mut read, mut changed) = (Times::new(), Times::new());
    for event in 0..EVENTS {
        let text = text(event);
        let start = Instant::now();
        let observed = Observed::from_json(kind, text.as_bytes())?;
        let decoded = start.elapsed().as_secs_f64() * 1e6;
        let changes = world.put(observed);
        let whole = start.elapsed().as_secs_f64() * 1e6;
        check(changes.updates.len())?;
        read.push(whole);
        changed.push(whole - decoded);
    }
    writeln!(out, "{what} event, from its object: {}", changed.summary("us"))?;
    writeln!(out, "{what} event, from its text ({} bytes): {}", text(0).len(), read.summary("us"))?;
    Ok(())
}

fn put(world: &mut World, kind: Kind, text: &str, least: usize) -> Result<(), Box<dyn Error>> {
    let changes = world.put(Observed::from_json(kind, text.as_bytes())?);
    if changes.updates.len() < least {
        Err(format!("no change of the model from {text}").into())
    } else {
        Ok(())
    }
}

fn check(updates: usize) -> Result<(), Box<dyn Error>> {
    if updates == 1 { Ok(()) } else { Err(format!("{updates} changes of the model from one object").into()) }
}

/// A pod as an API server has it, with what policy does not read.
fn pod(number: u32, version: u32) -> String {
    let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % 20);
    let [_, high, middle, low] = (number + PODS * (version % 4)).to_be_bytes();
    let probe = r#""livenessProbe":{"httpGet":{"path":"/healthz","port":8080},"periodSeconds":10},"env":[{"name":"A","value":"b"}]"#;
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"app-{app}-5d59d67564-{number}","namespace":"ns-{namespace}","uid":"0a1b2c3d-0000-4000-8000-{number:012}","resourceVersion":"{version}","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"app-{app}","tier":"tier-{}","pod-template-hash":"5d59d67564","version":"v1"}},"annotations":{{"example.com/note":"{:0>200}"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"app-{app}-5d59d67564","uid":"u","controller":true}}]}},"spec":{{"nodeName":"node-{}","serviceAccountName":"app-{app}","containers":[{{"name":"main","image":"example.com/app:1","ports":[{{"name":"http","containerPort":8080,"protocol":"TCP"}}],{probe}}},{{"name":"proxy","image":"example.com/proxy:1",{probe}}}]}},"status":{{"phase":"Running","podIP":"10.{high}.{middle}.{low}","podIPs":[{{"ip":"10.{high}.{middle}.{low}"}}],"hostIP":"192.168.{}.{}","conditions":[{{"type":"Ready","status":"True"}}]}}}}"#,
        app % 4,
        "",
        number % 1_000,
        number % 1_000 / 250,
        number % 250,
    )
}

fn policy(number: u32, version: u32) -> String {
    let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % 20);
    format!(
        r#"{{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{{"name":"policy-{number}","namespace":"ns-{namespace}","uid":"p{number}"}},"spec":{{"podSelector":{{"matchLabels":{{"app":"app-{app}"}}}},"policyTypes":["Ingress","Egress"],"ingress":[{{"from":[{{"podSelector":{{"matchLabels":{{"app":"app-1"}}}}}},{{"namespaceSelector":{{"matchLabels":{{"team":"t-{}"}}}}}}],"ports":[{{"port":{}}}]}},{{"from":[{{"ipBlock":{{"cidr":"10.0.0.0/8","except":["10.{}.0.0/16"]}}}}]}}],"egress":[{{"to":[{{"podSelector":{{}}}}],"ports":[{{"protocol":"UDP","port":53}}]}}]}}}}"#,
        number % 50,
        8_000 + version,
        number % 256,
    )
}
