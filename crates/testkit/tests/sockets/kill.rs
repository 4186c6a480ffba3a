//! The enforcing process is killed, at any moment, and the next one takes over.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::backend::{Binding, Bindings, Dataplane, DataplaneOptions, DesiredState, Interface};
use portcullis::backends;
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ebpf::AttachMode;
use portcullis::model::{EndpointId, Update};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;

use crate::backends::{UnderTest, Variants, bind, complete, interface, on_every_node};
use crate::ebpf::{on_a_node_with_bpf, under};
use crate::foreign::leftovers;
use crate::node::{Pod, carries, connect};
use crate::traffic::Traffic;
use crate::{ONLY_80, PODS, compiled};

/// What the child is told: the backend, how it gets onto interfaces, its diary, and each pod's interface, its index and
/// addresses.
const TOLD: &str = "PORTCULLIS_KILLED";
/// The diary: a start begins and ends, an update begins and ends.
const STARTS: u8 = b's';
const STARTED: u8 = b'S';
const UPDATES: u8 = b'u';
const UPDATED: u8 = b'U';

struct Killed {
    child: Child,
    diary: PathBuf,
}

impl Killed {
    fn spawn(pods: &[Pod], under: &UnderTest) -> Self {
        let diary = std::env::temp_dir().join(format!("portcullis-diary-{}", nix::unistd::gettid()));
        std::fs::write(&diary, "").unwrap();
        let pods = pods.iter().map(|pod| {
            let [v4, v6] = pod.addresses;
            let interface = interface(&pod.interface);
            format!(" {interface} {} {v4} {v6}", interface.index().unwrap())
        });
        let (backend, mode) = (under.backend.name(), under.attach_mode);
        let told = format!("{backend} {mode:?} {}{}", diary.display(), pods.collect::<String>());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::the_process_that_is_killed"])
            .env(TOLD, told)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, diary }
    }

    fn diary(&self) -> Vec<u8> {
        std::fs::read(&self.diary).unwrap()
    }

    fn wait_for_start(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while !self.diary().contains(&STARTED) {
            assert!(Instant::now() < deadline, "it does not start");
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it. What it was doing, and how many updates it had done.
    fn kill(mut self) -> (Option<u8>, usize) {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let diary = self.diary();
        (diary.last().copied(), diary.iter().filter(|entry| **entry == UPDATED).count())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(std::fs::remove_file(&self.diary));
    }
}

/// Policy of one step. All steps say the same about the two pods, by other classes, programs, tables and pages.
fn step(step: usize) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{PODS}{ONLY_80}");
    for number in 0..20 {
        write!(
            text,
            "\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: shop, labels: {{v: v{}}}}}\n\
             status: {{podIPs: [{{ip: 10.1.0.{number}}}]}}\n",
            (number + step) % 5
        )
        .unwrap();
    }
    for policy in 0..3 {
        write!(
            text,
            "\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: e{policy}, namespace: shop}}\n\
             spec:\n  podSelector: {{matchLabels: {{app: server}}}}\n  ingress:\n\
             \x20 - from: [{{podSelector: {{matchLabels: {{v: v{}}}}}}}, {{ipBlock: {{cidr: 10.{}.0.0/16}}}}]\n\
             \x20   ports: [{{port: {}}}]\n",
            (policy + step) % 5,
            20 + (policy * 7 + step) % 50,
            9_000 + (policy + step) % 9
        )
        .unwrap();
    }
    text
}

/// Not a test of its own: what runs in the process that is killed.
#[test]
fn the_process_that_is_killed() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let mut words = told.split(' ');
    let backend = backends::named(words.next().unwrap()).unwrap();
    let mode = match words.next().unwrap() {
        "Tcx" => AttachMode::Tcx,
        "Clsact" => AttachMode::Clsact,
        _ => AttachMode::Auto,
    };
    let under = UnderTest::new(backend, mode);
    let mut diary = OpenOptions::new().append(true).open(words.next().unwrap()).unwrap();
    let words: Vec<&str> = words.collect();
    let ids = ["client", "server"].map(|name| EndpointId::workload("shop", name));
    let mut bindings = Bindings::new();
    for (id, words) in ids.iter().zip(words.chunks(4)) {
        let addresses = words[2..].iter().map(|text| text.parse().unwrap());
        let interface = Interface::new(words[0]).unwrap().with_index(words[1].parse().unwrap());
        bindings.bind(id.clone(), Binding::workload(interface, addresses));
    }
    let steps: Vec<Vec<Update>> = (0..6)
        .map(|number| {
            let scenario = Scenario::parse("step", &step(number), LoadOptions::new()).unwrap();
            let mut cluster = scenario.cluster().clone();
            for (id, words) in ids.iter().zip(words.chunks(4)) {
                let mut endpoint = cluster.endpoints()[id].clone();
                endpoint.addresses = words[2..].iter().map(|text| text.parse().unwrap()).collect();
                cluster.apply(Update::Endpoint(endpoint));
            }
            cluster.updates().collect()
        })
        .collect();
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    steps[0].iter().for_each(|update| compiler.apply(update.clone()).unwrap());
    let _ = compiler.commit();
    let mut dataplane = open(&under);
    diary.write_all(&[STARTS]).unwrap();
    complete(&dataplane.load(DesiredState::new(compiler.snapshot(), &bindings)).unwrap());
    diary.write_all(&[STARTED]).unwrap();
    let begin = Instant::now();
    for updates in steps.iter().cycle().skip(1) {
        updates.iter().for_each(|update| compiler.apply(update.clone()).unwrap());
        let delta = compiler.commit();
        diary.write_all(&[UPDATES]).unwrap();
        complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
        diary.write_all(&[UPDATED]).unwrap();
        // Nobody is there any more who would kill it.
        assert!(begin.elapsed() < Duration::from_secs(180));
    }
}

/// The dataplane of the process that is killed. Where flows have a table of ours, it is mostly of another size than the last;
/// large enough for all that comes while a kill waits for a grace period of the kernel, which under this load has taken a
/// minute.
fn open(under: &UnderTest) -> Box<dyn Dataplane> {
    under.clone().with_flows(65_536 << (std::process::id() % 3)).open(DataplaneOptions::new())
}

fn kills(under: &[UnderTest; 2], pods: &[Pod]) {
    let (open, ids) = compiled(PODS, pods);
    let to = pods[1].addresses[0];
    let bindings = bind(pods, &ids);
    let before = leftovers(pods);
    drop(under[0].load(DataplaneOptions::new(), &open, &bindings));
    // What policy does not allow any more goes on, as far as the table of flows goes.
    let mut established = pods[0].run(move || connect(to, 8080)).recv().unwrap();
    // The machine is busy.
    established.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(carries(&mut established));
    let mut process = Killed::spawn(pods, &under[0]);
    process.wait_for_start();
    let traffic = Traffic::start(&pods[0], to);
    let (mut in_starts, mut in_updates, mut updates) = (0, 0, 0);
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    // Of each kind: a long run has some more.
    let kills = std::env::var("PORTCULLIS_KILLS").map_or(12, |number| number.parse().unwrap());
    for (kill, next) in (0..kills).zip(under.iter().cycle().skip(1)) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = random >> 33;
        // Every third while it starts: that takes some time, with eBPF mostly of the parser.
        if kill % 3 == 2 {
            let deadline = Instant::now() + Duration::from_secs(180);
            while process.diary().is_empty() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            let takes = if under[0].backend.name() == "ebpf" { 60_000 } else { 5_000 };
            std::thread::sleep(Duration::from_micros(wait % takes));
        } else {
            process.wait_for_start();
            std::thread::sleep(Duration::from_micros(wait % 200_000));
        }
        let (last, done) = process.kill();
        updates += done;
        in_starts += usize::from(last == Some(STARTS));
        in_updates += usize::from(last == Some(UPDATES));
        // With nobody there.
        std::thread::sleep(Duration::from_micros((wait >> 8) % 100_000));
        assert!(carries(&mut established), "kill {kill}: an established flow was dropped");
        process = Killed::spawn(pods, next);
    }
    process.wait_for_start();
    drop(process);
    let counts = traffic.finish();
    eprintln!(
        "{}, {}: {kills} kills, {in_starts} of them in a start, {in_updates} in an update of {updates}: {counts:?}",
        under[0], under[1]
    );
    assert!(carries(&mut established));
    assert!(counts.moved.is_some_and(|moved| moved > 1_000), "the transfer broke off");
    assert!(counts.allowed > 100 && counts.datagrams > 5_000 && counts.forbidden > 5);
    assert!(in_updates > 0 && in_starts > 0 && updates > 5);
    assert_eq!(counts.wrong, 0);
    under[0].open(DataplaneOptions::new()).remove().unwrap();
    assert_eq!(leftovers(pods), before);
}

#[test]
fn kills_leave_policy_in_force() {
    on_every_node(2, Variants::AttachModes, |under, pods| kills(&[under.clone(), under.clone()], pods));
}

/// From links to filters and back.
#[test]
fn kills_leave_policy_in_force_between_tcx_and_clsact() {
    on_a_node_with_bpf(2, |pods, _| {
        kills(&[AttachMode::Tcx, AttachMode::Clsact].map(under), pods);
    });
}
