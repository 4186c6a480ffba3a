//! All engines at once.

use core::cell::{Cell, RefCell};

use portcullis::compile::{CompileScope, Engine};
use portcullis::flow::DecideHook;
use portcullis::ir::{Interpreter, View};
use portcullis::model::{Cluster, EndpointId};
use portcullis::nftables::oracle::Oracle;
use portcullis::packet::Packet;
use portcullis::reference::{Reference, Settings};
use portcullis::verdict::{Decision, Hook};
use portcullis_matcher::Matcher;

use crate::kernel::kernel_can_be_asked;

/// Answers as the reference evaluator does, and notes where another engine says something else: verdict, cause or log
/// entries.
#[derive(Debug)]
pub struct Engines<'a> {
    reference: Reference<'a>,
    compiled: Engine,
    matcher: Matcher,
    /// As root only.
    oracle: Option<Oracle>,
    asked: Cell<usize>,
    by_kernel: Cell<usize>,
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
        let load = || Oracle::load(compiled.snapshot().clone(), View::Enforced);
        let oracle = kernel_can_be_asked().then(load).transpose();
        let oracle = oracle.map_err(|error| format!("the kernel refuses: {error}"))?;
        let reference = Reference::new(cluster, settings);
        let (asked, by_kernel) = (Cell::new(0), Cell::new(0));
        Ok(Self { reference, compiled, matcher, oracle, asked, by_kernel, differences: RefCell::default() })
    }

    /// How many packets were asked about.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.get()
    }

    /// How many of them the kernel decided, too: none without root.
    #[must_use]
    pub fn by_kernel(&self) -> usize {
        self.by_kernel.get()
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
        let by_kernel = self.oracle.as_ref().map(|oracle| oracle.ask(endpoint, hook, packet));
        let by_kernel = by_kernel.and_then(|answer| match answer {
            Ok(decision) => {
                self.by_kernel.set(self.by_kernel.get().saturating_add(1));
                Some(decision)
            }
            Err(error) if error.is_unaskable() => None,
            Err(error) => {
                let line = format!("{endpoint} {hook} {packet:?}: the kernel: {error}");
                self.differences.borrow_mut().push(line);
                None
            }
        });
        let others = [
            ("IR", Interpreter::new(self.compiled.snapshot()).decide(endpoint, hook, packet)),
            ("matcher", self.matcher.decide_hook(endpoint, hook, packet)),
        ];
        let others = others.into_iter().chain(by_kernel.map(|decision| ("kernel", decision)));
        for (name, got) in others.filter(|(_, got)| *got != want) {
            let line = format!("{endpoint} {hook} {packet:?}: the {name} says {got:?}, not {want:?}");
            self.differences.borrow_mut().push(line);
        }
        self.asked.set(self.asked.get().saturating_add(1));
        want
    }
}
