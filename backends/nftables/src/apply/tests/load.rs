//! Tables of generated clusters: netlink and `nft` make the same of them, and `nft list` prints them.

use crate::apply::netlink::Netlink;
use crate::apply::{Nft, Transport};
use crate::{Existing, Lowering, Options};
use portcullis_core::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, Interface, LoggedEvents, Lower as _,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::Snapshot;
use portcullis_core::label::Name;
use portcullis_core::model::EndpointKind;
use portcullis_core::settings::Settings;
use portcullis_testkit::generate::Generator;

use super::{in_namespace, nft, tables};

pub(crate) fn compiler(generator: &mut Generator) -> Compiler {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for update in generator.cluster() {
        let _ = compiler.apply(update);
    }
    let _ = compiler.commit();
    compiler
}

pub(crate) fn bindings(snapshot: &Snapshot) -> Bindings {
    // There can be one endpoint for all interfaces.
    let mut all = false;
    let bind = |(number, id): (usize, &portcullis_core::model::EndpointId)| {
        let interface = Interface::new(&format!("e{number}")).unwrap();
        let address = format!("10.0.9.{number}").parse().unwrap();
        let other = format!("fd00::9:{number}").parse().unwrap();
        let binding = match id.kind {
            EndpointKind::Workload if number % 2 == 0 => Binding::workload(interface, [address, other]),
            EndpointKind::Workload => Binding::WorkloadAnyAddress { interface },
            EndpointKind::Host if number % 2 == 0 && !core::mem::replace(&mut all, true) => {
                Binding::AllInterfaces { interfaces: Vec::new() }
            }
            EndpointKind::Host => Binding::Host { interfaces: vec![interface] },
        };
        (id.clone(), binding)
    };
    snapshot.endpoints.keys().enumerate().map(bind).collect()
}

fn load(transport: &mut impl Transport, snapshot: &Snapshot, options: Options) -> Lowering {
    let table: Name = options.shared().name.clone();
    let (lowering, update) =
        Lowering::load(options, DesiredState::new(snapshot, &bindings(snapshot)), &Existing::default())
            .unwrap();
    for stage in update.stages() {
        transport.commit(&table, &stage.commands).unwrap_or_else(|error| {
            panic!("{error}\n{}", crate::text::text(&table, &stage.commands));
        });
    }
    lowering
}

pub(crate) fn options() -> Options {
    Options::from(
        DataplaneOptions::new()
            .with_events(LoggedEvents::Denied)
            .with_workload_interfaces(Interface::new("cali").unwrap())
            .with_local_net("10.0.9.0/24".parse().unwrap())
            .with_local_net("fd00::9:0/112".parse().unwrap()),
    )
}

#[test]
fn netlink_and_nft_make_the_same_table_and_nft_lists_it() {
    for seed in 0..40 {
        let snapshot = compiler(&mut Generator::new(seed)).snapshot().clone();
        let copy = snapshot.clone();
        let by_netlink = in_namespace(move || {
            load(&mut Netlink::open().unwrap(), &copy, options());
            let listed = tables();
            let saved = nft(&["list", "ruleset"]);
            nft(&["flush", "ruleset"]);
            let path = std::env::temp_dir().join(format!("portcullis-{}-{seed}", std::process::id()));
            std::fs::write(&path, saved).unwrap();
            nft(&["-f", path.to_str().unwrap()]);
            std::fs::remove_file(path).unwrap();
            (listed, tables())
        });
        let by_nft = in_namespace(move || {
            load(&mut Nft::probe().unwrap(), &snapshot, options());
            tables()
        });
        if let (Some((listed, reloaded)), Some(by_nft)) = (by_netlink, by_nft) {
            similar(&listed, &by_nft, seed);
            similar(&listed, &reloaded, seed);
        }
    }
}

/// Sets print their key as a type or as the fields it came from, and elements of hash tables in any order.
pub(crate) fn similar(left: &str, right: &str, seed: u64) {
    let lines = |text: &str| {
        let known = text.lines().filter(|line| !line.trim_start().starts_with("type"));
        let mut lines: Vec<String> = known
            .map(|line| {
                let mut words: Vec<&str> =
                    line.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect();
                if line.contains("elements = {") || line.trim_end().ends_with([',', '}']) {
                    words.sort_unstable();
                }
                words.join(" ")
            })
            .collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let (left_lines, right_lines) = (lines(left), lines(right));
    if left_lines != right_lines {
        let differs = left_lines.lines().zip(right_lines.lines()).find(|(a, b)| a != b);
        panic!("seed {seed}: {differs:?}\n{left}\n=====\n{right}");
    }
}
