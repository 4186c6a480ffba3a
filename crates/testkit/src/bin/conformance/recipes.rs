//! `recipes.json`: the well-known policy recipes with their probes.

use std::path::Path;

use portcullis::scenario::{Evaluator, Flow, LoadOptions, Scenario};
use portcullis::verdict::Verdict;
use portcullis_testkit::Engines;
use serde_json::{Value, json};

use crate::{Tally, list, read, text};

pub(crate) fn run(folder: &Path) -> Result<Tally, String> {
    let corpus = read(&folder.join("recipes.json"))?;
    let mut tally = Tally::default();
    for case in list(&corpus, "cases") {
        let name = text(case, "name");
        tally.cases = tally.cases.saturating_add(1);
        let mut items = Vec::new();
        for namespace in list(case, "namespaces") {
            let metadata = json!({"name": namespace["name"], "labels": namespace["labels"]});
            items.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        }
        for pod in list(case, "pods") {
            let ports: Vec<Value> = list(pod, "ports")
                .iter()
                .map(|port| match port {
                    Value::Object(_) => {
                        let number = port.get("containerPort").or_else(|| port.get("port")).cloned();
                        json!({"name": port["name"], "containerPort": number, "protocol": port["protocol"]})
                    }
                    number => json!({"containerPort": number}),
                })
                .collect();
            items.push(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod["name"], "namespace": pod["namespace"], "labels": pod["labels"]},
                "spec": {"containers": [{"name": "main", "ports": ports}]},
                "status": {"podIP": pod["ip"]}}));
        }
        items.extend(list(case, "manifests").iter().cloned());
        let list_object = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let scenario = match Scenario::parse("recipe.json", &list_object, LoadOptions::new()) {
            Ok(scenario) => scenario,
            Err(error) => {
                tally.check(false, name, || error.to_string());
                continue;
            }
        };
        let settings = scenario.settings().clone();
        let evaluator = Evaluator::new(&scenario, &settings);
        let engine = match Engines::new(scenario.cluster(), &settings) {
            Ok(engine) => engine,
            Err(error) => {
                tally.check(false, name, || error);
                continue;
            }
        };
        for probe in list(case, "probes") {
            if probe.get("loopback") == Some(&Value::Bool(true)) {
                continue;
            }
            let line = json!({"from": probe["from"], "to": probe["to"], "port": probe["port"],
                "protocol": probe.get("protocol").cloned().unwrap_or_else(|| json!("TCP"))});
            let flow = Flow::from_json(&line.to_string()).and_then(|flow| evaluator.plan(&flow));
            let wanted = probe.get("expected") == Some(&Value::Bool(true));
            match flow {
                Ok(flow) => {
                    let got = evaluator.decide(&engine, &flow).verdict() == Verdict::Allow;
                    tally.check(got == wanted, name, || format!("{line} is {got}, not {wanted}"));
                }
                Err(error) => tally.check(false, name, || format!("{line}: {error}")),
            }
        }
        tally.agree(&engine, name);
    }
    Ok(tally)
}
