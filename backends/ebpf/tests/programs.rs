//! The programs of the object, before the kernel's verifier. As root only.

use portcullis_core::backend::{Bindings, DataplaneOptions, DesiredState, Lower as _};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::settings::{Settings, WorkloadToHost};
use portcullis_ebpf::oracle::Sandbox;
use portcullis_ebpf::{Lowering, Options};
use portcullis_testkit::kernel_can_be_asked;

#[test]
fn the_verifier_accepts_every_program() {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let compiler = Compiler::new(Settings::default(), CompileScope::All);
    // What is switched off is not looked at: once without anything, and once with everything.
    let shared = DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
    let shared =
        shared.with_local_net("10.0.0.0/24".parse().unwrap()).with_tunnel_peers("fd00::/64".parse().unwrap());
    let all = Options::from(shared.with_workload_to_host(WorkloadToHost::HostPolicy));
    for (what, options) in [("the least", Options::new()), ("everything", all)] {
        let (lowering, update) =
            Lowering::load(options, DesiredState::new(compiler.snapshot(), &Bindings::new()), &()).unwrap();
        let mut sandbox = Sandbox::tracking(&lowering, &update).unwrap();
        let names = sandbox.verify().unwrap();
        println!("{what}: {} programs verified: {}", names.len(), names.join(" "));
        for attached in ["from_network", "from_workload", "to_network", "to_node", "to_workload"] {
            assert!(names.iter().any(|name| name == attached), "{attached} is not among {names:?}");
        }
    }
}
