//! The contract on every backend of the registry, under real sockets.

use std::net::{IpAddr, TcpStream};

use portcullis::backend::{Dataplane, DataplaneOptions, Interface};

use crate::backends::{UnderTest, Variants, interface, on_every_node};
use crate::contract::{CONTRACT, Rig};
use crate::node::{Pod, carries, connect, ip, udp};

struct Node<'a> {
    under: &'a UnderTest,
    pods: &'a [Pod],
    /// As they were made, also those that are gone.
    interfaces: Vec<Interface>,
    flows: Vec<TcpStream>,
}

impl Rig for Node<'_> {
    fn open(&mut self, options: DataplaneOptions) -> Box<dyn Dataplane> {
        self.under.open(options)
    }

    fn interface(&self, pod: usize) -> Interface {
        self.interfaces[pod].clone()
    }

    fn addresses(&self, pod: usize) -> [IpAddr; 2] {
        self.pods[pod].addresses
    }

    fn send(&mut self, from: usize, to: usize, port: u16) -> bool {
        let to = self.pods[to].addresses[0];
        self.pods[from].run(move || udp(to, port)).recv().unwrap()
    }

    fn begin(&mut self, from: usize, to: usize, port: u16) -> usize {
        let to = self.pods[to].addresses[0];
        self.flows.push(self.pods[from].run(move || connect(to, port)).recv().unwrap());
        let flow = self.flows.len() - 1;
        assert!(self.goes_on(flow));
        flow
    }

    fn goes_on(&mut self, flow: usize) -> bool {
        // A machine that is busy is late.
        (0..3).any(|_| carries(&mut self.flows[flow]))
    }

    fn hooks_interfaces(&self) -> bool {
        self.under.backend.name() != "nftables"
    }

    fn lose(&mut self, pod: usize) {
        ip(&format!("link del {}\n", self.pods[pod].interface));
    }
}

/// Every so many of the checks, so that several run at a time.
fn keeps_the_contract<const PART: usize>() {
    for (promise, check) in CONTRACT.iter().skip(PART).step_by(PARTS) {
        eprintln!("{promise}");
        on_every_node(3, Variants::Default, |under, pods| {
            let interfaces = pods.iter().map(|pod| interface(&pod.interface)).collect();
            check(&mut Node { under, pods, interfaces, flows: Vec::new() });
        });
    }
}

const PARTS: usize = 4;

#[test]
fn every_backend_keeps_the_contract_part_1() {
    keeps_the_contract::<0>();
}

#[test]
fn every_backend_keeps_the_contract_part_2() {
    keeps_the_contract::<1>();
}

#[test]
fn every_backend_keeps_the_contract_part_3() {
    keeps_the_contract::<2>();
}

#[test]
fn every_backend_keeps_the_contract_part_4() {
    keeps_the_contract::<3>();
}
