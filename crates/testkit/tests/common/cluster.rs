//! From the text of a scenario to what a dataplane takes.

use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::Delta;
use portcullis::model::{Cluster, Endpoint, EndpointId, Update};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;

use crate::node::Pod;

/// Gives the endpoint the addresses of the pod.
pub(crate) fn place(mut endpoint: Endpoint, pod: &Pod) -> Endpoint {
    endpoint.addresses = pod.addresses.to_vec();
    endpoint.node = Some("node".into());
    endpoint
}

/// Compiles `text`, whose first endpoints are the pods.
pub(crate) fn compiled(text: &str, pods: &[Pod]) -> (Compiler, Vec<EndpointId>) {
    let (cluster, ids) = placed(text, pods);
    (compile(&cluster, &Settings::default()), ids)
}

/// What `text` says, whose first endpoints are the pods.
pub(crate) fn placed(text: &str, pods: &[Pod]) -> (Cluster, Vec<EndpointId>) {
    let scenario = Scenario::parse("test", text, LoadOptions::new()).unwrap();
    let mut cluster = scenario.cluster().clone();
    let ids: Vec<EndpointId> = cluster.endpoints().keys().cloned().collect();
    for (id, pod) in ids.iter().zip(pods) {
        let endpoint = cluster.endpoints()[id].clone();
        cluster.apply(Update::Endpoint(place(endpoint, pod)));
    }
    (cluster, ids)
}

/// Compiles all of `cluster`.
pub(crate) fn compile(cluster: &Cluster, settings: &Settings) -> Compiler {
    let mut compiler = Compiler::new(settings.clone(), CompileScope::All);
    cluster.updates().for_each(|update| compiler.apply(update).unwrap());
    let _ = compiler.commit();
    compiler
}

/// Adds the policies of `text`, or puts them in the place of those of their names.
pub(crate) fn tighten(compiler: &mut Compiler, text: &str) -> Delta {
    let scenario = Scenario::parse("policies", text, LoadOptions::new()).unwrap();
    for policy in scenario.cluster().policies().values() {
        compiler.apply(Update::Policy(policy.clone())).unwrap();
    }
    compiler.commit()
}
