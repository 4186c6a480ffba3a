//! All engines at once.

use alloc::collections::BTreeMap;
use core::cell::{Cell, RefCell};

use portcullis::backend::{Oracle, OracleErrorKind};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::evaluate::Evaluate;
use portcullis::ir::{Interpreter, View};
use portcullis::model::{Cluster, EndpointId};
use portcullis::packet::Packet;
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::shadow::{Found, Shadow};
use portcullis::verdict::{Decision, Hook};
use portcullis_matcher::Matcher;

use crate::kernel::{kernel_can_be_asked, wanted_backends};

/// Answers as the reference evaluator does, and notes where another engine says something else: verdict, cause or log
/// entries.
pub struct Engines<'a> {
    reference: Reference<'a>,
    compiled: Compiler,
    matcher: Matcher,
    /// As root only: one for each backend, with its name.
    oracles: Vec<(&'static str, Box<dyn Oracle>)>,
    asked: Cell<usize>,
    by_kernel: RefCell<BTreeMap<&'static str, usize>>,
    differences: RefCell<Vec<String>>,
}

impl core::fmt::Debug for Engines<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Engines(asked {}, by the kernel {:?})", self.asked.get(), self.by_kernel.borrow())
    }
}

impl<'a> Engines<'a> {
    /// Compiles `cluster` for every engine.
    ///
    /// # Errors
    /// What the compiler or a backend refuses, one line.
    pub fn new(cluster: &'a Cluster, settings: &'a Settings) -> Result<Self, String> {
        let compiled = Compiler::from_cluster(cluster.clone(), settings.clone(), CompileScope::All)
            .map_err(|error| format!("the compiler refuses: {error}"))?;
        let matcher =
            Matcher::lower(compiled.snapshot()).map_err(|error| format!("the matcher refuses: {error}"))?;
        let mut oracles = Vec::new();
        if kernel_can_be_asked() {
            for backend in wanted_backends() {
                let oracle = backend.oracle(compiled.snapshot(), View::Enforced);
                oracles.push((backend.name(), oracle.map_err(|error| error.to_string())?));
            }
        }
        let reference = Reference::new(cluster, settings);
        let by_kernel = oracles.iter().map(|(name, _)| (*name, 0)).collect();
        Ok(Self {
            reference,
            compiled,
            matcher,
            oracles,
            asked: Cell::new(0),
            by_kernel: RefCell::new(by_kernel),
            differences: RefCell::default(),
        })
    }

    /// How many packets were asked about.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.get()
    }

    /// How many of them each backend decided on the kernel, too, by its name: without root there are no backends.
    #[must_use]
    pub fn by_kernel(&self) -> BTreeMap<&'static str, usize> {
        self.by_kernel.borrow().clone()
    }

    /// Keeps a difference that the engine called `name` has.
    fn note(&self, name: &str, found: &Found<'_>) {
        let Found { endpoint, hook, packet, answered, watched } = found;
        let line = format!("{endpoint} {hook} {packet:?}: the {name} says {watched:?}, not {answered:?}");
        self.differences.borrow_mut().push(line);
    }

    /// The differences so far, one line each.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        self.differences.borrow().clone()
    }
}

impl Evaluate for Engines<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        let differs = |name: &'static str| move |found: &Found<'_>| self.note(name, found);
        let tables = Interpreter::new(self.compiled.snapshot());
        let engines = Shadow::new(&self.reference, tables, differs("IR"));
        let engines = Shadow::new(engines, &self.matcher, differs("matcher"));
        let answered = engines.evaluate(endpoint, hook, packet);
        for (name, oracle) in &self.oracles {
            match oracle.ask(endpoint, hook, packet) {
                Ok(watched) => {
                    let mut counts = self.by_kernel.borrow_mut();
                    let count = counts.entry(name).or_default();
                    *count = count.saturating_add(1);
                    if watched != answered {
                        self.note(
                            name,
                            &Found { endpoint, hook, packet, answered: &answered, watched: &watched },
                        );
                    }
                }
                Err(error) if error.kind() == OracleErrorKind::Unaskable => {}
                Err(error) => {
                    let line = format!("{endpoint} {hook} {packet:?}: {name}: {error}");
                    self.differences.borrow_mut().push(line);
                }
            }
        }
        self.asked.set(self.asked.get().saturating_add(1));
        answered
    }
}

#[cfg(test)]
mod tests {
    use portcullis::evaluate::Evaluate as _;
    use portcullis::model::Cluster;
    use portcullis::settings::Settings;
    use portcullis::verdict::Hook;

    use super::Engines;
    use crate::generate::Generator;

    #[test]
    fn engines_agree_and_a_difference_is_kept() {
        let mut generator = Generator::new(7);
        let cluster: Cluster = generator.cluster().into_iter().collect();
        let settings = Settings::default();
        let mut engines = Engines::new(&cluster, &settings).unwrap();
        let packets: Vec<_> = (0..50).map(|_| generator.packet()).collect();
        let ask = |engines: &Engines<'_>| {
            for id in cluster.endpoints().keys() {
                packets.iter().for_each(|packet| drop(engines.evaluate(id, Hook::WorkloadIngress, packet)));
            }
        };
        ask(&engines);
        assert_eq!(engines.asked(), packets.len() * cluster.endpoints().len());
        assert_eq!(engines.differences(), Vec::<String>::new());
        // A matcher of nothing denies everything, with another cause.
        engines.matcher = portcullis_matcher::Matcher::lower(&portcullis::ir::Snapshot::new()).unwrap();
        ask(&engines);
        assert!(engines.differences().iter().any(|line| line.contains("the matcher says")));
        assert!(engines.differences().iter().all(|line| !line.contains("the IR says")));
    }
}
