//! Somebody else's tc program on an interface, and what is on one.

use std::process::Command;
use std::time::{Duration, Instant};

use aya::maps::Array;
use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use crate::node::Pod;

static OBJECT: &[u8] = aya::include_bytes_aligned!("foreign/foreign.bpf.o");

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// A link of TCX, before or after those that are there.
    TcxFirst,
    TcxLast,
    /// A filter of clsact, which is there already, in a priority of its own.
    Filter(u16),
}

/// What it says to packets that it does not drop.
pub(crate) const NEXT: i32 = -1;
pub(crate) const ACCEPT: i32 = 0;

/// A program that counts UDP packets and drops those to one port.
#[derive(Debug)]
pub(crate) struct Foreign {
    ebpf: Ebpf,
    _link: Option<FdLink>,
}

impl Foreign {
    /// Attaches it. A link goes with it, a filter stays until its interface goes.
    pub(crate) fn attach(pod: &Pod, direction: TcAttachType, at: At, port: u32, answer: i32) -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None).override_global("port", &port, true).override_global("answer", &answer, true);
        let mut ebpf = loader.load(OBJECT).unwrap();
        let program: &mut SchedClassifier = ebpf.program_mut("foreign").unwrap().try_into().unwrap();
        program.load().unwrap();
        let options = match at {
            At::TcxFirst => TcAttachOptions::TcxOrder(LinkOrder::first()),
            At::TcxLast => TcAttachOptions::TcxOrder(LinkOrder::last()),
            At::Filter(priority) => TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() }),
        };
        let id = program.attach_with_options(&pod.interface, direction, options).unwrap();
        let link = program.take_link(id).unwrap();
        let link = if matches!(at, At::Filter(_)) {
            std::mem::forget(link);
            None
        } else {
            Some(FdLink::try_from(link).unwrap())
        };
        Self { ebpf, _link: link }
    }

    /// How many UDP packets it has seen.
    pub(crate) fn seen(&self) -> u64 {
        let seen: Array<_, u64> = self.ebpf.map("seen").unwrap().try_into().unwrap();
        seen.get(&0, 0).unwrap()
    }
}

/// All programs on the pods' interfaces, and their clsact qdiscs. The kernel takes the link of a removed pin off later, when
/// it comes to it, after freeing the maps of programs that are gone; so while there is one of ours, it is asked again.
pub(crate) fn leftovers(pods: &[Pod]) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = attached(pods);
        let ours = found.iter().any(|line| line.contains("_workload") || line.contains("_network"));
        if !ours || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn attached(pods: &[Pod]) -> Vec<String> {
    let mut found = Vec::new();
    for Pod { interface, .. } in pods {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            // Kernels before 6.6 have no links to ask for.
            let (_, programs) = SchedClassifier::query_tcx(interface, direction).unwrap_or_default();
            found.extend(programs.iter().map(|p| format!("{interface}: link of {:?}", p.name_as_str())));
        }
        for what in
            [vec!["qdisc", "show"], vec!["filter", "show", "ingress"], vec!["filter", "show", "egress"]]
        {
            let arguments = [&what[..2], &["dev", interface], &what[2..]].concat();
            let output = Command::new("tc").args(arguments).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            found
                .extend(text.lines().filter(|l| !l.contains("noqueue")).map(|l| format!("{interface}: {l}")));
        }
    }
    found
}
