//! The nftables table of a small cluster, as text that people can read. `PORTCULLIS_BLESS=1` writes the file anew.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::path::Path;

use portcullis::backend::{Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _};
use portcullis::model::{EndpointId, EndpointKind};
use portcullis::nftables::{Existing, Lowering, Options};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;

const CLUSTER: &str = include_str!("nftables/cluster.yaml");

fn bindings(scenario: &Scenario) -> Bindings {
    let bind = |(number, endpoint): (usize, &portcullis::model::Endpoint)| {
        let interface = Interface::new(&format!("cali{number}")).unwrap();
        let binding = match endpoint.id.kind {
            EndpointKind::Workload => Binding::workload(interface, endpoint.addresses.iter().copied()),
            EndpointKind::Host => Binding::Host { interfaces: vec![Interface::new("eth0").unwrap()] },
        };
        (endpoint.id.clone(), binding)
    };
    let local = |id: &EndpointId| id.name.as_str() != "remote";
    let endpoints = scenario.cluster().endpoints().values().filter(|endpoint| local(&endpoint.id));
    endpoints.enumerate().map(bind).collect()
}

#[test]
fn the_table_of_a_small_cluster() {
    let scenario = Scenario::parse("cluster.yaml", CLUSTER, LoadOptions::new()).unwrap();
    let engine = scenario.compile(&Settings::default()).unwrap();
    let options =
        Options::from(DataplaneOptions::new().with_workload_interfaces(Interface::new("cali").unwrap()));
    let bindings = bindings(&scenario);
    let desired = DesiredState::new(engine.snapshot(), &bindings);
    let (_, update) = Lowering::load(options, desired, &Existing::default()).unwrap();
    let got = update.to_string();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nftables/cluster.nft");
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert_eq!(got, want, "if this is meant, run again with PORTCULLIS_BLESS=1");
}
