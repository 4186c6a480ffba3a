//! An answer for every port is the answer for each port.

use portcullis::matcher::Matcher;
use portcullis::model::Update;
use portcullis::scenario::{Evaluator, Flow, Peer, Scenario};
use portcullis_testkit::generate::Generator;

/// Clusters that are asked about; each flow of one asks about all of its ports.
const CLUSTERS: u64 = 120;

#[test]
fn an_answer_for_every_port_is_the_answer_for_each() {
    let (mut flows, mut parted) = (0, 0);
    for seed in 0..CLUSTERS {
        let mut generator = Generator::new(seed);
        let updates: Vec<Update> = (0..3).flat_map(|_| generator.cluster()).collect();
        let settings = generator.settings();
        let scenario: Scenario = updates.into_iter().collect();
        let Ok(compiled) = scenario.compile(&settings) else { continue };
        let matcher = Matcher::lower(compiled.snapshot()).unwrap_or_else(|error| panic!("{error}"));
        let evaluator = Evaluator::new(&scenario, &settings);
        let addresses: Vec<_> = scenario
            .cluster()
            .endpoints()
            .values()
            .flat_map(|e| e.addresses.first().copied())
            .take(4)
            .collect();
        for (from, to) in addresses.iter().zip(addresses.iter().rev()) {
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            let flow = Flow::new(Peer::Address(*from), Peer::Address(*to));
            let ask =
                |flow: &Flow| evaluator.answer(&matcher, flow).unwrap_or_else(|error| panic!("{error}"));
            let whole = ask(&flow);
            flows += 1;
            parted += u32::from(whole.parts().len() > 1);
            let covered: u32 = whole
                .parts()
                .iter()
                .filter(|part| part.source_ports == whole.parts()[0].source_ports)
                .flat_map(|part| part.ports.iter().flat_map(|ports| ports.ranges()))
                .map(|(first, last)| u32::from(last - first) + 1)
                .sum();
            assert_eq!(covered, 65_535, "seed {seed}: every port once");
            for part in whole.parts() {
                for (first, last) in part.ports.iter().flat_map(|ports| ports.ranges()) {
                    // All of them where a range is short, and its edges and every 997th elsewhere.
                    let step = if last - first < 64 { 1 } else { 997 };
                    for port in (*first..=*last).step_by(step).chain([*last]) {
                        let flow =
                            flow.clone().with_port(port).with_source_port(part.resolved.packet.source_port);
                        let one = ask(&flow);
                        assert_eq!(
                            one.parts()[0].decision,
                            part.decision,
                            "seed {seed}: {from} to {to} {port}"
                        );
                    }
                }
            }
        }
    }
    assert!(flows > 20, "only {flows} flows");
    assert!(parted > 10, "only {parted} of {flows} flows tell ports apart");
}
