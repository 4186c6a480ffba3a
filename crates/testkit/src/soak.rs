//! Changes of every kind without end, to find out what is kept of objects that are gone.

use portcullis::compile::{Compiler, UpdateError};
use portcullis::model::Update;

use crate::generate::Generator;

/// Adds, changes and removes objects of every kind, a few in each commit, and hands each delta's state on. Returns the number of
/// changes.
///
/// # Errors
/// When the compiler refuses an object.
pub fn churn<E: From<UpdateError>>(
    compiler: &mut Compiler,
    generator: &mut Generator,
    commits: u32,
    mut committed: impl FnMut(&Compiler, &portcullis::ir::Delta) -> Result<(), E>,
) -> Result<u64, E> {
    let mut changes = 0;
    for _ in 0..commits {
        for _ in 0..=generator.below(3) {
            let change = generator.change(compiler.cluster());
            compiler.apply(change)?;
            changes += 1;
        }
        let delta = compiler.commit();
        committed(compiler, &delta)?;
    }
    Ok(changes)
}

/// Removes all objects. Numbers of the compiler rest for two commits, so there are three.
///
/// # Errors
/// When the compiler refuses a removal.
pub fn clear(compiler: &mut Compiler) -> Result<(), UpdateError> {
    let removals: Vec<Update> = compiler.cluster().updates().filter_map(|object| removal(&object)).collect();
    for removal in removals {
        compiler.apply(removal)?;
    }
    for _ in 0..3 {
        let _ = compiler.commit();
    }
    Ok(())
}

/// The update that removes the object of `update`; `None` when it is a removal itself.
#[must_use]
pub fn removal(update: &Update) -> Option<Update> {
    Some(match update {
        Update::Policy(policy) => Update::RemovePolicy(policy.id.clone()),
        Update::Tier(tier) => Update::RemoveTier(tier.name.clone()),
        Update::Profile(profile) => Update::RemoveProfile(profile.name.clone()),
        Update::Endpoint(endpoint) => Update::RemoveEndpoint(endpoint.id.clone()),
        Update::NetworkSet(set) => Update::RemoveNetworkSet(set.id.clone()),
        Update::Namespace(namespace) => Update::RemoveNamespace(namespace.name.clone()),
        Update::ServiceAccount(account) => {
            Update::RemoveServiceAccount(account.namespace.clone(), account.name.clone())
        }
        Update::Node(node) => Update::RemoveNode(node.name.clone()),
        Update::Service(service) => Update::RemoveService(service.id.clone()),
        _ => return None,
    })
}
