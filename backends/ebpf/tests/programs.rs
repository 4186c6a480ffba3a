//! The programs of the object, before the kernel's verifier. As root only.

use portcullis_core::compile::{CompileScope, Engine};
use portcullis_core::reference::Settings;
use portcullis_ebpf::oracle::Sandbox;
use portcullis_ebpf::{Bindings, Options};
use portcullis_testkit::kernel_can_be_asked;

#[test]
fn the_verifier_accepts_every_program() {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let engine = Engine::new(Settings::default(), CompileScope::All);
    let (mut sandbox, _) = Sandbox::load(Options::new(), engine.snapshot(), &Bindings::new()).unwrap();
    let names = sandbox.verify().unwrap();
    println!("{} programs verified: {}", names.len(), names.join(" "));
    for attached in ["from_network", "from_workload", "to_network", "to_workload"] {
        assert!(names.iter().any(|name| name == attached), "{attached} is not among {names:?}");
    }
}
