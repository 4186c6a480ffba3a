//! `portcullis eval`: what policy says to flows.

mod describe;
mod explain;
mod kernel;
mod many;
mod table;

use std::io::Write as _;
use std::process::ExitCode;

use portcullis::ir::View;
use portcullis::kernel::{KernelEngine, KernelError};
use portcullis::matcher::Matcher;
use portcullis::net::IpVersion;
use portcullis::packet::HttpRequest;
use portcullis::reference::{Reference, Settings, StagedPolicies};
use portcullis::scenario::{Answer, Evaluator, Flow, FlowError, Port, Report, Scenario};
use portcullis::verdict::Verdict;

use crate::args::{Engine, EvalArgs, FlowArgs, Output};
use crate::eval::kernel::InKernel;
use crate::failure::Failure;
use crate::load;
use crate::output::{Colour, stdout};

/// Runs the command.
pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode, Failure> {
    let stdin = |path: &std::path::PathBuf| path.as_os_str() == "-";
    let uses = args.files.iter().chain(&args.flows).filter(|path| stdin(path)).count();
    if uses > 1 {
        return Err(Failure::Usage("standard input (`-`) can be read only once".into()));
    }
    if args.explain && matches!(args.output, Some(Output::Json | Output::Jsonl)) {
        return Err(Failure::Usage("`--explain` prints text; leave out `--output`".into()));
    }
    let scenario = load::scenario(&args.files, &args.readings, args.quiet)?;
    let settings = load::settings(&args.readings);
    let preview = Settings { staged: StagedPolicies::Enforce, ..settings.clone() };
    let evaluator = Evaluator::new(&scenario, &settings);
    let reference = Reference::new(scenario.cluster(), &settings);
    let staged = args.staged.then(|| Reference::new(scenario.cluster(), &preview));
    let engine = match args.engine {
        Engine::Reference => Decider::Reference,
        Engine::Matcher => Decider::Matcher(Box::new(lowered(&scenario, &settings)?)),
        Engine::Nftables => {
            Decider::Kernel(InKernel::load(KernelEngine::Nftables, &scenario, &settings, args.staged)?)
        }
        Engine::Ebpf => {
            Decider::Kernel(InKernel::load(KernelEngine::Ebpf, &scenario, &settings, args.staged)?)
        }
    };
    let judge = Judge { evaluator, engine, reference, staged };
    let denied = match &args.flows {
        Some(file) => many::run(&judge, args, file)?,
        None => single(&judge, args)?,
    };
    let code = if denied && args.fail_on_deny { DENIED } else { 0 };
    Ok(ExitCode::from(code))
}

/// The compiled policy in the form that the matcher looks up.
fn lowered(scenario: &Scenario, settings: &Settings) -> Result<Matcher, Failure> {
    let engine = scenario.compile(settings).map_err(|error| Failure::Input(error.to_string()))?;
    Matcher::lower(engine.snapshot())
        .map_err(|error| Failure::Environment(format!("the matcher refuses the compiled policy: {error}")))
}

/// The exit code of `--fail-on-deny`.
const DENIED: u8 = 4;

/// Answers flows, twice when staged policies are asked for.
pub(crate) struct Judge<'a> {
    evaluator: Evaluator<'a>,
    engine: Decider,
    reference: Reference<'a>,
    /// With staged policies enforced.
    staged: Option<Reference<'a>>,
}

/// Who decides. Whoever it is, the reference explains.
enum Decider {
    Reference,
    Matcher(Box<Matcher>),
    Kernel(InKernel),
}

/// The answer to one flow.
pub(crate) struct Judgement {
    answer: Answer,
    staged: Option<Answer>,
}

impl Judge<'_> {
    fn judge(&self, flow: &Flow) -> Result<Judgement, Unjudged> {
        let plan = self.evaluator.plan(flow).map_err(Unjudged::Flow)?;
        let ask = |view, reference: &Reference<'_>| match &self.engine {
            Decider::Reference => Ok(self.evaluator.decide(reference, &plan)),
            Decider::Matcher(matcher) => Ok(self.evaluator.decide(&matcher.view(view), &plan)),
            Decider::Kernel(kernel) => {
                kernel.of(view).answer(|hooks| self.evaluator.decide(hooks, &plan)).map_err(Unjudged::Kernel)
            }
        };
        let answer = ask(View::Enforced, &self.reference)?;
        let staged = self.staged.as_ref().map(|reference| ask(View::Pending, reference)).transpose()?;
        Ok(Judgement { answer, staged })
    }

    fn scenario(&self) -> &Scenario {
        self.evaluator.scenario()
    }
}

/// Why a flow has no answer.
pub(crate) enum Unjudged {
    /// The flow is at fault.
    Flow(FlowError),
    /// The kernel cannot be asked.
    Kernel(KernelError),
}

impl Unjudged {
    /// The failure of the command, with what stands before the reason.
    fn failure(self, at: &str, reason: impl Fn(&FlowError) -> String) -> Failure {
        match self {
            Self::Flow(error) => Failure::Input(format!("{at}{}", reason(&error))),
            Self::Kernel(error) => Failure::Environment(format!("{at}{}", kernel::reason(&error))),
        }
    }
}

impl Judgement {
    fn is_denied(&self) -> bool {
        self.answer.verdict() == Verdict::Deny
    }
}

/// One flow from the command line; whether it is denied.
fn single(judge: &Judge<'_>, args: &EvalArgs) -> Result<bool, Failure> {
    let Some(flow) = flow(&args.flow) else {
        return Err(Failure::Usage("`--from` and `--to` go together".into()));
    };
    let judgement = judge.judge(&flow).map_err(|error| error.failure("", at_option))?;
    let mut out = stdout();
    let colour = Colour::detect();
    match args.output {
        None => out.write_all(explain::text(judge, &flow, &judgement, colour).as_bytes())?,
        Some(Output::Table) => {
            let mut table = table::Table::new(args.staged, colour);
            table.add(table::Row::new(&flow, &judgement));
            table.finish(&mut out)?;
        }
        Some(format) => {
            let report = Report::new(&flow, &judgement.answer, judgement.staged.as_ref());
            let json = serde_json::to_string(&report)
                .map_err(|error| Failure::Environment(format!("cannot write the answer: {error}")))?;
            match format {
                Output::Json => writeln!(out, "[\n{json}\n]")?,
                _ => writeln!(out, "{json}")?,
            }
        }
    }
    out.flush()?;
    Ok(judgement.is_denied())
}

/// Fields of a flow are options on the command line.
fn at_option(error: &FlowError) -> String {
    match error.field() {
        Some(field) => format!("--{field}: {}", error.reason()),
        None => error.reason().to_owned(),
    }
}

fn flow(args: &FlowArgs) -> Option<Flow> {
    let mut flow = Flow::new(args.from.clone()?, args.to.clone()?);
    if let Some(protocol) = args.protocol {
        flow = flow.with_protocol(protocol);
    }
    match &args.port {
        Some(Port::Number(port)) => flow = flow.with_port(*port),
        Some(port) => flow = flow.with_port_name(&port.to_string()),
        None => {}
    }
    if let Some(port) = args.source_port {
        flow = flow.with_source_port(port);
    }
    if let Some(kind) = args.icmp_type {
        flow = flow.with_icmp(kind, args.icmp_code.unwrap_or_default());
    }
    match args.family.as_deref() {
        Some("6") => flow = flow.with_family(IpVersion::V6),
        Some(_) => flow = flow.with_family(IpVersion::V4),
        None => {}
    }
    if let Some(principal) = &args.principal {
        flow = flow.with_principal(principal);
    }
    if let (Some(method), Some(path)) = (&args.method, &args.path) {
        flow = flow.with_http(HttpRequest { method: method.as_str().into(), path: path.as_str().into() });
    }
    Some(flow)
}
