//! All engines at once.

use core::cell::{Cell, RefCell};

use portcullis::compile::{CompileScope, Compiler};
use portcullis::evaluate::Evaluate;
use portcullis::ir::{Interpreter, View};
use portcullis::model::{Cluster, EndpointId};
use portcullis::packet::Packet;
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::verdict::{Decision, Hook};
use portcullis_matcher::Matcher;

use crate::kernel::{Dataplane, NoAnswer, Oracle, kernel_can_be_asked};

/// Answers as the reference evaluator does, and notes where another engine says something else: verdict, cause or log
/// entries.
#[derive(Debug)]
pub struct Engines<'a> {
    reference: Reference<'a>,
    compiled: Compiler,
    matcher: Matcher,
    /// As root only: one for each dataplane.
    oracles: Vec<(Dataplane, Oracle)>,
    asked: Cell<usize>,
    by_kernel: [Cell<usize>; Dataplane::ALL.len()],
    differences: RefCell<Vec<String>>,
}

impl<'a> Engines<'a> {
    /// Compiles `cluster` for every engine.
    ///
    /// # Errors
    /// What the compiler or a backend refuses, one line.
    pub fn new(cluster: &'a Cluster, settings: &'a Settings) -> Result<Self, String> {
        let mut compiled = Compiler::new(settings.clone(), CompileScope::All);
        for update in cluster.updates() {
            compiled.apply(update).map_err(|error| format!("the compiler refuses: {error}"))?;
        }
        compiled.commit();
        let matcher =
            Matcher::lower(compiled.snapshot()).map_err(|error| format!("the matcher refuses: {error}"))?;
        let mut oracles = Vec::new();
        if kernel_can_be_asked() {
            for dataplane in Dataplane::wanted() {
                oracles.push((dataplane, Oracle::load(dataplane, compiled.snapshot(), View::Enforced)?));
            }
        }
        let reference = Reference::new(cluster, settings);
        let (asked, by_kernel) = (Cell::new(0), Default::default());
        Ok(Self { reference, compiled, matcher, oracles, asked, by_kernel, differences: RefCell::default() })
    }

    /// How many packets were asked about.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.get()
    }

    /// How many of them each dataplane of [`Dataplane::ALL`] decided on the kernel, too: none without root.
    #[must_use]
    pub fn by_kernel(&self) -> [usize; Dataplane::ALL.len()] {
        self.by_kernel.each_ref().map(Cell::get)
    }

    /// The differences so far, one line each.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        self.differences.borrow().clone()
    }
}

impl Evaluate for Engines<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        let want = self.reference.decide(endpoint, hook, packet);
        let mut by_kernel = Vec::new();
        for (dataplane, count) in Dataplane::ALL.into_iter().zip(&self.by_kernel) {
            let Some((_, oracle)) = self.oracles.iter().find(|(one, _)| *one == dataplane) else { continue };
            match oracle.ask(endpoint, hook, packet) {
                Ok(decision) => {
                    count.set(count.get().saturating_add(1));
                    by_kernel.push((dataplane.name(), decision));
                }
                Err(NoAnswer::Unaskable) => {}
                Err(NoAnswer::Fault(error)) => {
                    let line = format!("{endpoint} {hook} {packet:?}: {}: {error}", dataplane.name());
                    self.differences.borrow_mut().push(line);
                }
            }
        }
        let others = [
            ("IR", Interpreter::new(self.compiled.snapshot()).decide(endpoint, hook, packet)),
            ("matcher", self.matcher.evaluate(endpoint, hook, packet)),
        ];
        let others = others.into_iter().chain(by_kernel);
        for (name, got) in others.filter(|(_, got)| *got != want) {
            let line = format!("{endpoint} {hook} {packet:?}: the {name} says {got:?}, not {want:?}");
            self.differences.borrow_mut().push(line);
        }
        self.asked.set(self.asked.get().saturating_add(1));
        want
    }
}
