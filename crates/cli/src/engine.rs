//! The engines that `--engine` names.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use portcullis::backends::{self, Backend};

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Auto,
    Reference,
    Matcher,
    /// The kernel, through a backend of the registry.
    Kernel(&'static Backend),
}

impl Engine {
    /// Those that need no kernel, with their names and what they are.
    const PLAIN: [(Self, &'static str, &'static str); 3] = [
        (
            Self::Auto,
            "auto",
            "The matcher for many flows, the reference where it is sooner or has to explain: the answers are the same",
        ),
        (Self::Reference, "reference", "The plain evaluator that defines what policy means"),
        (Self::Matcher, "matcher", "The compiled in-process matcher"),
    ];

    /// Reads the name of an engine.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        let plain = Self::PLAIN.map(|(_, name, help)| PossibleValue::new(name).help(help));
        let kernel = backends::ALL.iter().map(|backend| {
            let help =
                format!("{} (root; feature kernel-engines, on unless built without)", backend.summary());
            PossibleValue::new(backend.name()).help(help)
        });
        PossibleValuesParser::new(plain.into_iter().chain(kernel)).try_map(|name| {
            let plain = Self::PLAIN.into_iter().find(|(_, plain, _)| *plain == name);
            let kernel = || backends::named(&name).map(Self::Kernel);
            plain
                .map(|(engine, ..)| engine)
                .or_else(kernel)
                .ok_or_else(|| format!("there is no engine `{name}`"))
        })
    }
}
