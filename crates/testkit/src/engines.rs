//! All engines at once.

use core::cell::{Cell, RefCell};

use portcullis::compile::{CompileScope, Engine};
use portcullis::flow::DecideHook;
use portcullis::ir::Interpreter;
use portcullis::model::{Cluster, EndpointId};
use portcullis::packet::Packet;
use portcullis::reference::{Reference, Settings};
use portcullis::verdict::{Decision, Hook};
use portcullis_matcher::Matcher;

/// Answers as the reference evaluator does, and notes where another engine says something else: verdict, cause or log
/// entries.
#[derive(Debug)]
pub struct Engines<'a> {
    reference: Reference<'a>,
    compiled: Engine,
    matcher: Matcher,
    asked: Cell<usize>,
    differences: RefCell<Vec<String>>,
}

impl<'a> Engines<'a> {
    /// Compiles `cluster` for every engine.
    ///
    /// # Errors
    /// What the compiler or a backend refuses, one line.
    pub fn new(cluster: &'a Cluster, settings: &'a Settings) -> Result<Self, String> {
        let mut compiled = Engine::new(settings.clone(), CompileScope::All);
        for update in cluster.updates() {
            compiled.apply(update).map_err(|error| format!("the compiler refuses: {error}"))?;
        }
        compiled.commit();
        let matcher =
            Matcher::lower(compiled.snapshot()).map_err(|error| format!("the matcher refuses: {error}"))?;
        let reference = Reference::new(cluster, settings);
        Ok(Self { reference, compiled, matcher, asked: Cell::new(0), differences: RefCell::default() })
    }

    /// How many packets were asked about.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.get()
    }

    /// The differences so far, one line each.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        self.differences.borrow().clone()
    }
}

impl DecideHook for Engines<'_> {
    fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        let want = self.reference.decide(endpoint, hook, packet);
        let others = [
            ("IR", Interpreter::new(self.compiled.snapshot()).decide(endpoint, hook, packet)),
            ("matcher", self.matcher.decide_hook(endpoint, hook, packet)),
        ];
        for (name, got) in others.into_iter().filter(|(_, got)| *got != want) {
            let line = format!("{endpoint} {hook} {packet:?}: the {name} says {got:?}, not {want:?}");
            self.differences.borrow_mut().push(line);
        }
        self.asked.set(self.asked.get().saturating_add(1));
        want
    }
}
