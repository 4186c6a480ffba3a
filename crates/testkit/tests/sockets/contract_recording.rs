//! The contract on the recording backend, and what only that one can be told to do.

use std::net::IpAddr;

use portcullis::backend::{
    Bindings, Dataplane, DataplaneErrorKind, DataplaneOptions, DesiredState, Interface,
};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::model::{Endpoint, EndpointId, Update};
use portcullis::packet::{Packet, Protocol};
use portcullis::settings::Settings;
use portcullis_testkit::recording::Recorder;

use crate::contract::{CONTRACT, Rig};

#[derive(Default)]
struct Recordings {
    recorder: Recorder,
    flows: Vec<(usize, usize, Packet)>,
}

impl Recordings {
    fn pass(&self, from: usize, to: usize, packet: &Packet) -> bool {
        let [from, to] = [from, to].map(|pod| self.interface(pod));
        self.recorder.send(from.name(), to.name(), packet)
    }

    fn packet(&self, from: usize, to: usize, protocol: Protocol, port: u16) -> Packet {
        Packet::new(self.addresses(from)[0], self.addresses(to)[0], protocol).to_port(port)
    }
}

impl Rig for Recordings {
    fn open(&mut self, options: DataplaneOptions) -> Box<dyn Dataplane> {
        self.recorder.open(options)
    }

    fn interface(&self, pod: usize) -> Interface {
        Interface::new(&format!("cali{pod}")).unwrap()
    }

    fn addresses(&self, pod: usize) -> [IpAddr; 2] {
        [format!("10.0.9.{}", 10 + pod), format!("fd00:9::{}", 10 + pod)].map(|text| text.parse().unwrap())
    }

    fn send(&mut self, from: usize, to: usize, port: u16) -> bool {
        let source_port = 10_000 + u16::try_from(self.flows.len()).unwrap();
        let packet = self.packet(from, to, Protocol::UDP, port).from_port(source_port);
        self.flows.push((from, to, packet.clone()));
        self.pass(from, to, &packet)
    }

    fn begin(&mut self, from: usize, to: usize, port: u16) -> usize {
        let packet = self.packet(from, to, Protocol::TCP, port);
        assert!(self.pass(from, to, &packet));
        self.flows.push((from, to, packet));
        self.flows.len() - 1
    }

    fn goes_on(&mut self, flow: usize) -> bool {
        let (from, to, packet) = &self.flows[flow];
        self.pass(*from, *to, packet)
    }

    fn hooks_interfaces(&self) -> bool {
        true
    }

    fn lose(&mut self, pod: usize) {
        self.recorder.lose(self.interface(pod).name());
    }
}

#[test]
fn the_recording_backend_keeps_the_contract() {
    for (promise, check) in CONTRACT {
        eprintln!("recording: {promise}");
        check(&mut Recordings::default());
    }
}

#[test]
fn a_refused_write_leaves_what_was_there_and_the_next_update_makes_up_for_it() {
    let recorder = Recorder::default();
    let mut dataplane = recorder.open(DataplaneOptions::new());
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    let bindings = Bindings::new();
    let _ = dataplane.load(DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
    recorder.refuse_after(1);
    let in_force = || recorder.generation();
    for (refused, generation) in [(false, 1), (true, 1), (false, 3)] {
        let pod = EndpointId::workload("shop", format!("p{}", compiler.snapshot().generation).as_str());
        compiler.apply(Update::Endpoint(Endpoint::new(pod))).unwrap();
        let delta = compiler.commit();
        let applied = dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta);
        assert_eq!(applied.is_err(), refused);
        assert!(applied.err().is_none_or(|error| error.kind() == DataplaneErrorKind::Refused));
        assert_eq!(in_force(), Some(generation));
    }
    // What is taken away from outside is noticed and brought back.
    recorder.tamper();
    let health = dataplane.maintain(DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
    assert_eq!((health.repaired.len(), in_force()), (1, Some(3)));
}
