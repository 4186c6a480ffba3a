//! `portcullis eval`: what policy says to flows.

mod explain;
mod gate;
mod kernel;
mod many;
mod table;

use std::io::Write as _;
use std::process::ExitCode;

use portcullis::backend::OracleError;
use portcullis::backends::Backend;
use portcullis::ir::View;
use portcullis::matcher::Matcher;
use portcullis::net::IpVersion;
use portcullis::packet::HttpRequest;
use portcullis::reference::Reference;
use portcullis::render::Renderer;
use portcullis::scenario::{Answer, Evaluator, Flow, FlowError, Port, Report, Scenario};
use portcullis::settings::{Settings, StagedPolicies};

use crate::args::{EvalArgs, FlowArgs, Output};
use crate::engine::Engine;
use crate::eval::gate::Tally;
use crate::eval::kernel::InKernel;
use crate::failure::Failure;
use crate::load;
use crate::output::{Colour, stdout, terminal_width, to_stderr};

/// Runs the command.
pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode, Failure> {
    let flows_from_stdin = args.flows.as_ref().is_some_and(|path| path.as_os_str() == "-");
    if args.input.reads_of_stdin().saturating_add(usize::from(flows_from_stdin)) > 1 {
        return Err(Failure::Usage("standard input (`-`) can be read only once".into()));
    }
    if args.explain && matches!(args.output, Some(Output::Table | Output::Wide)) {
        return Err(Failure::Usage("`--explain` is no table: leave out `--output`, or ask for JSON".into()));
    }
    let scenario = load::scenario(&args.input, &args.readings, args.quiet)?;
    let settings = load::settings(&args.readings, &scenario, args.quiet);
    let staged_settings = Settings { staged: StagedPolicies::Enforce, ..settings.clone() };
    let evaluator = Evaluator::new(&scenario, &settings);
    let reference = Reference::new(scenario.cluster(), &settings);
    let staged = args.staged.then(|| Reference::new(scenario.cluster(), &staged_settings));
    let engine = match args.engine {
        // What nobody can express as tables is left to the reference, which answers the same.
        Engine::Auto if prefers_tables(args) => match lowered(&scenario, &settings) {
            Ok(matcher) => Decider::Matcher(Box::new(matcher)),
            Err(_) => Decider::Reference,
        },
        Engine::Auto | Engine::Reference => Decider::Reference,
        Engine::Matcher => Decider::Matcher(Box::new(lowered(&scenario, &settings)?)),
        Engine::Kernel(backend) => {
            Decider::Kernel(InKernel::load(backend, &scenario, &settings, args.staged)?)
        }
    };
    let judge = Judge { evaluator, engine, reference, staged };
    let tally = match &args.flows {
        Some(file) => many::run(&judge, args, file)?,
        None => single(&judge, args)?,
    };
    Ok(gate::end(&tally, &scenario, args))
}

/// Whether there are so many questions that compiling pays off, and nobody wants the reference's trace.
fn prefers_tables(args: &EvalArgs) -> bool {
    let few = |file: &std::path::PathBuf| {
        std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.len() < FEW_BYTES)
    };
    !args.explain && args.flows.as_ref().is_some_and(|file| !few(file))
}

/// The size of a file of flows that the reference evaluator answers sooner than tables are made.
const FEW_BYTES: u64 = 16_384;

/// The compiled policy in the form that the matcher looks up.
fn lowered(scenario: &Scenario, settings: &Settings) -> Result<Matcher, Failure> {
    let engine = scenario.compile(settings).map_err(|error| Failure::Input(error.to_string()))?;
    Matcher::lower(engine.snapshot())
        .map_err(|error| Failure::Environment(format!("the matcher refuses the compiled policy: {error}")))
}

/// Answers flows, twice when staged policies are asked for.
pub(crate) struct Judge<'a> {
    evaluator: Evaluator<'a>,
    engine: Decider,
    reference: Reference<'a>,
    /// With staged policies enforced.
    staged: Option<Reference<'a>>,
}

/// The engine that decides. The reference explains in every case.
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
            Decider::Kernel(kernel) => kernel
                .of(view)
                .answer(|hooks| self.evaluator.decide(hooks, &plan))
                .map_err(|error| Unjudged::Kernel(kernel.backend(), error)),
        };
        let answer = ask(View::Enforced, &self.reference)?;
        let staged = self.staged.as_ref().map(|reference| ask(View::Staged, reference)).transpose()?;
        Ok(Judgement { answer, staged })
    }

    fn scenario(&self) -> &Scenario {
        self.evaluator.scenario()
    }

    /// What puts answers in words.
    fn renderer(&self) -> Renderer<'_> {
        Renderer::new(self.scenario(), &self.reference)
    }

    /// The same for answers with staged policies enforced.
    fn staged_renderer(&self) -> Option<Renderer<'_>> {
        self.staged.as_ref().map(|reference| Renderer::new(self.scenario(), reference))
    }

    /// The answer for programs.
    fn report<'j>(&'j self, flow: &'j Flow, judgement: &'j Judgement, traced: bool) -> Report<'j> {
        let report = Report::new(self.scenario(), flow, &judgement.answer, judgement.staged.as_ref());
        if traced { report.traced(&self.renderer(), self.staged_renderer().as_ref()) } else { report }
    }
}

/// Why a flow has no answer.
pub(crate) enum Unjudged {
    /// The flow is at fault.
    Flow(FlowError),
    /// The kernel cannot be asked.
    Kernel(&'static Backend, OracleError),
}

impl Unjudged {
    /// The failure of the command, with what stands before the reason.
    fn failure(self, at: &str, reason: impl Fn(&FlowError) -> String) -> Failure {
        match self {
            Self::Flow(error) => Failure::Input(format!("{at}{}", reason(&error))),
            Self::Kernel(backend, error) => {
                Failure::Environment(format!("{at}engine `{}`: {error}", backend.name()))
            }
        }
    }
}

/// One flow from the command line.
fn single(judge: &Judge<'_>, args: &EvalArgs) -> Result<Tally, Failure> {
    let Some(flow) = flow(&args.flow) else {
        return Err(Failure::Usage("`--from` and `--to` go together".into()));
    };
    let judgement = judge.judge(&flow).map_err(|error| error.failure("", at_option))?;
    let mut tally = Tally::default();
    let as_expected = tally.count(&flow, &judgement);
    for warning in judgement.answer.warnings().iter().filter(|_| !args.quiet) {
        to_stderr(&format!("warning: {warning}\n"));
    }
    let mut out = stdout();
    let colour = Colour::choose(args.color);
    match args.output {
        None => out.write_all(explain::text(judge, &flow, &judgement, colour).as_bytes())?,
        Some(format @ (Output::Table | Output::Wide)) => {
            let shape = if format == Output::Wide { table::Shape::Wide } else { table::Shape::Short };
            let mut table = table::Table::new(args.staged, colour, limit(shape));
            table.add(table::Row::new(&judge.renderer(), &flow, &judgement, shape));
            table.finish(&mut out)?;
        }
        Some(Output::Json | Output::Jsonl) => {
            let json = serde_json::to_string(&judge.report(&flow, &judgement, args.explain))
                .map_err(|error| Failure::Environment(format!("cannot write the answer: {error}")))?;
            writeln!(out, "{json}")?;
        }
    }
    out.flush()?;
    if let (false, Some(expected)) = (as_expected, flow.expect()) {
        to_stderr(&format!("expected {expected}, and the answer is {}\n", worded(&judgement.answer)));
    }
    Ok(tally)
}

/// The verdict of an answer for people, who should not take that of some parts for that of all.
fn worded(answer: &Answer) -> String {
    let verdict = answer.verdict();
    if answer.is_mixed() { format!("{verdict} in part") } else { verdict.to_string() }
}

/// The widest line of a table: a terminal's, unless everything is wanted.
fn limit(shape: table::Shape) -> Option<usize> {
    match shape {
        table::Shape::Short => terminal_width(),
        table::Shape::Wide => None,
    }
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
    if let Some(expected) = args.expect {
        flow = flow.with_expect(expected.verdict());
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
