//! What a start says about the machine: what is missing, and what does not go together with a dataplane.

use std::process::Command;

use portcullis::backend::{Bindings, DataplaneErrorKind, DataplaneOptions, DesiredState};
use portcullis::backends::{self, OpenError};

use crate::backends::{Variants, bind, on_every_node};
use crate::node::ip;
use crate::{PODS, compiled};

/// The backend whose load is tried without rights.
const TOLD: &str = "PORTCULLIS_WITHOUT_RIGHTS";

/// Started by the test below.
#[test]
fn a_process_without_rights() {
    let Ok(name) = std::env::var(TOLD) else { return };
    let backend = backends::ALL.iter().find(|backend| backend.name() == name).unwrap();
    let (compiler, _) = compiled(PODS, &[]);
    let bindings = Bindings::new();
    // Some ask the kernel when they are opened.
    let said = match backend.open(DataplaneOptions::new()) {
        Ok(mut dataplane) => {
            let error = dataplane.load(DesiredState::new(compiler.snapshot(), &bindings)).unwrap_err();
            assert_eq!(error.kind(), DataplaneErrorKind::Environment, "{error}");
            error.to_string()
        }
        Err(OpenError::Dataplane { source, .. }) => {
            assert_eq!(source.kind(), DataplaneErrorKind::Environment, "{source}");
            source.to_string()
        }
        Err(error) => panic!("{error}"),
    };
    println!("SAID: {said}");
}

/// Root by its number alone, without capabilities, as in a container.
#[test]
fn a_start_without_rights_names_the_capability() {
    on_every_node(1, Variants::Default, |under, _| {
        let name = under.backend.name();
        let mut wanted = vec!["CAP_NET_ADMIN"];
        if name == "ebpf" {
            wanted.extend(["CAP_BPF", "CAP_PERFMON"]);
        }
        let output = Command::new("setpriv")
            .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "start::a_process_without_rights", "--nocapture"])
            .env(TOLD, name)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.lines().find(|line| line.contains("SAID: ")).unwrap_or_else(|| panic!("{output:?}"));
        for capability in wanted {
            assert!(said.contains(capability), "{said}");
        }
        // Nothing is left.
        assert!(!std::path::Path::new("/sys/fs/bpf/portcullis").exists());
    });
}

#[test]
fn kube_proxy_in_mode_ipvs_is_told_where_it_is_not_supported() {
    on_every_node(1, Variants::Default, |under, pods| {
        let (compiler, ids) = compiled(PODS, pods);
        let bindings = bind(pods, &ids[..1]);
        for (has_ipvs, line) in
            [(true, "link add kube-ipvs0 type bridge\n"), (false, "link del kube-ipvs0\n")]
        {
            ip(line);
            let mut dataplane = under.open(DataplaneOptions::new());
            let applied = dataplane.load(DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
            assert!(applied.is_complete());
            let is_told = applied.warnings.iter().any(|warning| warning.contains("kube-ipvs0"));
            assert_eq!(is_told, has_ipvs && under.backend.name() == "nftables", "{:?}", applied.warnings);
            dataplane.remove().unwrap();
        }
    });
}
