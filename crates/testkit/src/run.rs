//! Running a case on every engine.

use alloc::collections::BTreeMap;

use portcullis::ir::{Interpreter, View};
use portcullis::label::Labels;
use portcullis::path::{End, FlowDecision, Side};
use portcullis::reference::Reference;
use portcullis::scenario::{Answer, Evaluator, Flow, LoadOptions, Part, Scenario};
use portcullis::selector::Selector;
use portcullis::settings::StagedPolicies;
use portcullis::verdict::Verdict;
use portcullis_matcher::Matcher;
use serde_json::Value;

use crate::case::{Case, Expectation, FlowCase};
use crate::kernel::{Kernel, kernel_can_be_asked, wanted_backends};

/// What came of a case.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Number of single checks.
    pub checks: usize,
    /// For each backend by its name: packets that the kernel decided, and packets that it could not be asked about. Without
    /// root there are none.
    pub kernel: BTreeMap<&'static str, (usize, usize)>,
    /// What was not as expected, one line each.
    pub failures: Vec<String>,
}

impl Outcome {
    fn check(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        self.checks = self.checks.saturating_add(1);
        if !holds {
            self.failures.push(failure());
        }
    }
}

/// Runs `case`.
#[must_use]
pub fn run(case: &Case) -> Outcome {
    let mut outcome = Outcome::default();
    match Scenario::parse(&case.name, &case.objects, LoadOptions::new()) {
        Ok(scenario) => {
            for text in &case.warnings {
                let found = scenario.warnings().iter().any(|warning| warning.contains(text));
                outcome.check(found, || format!("no warning says `{text}`: {:?}", scenario.warnings()));
            }
            flows(case, &scenario, &mut outcome);
        }
        Err(error) => outcome.check(false, || format!("the objects are refused: {error}")),
    }
    for manifest in &case.accept {
        let text = format!("{}\n---\n{manifest}", case.objects);
        let result = Scenario::parse("case", &text, LoadOptions::new());
        outcome.check(result.is_ok(), || {
            format!(
                "refused: {}: {}",
                last_line(manifest),
                result.err().map(|e| e.to_string()).unwrap_or_default()
            )
        });
    }
    for (manifest, said) in &case.refuse {
        let text = format!("{}\n---\n{manifest}", case.objects);
        match Scenario::parse("case", &text, LoadOptions::new()) {
            Ok(_) => outcome.check(false, || format!("accepted: {}", last_line(manifest))),
            Err(error) => {
                let error = error.to_string();
                for text in said {
                    outcome.check(error.contains(text), || {
                        format!("{}: `{text}` is not in: {error}", last_line(manifest))
                    });
                }
                outcome.check(error.starts_with("case:"), || format!("no file in: {error}"));
            }
        }
    }
    for selector in &case.selectors {
        self::selector(selector, &mut outcome);
    }
    outcome
}

fn last_line(manifest: &str) -> &str {
    let line = manifest.trim_end().lines().next_back().unwrap_or_default().trim();
    line.get(..200).unwrap_or(line)
}

fn flows(case: &Case, scenario: &Scenario, outcome: &mut Outcome) {
    let settings = scenario.settings().clone();
    let staged_settings = settings.clone().with_staged(StagedPolicies::Enforce);
    let (reference, staged_reference) =
        (Reference::new(scenario.cluster(), &settings), Reference::new(scenario.cluster(), &staged_settings));
    let evaluator = Evaluator::new(scenario, &settings);
    let compiler = match scenario.compile(&settings) {
        Ok(compiler) => compiler,
        Err(error) => {
            outcome.check(false, || format!("the compiler refuses: {error}"));
            return;
        }
    };
    let interpreter = Interpreter::new(compiler.snapshot());
    let matcher = match Matcher::lower(compiler.snapshot()) {
        Ok(matcher) => matcher,
        Err(error) => {
            outcome.check(false, || format!("the matcher refuses: {error}"));
            return;
        }
    };
    // Where nothing is staged, both views are one.
    let is_staged = compiler.snapshot().endpoints.values().any(|entry| entry.staged.is_some());
    let wanted = kernel_can_be_asked() && !case.flows.is_empty();
    let mut kernels = Vec::new();
    for backend in wanted_backends().into_iter().filter(|_| wanted) {
        let load = |view, otherwise| Kernel::load(backend, compiler.snapshot(), view, otherwise);
        let both = load(View::Enforced, &reference).and_then(|enforced| {
            Ok((
                backend.name(),
                enforced,
                is_staged.then(|| load(View::Staged, &staged_reference)).transpose()?,
            ))
        });
        match both {
            Ok(both) => kernels.push(both),
            Err(error) => outcome.check(false, || error),
        }
    }
    for FlowCase { flow: line, expect, staged } in &case.flows {
        let plan = Flow::from_json(line).and_then(|flow| evaluator.plan(&flow));
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                let wanted = expect.0.get("error").and_then(Value::as_str);
                let said = error.to_string();
                outcome
                    .check(wanted.is_some_and(|wanted| said.contains(wanted)), || format!("{line}: {said}"));
                continue;
            }
        };
        let answer = evaluator.decide(&reference, &plan);
        judge(line, expect, &answer, outcome);
        let compiled = evaluator.decide(&interpreter, &plan);
        outcome.check(compiled == answer, || format!("{line}: the IR says {compiled:?}\nnot {answer:?}"));
        let matched = evaluator.decide(&matcher, &plan);
        outcome.check(matched == answer, || format!("{line}: the matcher says {matched:?}\nnot {answer:?}"));
        for (name, kernel, _) in &kernels {
            let decided = evaluator.decide(kernel, &plan);
            outcome.check(decided == answer, || format!("{line}: {name} says {decided:?}\nnot {answer:?}"));
        }
        let answer = evaluator.decide(&staged_reference, &plan);
        for (name, _, kernel) in &kernels {
            let Some(kernel) = kernel else { continue };
            let decided = evaluator.decide(kernel, &plan);
            outcome.check(decided == answer, || {
                format!("staged {line}: {name} says {decided:?}\nnot {answer:?}")
            });
        }
        if let Some(staged) = staged {
            judge(&format!("staged {line}"), staged, &answer, outcome);
        }
        let compiled = evaluator.decide(&interpreter.with_view(View::Staged), &plan);
        outcome
            .check(compiled == answer, || format!("staged {line}: the IR says {compiled:?}\nnot {answer:?}"));
        let matched = evaluator.decide(&matcher.view(View::Staged), &plan);
        outcome.check(matched == answer, || {
            format!("staged {line}: the matcher says {matched:?}\nnot {answer:?}")
        });
    }
    for (name, enforced, staged) in &kernels {
        let (asked, unasked) = outcome.kernel.entry(name).or_default();
        for kernel in [enforced].into_iter().chain(staged) {
            *asked = asked.saturating_add(kernel.asked());
            *unasked = unasked.saturating_add(kernel.unasked());
            outcome.failures.extend(kernel.faults().into_iter().map(|fault| format!("{name}: {fault}")));
        }
    }
}

/// Compares what is expected with an answer of the reference.
fn judge(line: &str, expect: &Expectation, answer: &Answer, outcome: &mut Outcome) {
    let whole = || describe(answer);
    for (key, want) in &expect.0 {
        match key.as_str() {
            "verdict" => {
                let got = word(answer.verdict());
                outcome.check(want == got, || format!("{line}: {got}, not {want}: {}", whole()));
            }
            "egress" | "ingress" => {
                let decision = answer.deciding().map(|part| &part.decision);
                side(line, key, want, decision, outcome);
            }
            "service" => {
                let got = answer.service().map(|id| format!("{}/{}", id.namespace, id.name));
                outcome.check(want.as_str() == got.as_deref(), || {
                    format!("{line}: the service is {got:?}, not {want}")
                });
            }
            "warnings" => {
                for text in want.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    let found = answer.warnings().iter().any(|warning| warning.contains(text));
                    outcome.check(found, || {
                        format!("{line}: no warning says `{text}`: {:?}", answer.warnings())
                    });
                }
                let none = want.as_array().is_some_and(Vec::is_empty);
                outcome.check(!none || answer.warnings().is_empty(), || {
                    format!("{line}: there are warnings: {:?}", answer.warnings())
                });
            }
            "parts" => {
                let wanted = want.as_array().map(Vec::as_slice).unwrap_or_default();
                let (got, want) = (answer.parts().len(), wanted.len());
                outcome.check(got == want, || format!("{line}: {got} parts, not {want}: {}", whole()));
                for (want, part) in wanted.iter().filter_map(Value::as_object).zip(answer.parts()) {
                    for (key, want) in want {
                        self::part(line, key, want, part, outcome);
                    }
                }
            }
            other => outcome.check(false, || format!("{line}: unknown expectation `{other}`")),
        }
    }
}

fn part(line: &str, key: &str, want: &Value, part: &Part, outcome: &mut Outcome) {
    let packet = &part.resolved.packet;
    let end = |end: &End| match end {
        End::Endpoint(id) => id.to_string(),
        End::Node(node) => format!("node/{node}"),
        End::Outside => "outside".into(),
    };
    let got: Value = match key {
        "egress" | "ingress" => return side(line, key, want, Some(&part.decision), outcome),
        "verdict" => word(part.decision.verdict).into(),
        "from" => end(&part.resolved.from).into(),
        "to" => end(&part.resolved.to).into(),
        "source" => packet.source.to_string().into(),
        "destination" => packet.destination.to_string().into(),
        "port" => packet.destination_port.into(),
        "ports" => part.ports.as_ref().map(ToString::to_string).into(),
        other => {
            outcome.check(false, || format!("{line}: unknown expectation `{other}` of a part"));
            return;
        }
    };
    outcome.check(got == *want, || format!("{line}: {key} of the part {part} is {got}, not {want}"));
}

fn side(line: &str, key: &str, want: &Value, decision: Option<&FlowDecision>, outcome: &mut Outcome) {
    let side = decision
        .and_then(|answer| if key == "egress" { answer.egress.as_ref() } else { answer.ingress.as_ref() });
    match (want, side) {
        (Value::Null, None) => outcome.check(true, String::new),
        (Value::Object(want), Some(side)) => {
            for (field, want) in want {
                let got = field_of(side, field);
                outcome.check(got.as_ref() == Some(want), || {
                    format!("{line}: {key} {field} is {got:?}, not {want}: {}", side.decision.cause)
                });
            }
        }
        _ => outcome.check(false, || format!("{line}: {key} is {side:?}, not {want}")),
    }
}

fn field_of(side: &Side, field: &str) -> Option<Value> {
    let cause = &side.decision.cause;
    Some(match field {
        "verdict" => word(side.decision.verdict).into(),
        "cause" => cause.name().into(),
        "tier" => cause.tier().map(|tier| tier.as_str().to_owned()).into(),
        "policy" => cause.policy().map(ToString::to_string).into(),
        "rule" => cause.rule_index().map(|index| u64::try_from(index).unwrap_or(u64::MAX)).into(),
        "logs" => side.decision.logs.iter().map(|rule| format!("{} {}", rule.policy, rule.index)).collect(),
        _ => return None,
    })
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow | Verdict::Continue => "allow",
        Verdict::Deny => "deny",
        Verdict::Inspect => "inspect",
    }
}

fn describe(answer: &Answer) -> String {
    let side = |side: &Option<Side>| side.as_ref().map_or("-".into(), |side| side.decision.cause.to_string());
    let parts = answer.parts().iter().map(|part| {
        let FlowDecision { egress, ingress, .. } = &part.decision;
        format!("{part} egress: {}, ingress: {}", side(egress), side(ingress))
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn selector(want: &Value, outcome: &mut Outcome) {
    let text = want.get("text").and_then(Value::as_str).unwrap_or_default();
    let sets = |key: &str| want.get(key).and_then(Value::as_array).into_iter().flatten();
    match Selector::parse(text) {
        Err(error) => {
            let wanted = want.get("error").is_some() || want.get("valid") == Some(&Value::Bool(false));
            outcome.check(wanted, || format!("selector `{text}`: {error}"));
            if let Some(at) = want.get("at").or_else(|| want.get("error")).and_then(Value::as_u64) {
                let start = u64::try_from(error.span().start).unwrap_or(u64::MAX);
                outcome
                    .check(start == at, || format!("selector `{text}`: the error is at {start}, not {at}"));
            }
        }
        Ok(selector) => {
            let refused = want.get("error").is_some() || want.get("valid") == Some(&Value::Bool(false));
            outcome.check(!refused, || format!("selector `{text}` is accepted"));
            if let Some(canonical) = want.get("canonical").and_then(Value::as_str) {
                let got = selector.to_string();
                outcome.check(got == canonical, || {
                    format!("selector `{text}` prints `{got}`, not `{canonical}`")
                });
            }
            for (key, wanted) in [("yes", true), ("no", false)] {
                for set in sets(key).filter_map(Value::as_object) {
                    let labels: Labels =
                        set.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))).collect();
                    outcome.check(selector.matches(&labels) == wanted, || {
                        format!("selector `{text}` on {labels:?} is not {wanted}")
                    });
                }
            }
        }
    }
}
