//! Live updates: objects come and go, each commit is a small delta, and the matcher follows it. The state before a commit
//! can be asked as well.
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "an example: a program that prints, with the standard library"
)]

use core::net::IpAddr;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::label::Labels;
use portcullis::matcher::Matcher;
use portcullis::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, Policy, PolicyId,
    Profile, ProfileOrigin, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::selector::Selector;
use portcullis::settings::Settings;
use portcullis::verdict::Hook;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut node = Node::new()?;
    node.commit("a profile for endpoints that no policy selects", [Update::Profile(open())])?;
    node.commit("the database", [pod("database", "database", 2)])?;
    node.commit("the web server", [pod("web", "web", 1)])?;
    node.commit("a policy for the database", [Update::Policy(only_web()?)])?;
    node.commit("a second web server, with labels that policy knows", [pod("web-2", "web", 3)])?;
    node.commit("the web server is relabelled", [pod("web", "batch", 1)])?;
    node.commit("the policy is gone", [Update::RemovePolicy(only_web()?.id)])
}

/// The policy engine of a node.
struct Node {
    compiler: Compiler,
    matcher: Matcher,
}

impl Node {
    fn new() -> Result<Self, Error> {
        let compiler = Compiler::new(Settings::default(), CompileScope::All);
        let matcher = Matcher::lower(compiler.snapshot())?;
        Ok(Self { compiler, matcher })
    }

    fn commit(&mut self, what: &str, updates: impl IntoIterator<Item = Update>) -> Result<(), Error> {
        for update in updates {
            self.compiler.apply(update)?;
        }
        let delta = self.compiler.commit();
        self.matcher = self.matcher.apply(&delta)?;

        println!(
            "{what}: {} prefixes, {} programs, {} tables changed",
            delta.addresses.len(),
            delta.programs.len(),
            delta.tables.len(),
        );
        let packet = Packet::new(address(1), address(2), Protocol::TCP).to_port(5432);
        let database = EndpointId::workload("shop", "database");
        if let Some(handle) = self.matcher.handle(&database) {
            let decision = self.matcher.decide(handle, Hook::WorkloadIngress, &packet);
            let before = self.compiler.previous().decide(&database, Hook::WorkloadIngress, &packet);
            println!(
                "  10.0.0.1 -> database: {} ({}), {} before",
                decision.verdict, decision.cause, before.verdict
            );
        }
        Ok(())
    }
}

fn pod(name: &str, app: &str, host: u8) -> Update {
    let mut endpoint = Endpoint::new(EndpointId::workload("shop", name));
    endpoint.labels.insert("app", app);
    endpoint.addresses = vec![address(host)];
    endpoint.profiles = vec![open().name];
    Update::Endpoint(endpoint)
}

/// Without a profile, an endpoint that no policy selects is denied everything.
fn open() -> Profile {
    Profile {
        name: "open".into(),
        ingress: vec![Rule::new(Action::Allow)],
        egress: vec![Rule::new(Action::Allow)],
        labels: Labels::new(),
        origin: ProfileOrigin::Implicit,
    }
}

fn address(host: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, host])
}

fn only_web() -> Result<Policy, Error> {
    let select = |text: &str| -> Result<EntitySelector, Error> {
        let expr = Selector::parse(text)?.into_expr();
        Ok(EntitySelector { kinds: EntityKinds::WORKLOAD, expr })
    };
    let mut rule = Rule::new(Action::Allow);
    rule.peers = vec![EntityMatch::select(select("app == 'web'")?)];
    let id = PolicyId::new("Policy", Some("shop".into()), "database");
    let mut policy = Policy::new(id, "default", select("app == 'database'")?, Directions::INGRESS);
    policy.ingress = vec![rule];
    Ok(policy)
}
