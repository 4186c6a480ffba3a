//! The table of the nftables backend, for `nft -f` and `nft -j -f`.

use alloc::collections::BTreeMap;

use portcullis::backend::{Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _};
use portcullis::compile::Compiler;
use portcullis::model::{Endpoint, EndpointId, EndpointKind};
use portcullis::nftables::{Existing, Lowering, Options, Update};
use portcullis::settings::WorkloadToHost;

use crate::args::CompileTarget;
use crate::failure::Failure;

/// The commands that load the compiled policy where there is no table yet.
pub(super) fn table(
    compiler: &Compiler,
    given: &[(String, Interface)],
    workload_to_host: WorkloadToHost,
    target: CompileTarget,
) -> Result<String, Failure> {
    let bindings = bindings(compiler, given)?;
    // The JSON of nft cannot say which neighbour advertisements are a workload's own.
    let options = DataplaneOptions::new()
        .with_workload_to_host(workload_to_host)
        .with_check_neighbour_claims(target != CompileTarget::NftJson);
    let desired = DesiredState::new(compiler.snapshot(), &bindings);
    let (_, update) = Lowering::load(Options::from(options), desired, &Existing::default())
        .map_err(|error| Failure::Input(error.to_string()))?;
    match target {
        CompileTarget::NftJson => json(&update),
        CompileTarget::Ir | CompileTarget::Nft => Ok(update.to_string()),
    }
}

/// One value with all batches: nft carries it out as one transaction, as it does a file of text.
fn json(update: &Update) -> Result<String, Failure> {
    let mut commands = Vec::new();
    for mut batch in update.json().map_err(|error| Failure::Input(error.to_string()))? {
        if let Some(serde_json::Value::Array(more)) = batch.get_mut("nftables") {
            commands.append(more);
        }
    }
    let all = serde_json::json!({ "nftables": commands });
    let text = serde_json::to_string_pretty(&all).map_err(|error| Failure::Environment(error.to_string()))?;
    Ok(text + "\n")
}

/// Where the compiled endpoints are: as the command line says, or else as their objects do. An endpoint without an
/// interface would not be guarded, so it is an error.
fn bindings(compiler: &Compiler, given: &[(String, Interface)]) -> Result<Bindings, Failure> {
    let mut given: BTreeMap<&str, &Interface> = given.iter().map(|(id, at)| (id.as_str(), at)).collect();
    let mut bindings = Bindings::new();
    let mut missing: Vec<&EndpointId> = Vec::new();
    for id in compiler.snapshot().endpoints.keys() {
        let Some(endpoint) = compiler.cluster().endpoints().get(id) else { continue };
        let named = given.remove(id.to_string().as_str()).cloned();
        match bind(endpoint, named)? {
            Some(binding) => bindings.bind(id.clone(), binding),
            None => missing.push(id),
        }
    }
    if let Some(unknown) = given.keys().next() {
        let text = portcullis::quote::quoted(unknown);
        return Err(Failure::Usage(format!("--bind {text}: no endpoint of this name was compiled")));
    }
    if let Some(first) = missing.first() {
        return Err(Failure::Usage(format!(
            "{} endpoints have no interface, so the table would not guard them: give each one, for example `--bind \
             {first}=veth0`, and compile for one node with --node",
            missing.len()
        )));
    }
    bindings.check().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(bindings)
}

fn bind(endpoint: &Endpoint, named: Option<Interface>) -> Result<Option<Binding>, Failure> {
    let own = endpoint.interface.as_deref();
    if named.is_none() && own == Some("*") {
        return Ok(Some(Binding::AllInterfaces { interfaces: Vec::new() }));
    }
    let parsed = || own.map(Interface::new).transpose();
    let interface = match named {
        Some(interface) => Some(interface),
        None => parsed().map_err(|error| Failure::Input(format!("{}: {error}", endpoint.id)))?,
    };
    Ok(interface.map(|interface| match endpoint.id.kind {
        EndpointKind::Workload => Binding::workload(interface, endpoint.addresses.iter().copied()),
        EndpointKind::Host => Binding::Host { interfaces: vec![interface] },
    }))
}
