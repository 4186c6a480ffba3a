//! A verdict from YAML, with its reason, in ten lines.
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "an example: a program that prints, with the standard library"
)]

use portcullis::reference::Reference;
use portcullis::scenario::{Evaluator, Flow, LoadOptions, Scenario};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-the-shop, namespace: shop}
spec:
  podSelector: {matchLabels: {app: database}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: database, namespace: shop, labels: {app: database}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: report, namespace: shop, labels: {app: report}}}
";
    let scenario = Scenario::parse("shop.yaml", yaml, LoadOptions::new())?;
    let settings = scenario.settings();
    let (evaluator, engine) =
        (Evaluator::new(&scenario, settings), Reference::new(scenario.cluster(), settings));
    for from in ["shop/web", "shop/report"] {
        let flow = Flow::new(from.parse()?, "shop/database".parse()?).with_port(5432);
        let answer = evaluator.answer(&engine, &flow)?;
        let ingress = answer.deciding().and_then(|part| part.decision.ingress.as_ref());
        let reason = ingress.map(|side| side.decision.cause.to_string()).unwrap_or_default();
        println!("{from} -> shop/database: {} ({reason})", answer.verdict());
    }
    Ok(())
}
