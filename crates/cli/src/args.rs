//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use portcullis::backend::Interface;
use portcullis::packet::Protocol;
use portcullis::scenario::{Peer, Port, parse_protocol};
use portcullis::settings::{Tunnel, TunnelError};
use portcullis::verdict::Verdict;

use crate::engine::Engine;
use crate::input::InputArgs;
use crate::output::When;

/// Is this flow allowed, and by which rule?
///
/// Portcullis reads Kubernetes and Calico network policies from files and answers offline: no cluster is asked and
/// nothing is applied.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, after_long_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Eval(Box<EvalArgs>),
    Compile(CompileArgs),
    Selector(SelectorArgs),
    Completions(CompletionsArgs),
}

/// Evaluate flows against the objects in manifests
///
/// Reads every object in the given files, then answers for one flow (--from and --to) with an explanation, or for many
/// (--flows) with a line each. If any object is not understood, nothing is evaluated.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("question").required(true).args(["flows", "from"]),
    after_help = "Try `portcullis eval --help` for examples.",
    after_long_help = EVAL_EXAMPLES,
)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,

    /// Flows to evaluate: a file with one JSON object a line, or - for standard input
    ///
    /// {"from": PEER, "to": PEER, "protocol": "TCP", "port": 80, "expect": "allow"}; also id, sourcePort, icmpType,
    /// icmpCode, family, principal and http {method, path}. Only from and to are required. The id is echoed in the
    /// answer. A JSON array, YAML and CSV with a line of headings are read, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) flows: Option<PathBuf>,

    /// What to print [default: table with --flows, an explanation with --from]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Output>,

    /// Which engine answers
    #[arg(long, value_parser = Engine::parser(), default_value = "auto")]
    pub(crate) engine: Engine,

    /// Walk through tiers, policies and rules for both ends: what matched, what missed and why
    ///
    /// As text, or with -o json and jsonl as `trace`.
    #[arg(long, visible_alias = "trace")]
    pub(crate) explain: bool,

    /// Also answer as if staged policies were enforced
    #[arg(long)]
    pub(crate) staged: bool,

    /// Exit with code 4 when any flow is denied
    ///
    /// A flow with `expect` fails with code 4 when the answer is another, with or without this option.
    #[arg(long)]
    pub(crate) fail_on_deny: bool,

    /// Pass with nothing to check: --fail-on-deny and `expect` otherwise fail without flows, or without policies and pods
    #[arg(long)]
    pub(crate) allow_empty: bool,

    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    pub(crate) color: When,

    /// Print neither warnings nor the count of skipped objects
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) flow: FlowArgs,

    #[command(flatten)]
    pub(crate) readings: ReadingArgs,
}

/// One flow on the command line.
#[derive(Debug, Args)]
#[command(next_help_heading = "One flow")]
pub(crate) struct FlowArgs {
    /// Where the flow starts: namespace/pod, an IP address, node/NAME, hep/NAME or set/[NAMESPACE/]NAME
    #[arg(long, value_name = "PEER", requires = "to", conflicts_with = "flows")]
    pub(crate) from: Option<Peer>,

    /// Where the flow ends, written in the same way
    ///
    /// A workload (a Deployment, a Job, ...) stands for one pod of its name when none of its pods is in the input. An
    /// address that a known pod, host endpoint or node owns means that object. A network set stands for the first
    /// address of its first network.
    #[arg(long, value_name = "PEER", requires = "from", conflicts_with = "flows")]
    pub(crate) to: Option<Peer>,

    /// Destination port, by number or name: for a service its port, else the port after destination NAT. Without it, every
    /// port is asked about
    #[arg(short, long, requires = "from", conflicts_with = "flows")]
    pub(crate) port: Option<Port>,

    /// TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a number [default: TCP]
    #[arg(long, requires = "from", conflicts_with = "flows", value_parser = protocol)]
    pub(crate) protocol: Option<Protocol>,

    /// The verdict that the flow should have; exit with code 4 when it has another
    #[arg(long, value_enum, value_name = "VERDICT", requires = "from", conflicts_with = "flows")]
    pub(crate) expect: Option<Expected>,

    /// Source port
    #[arg(long, value_name = "PORT", requires = "from", conflicts_with = "flows")]
    pub(crate) source_port: Option<u16>,

    /// ICMP type [default: echo request]
    #[arg(long, value_name = "TYPE", requires = "from", conflicts_with = "flows")]
    pub(crate) icmp_type: Option<u8>,

    /// ICMP code [default: 0]
    #[arg(long, value_name = "CODE", requires = "icmp_type", conflicts_with = "flows")]
    pub(crate) icmp_code: Option<u8>,

    /// IP version: 4 or 6 [default: the first that both ends have]
    #[arg(long, requires = "from", conflicts_with = "flows", value_parser = ["4", "6"])]
    pub(crate) family: Option<String>,

    /// Authenticated identity of the source, as spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT
    #[arg(long, value_name = "ID", requires = "from", conflicts_with = "flows")]
    pub(crate) principal: Option<String>,

    /// HTTP method of the request
    #[arg(long, requires = "path", conflicts_with = "flows")]
    pub(crate) method: Option<String>,

    /// HTTP path of the request
    #[arg(long, requires = "method", conflicts_with = "flows")]
    pub(crate) path: Option<String>,
}

/// Choices where clusters differ.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where clusters differ")]
pub(crate) struct ReadingArgs {
    /// Ports of a host endpoint that stay open whatever policy says, on every node [default: what a FelixConfiguration
    /// in the input says, else `default`]
    #[arg(long, value_enum)]
    pub(crate) failsafe: Option<Failsafe>,

    /// Traffic from a pod to its own node, once the pod's policy allowed it, on every node [default: what a
    /// FelixConfiguration in the input says, else `accept`]
    #[arg(long, value_enum, value_name = "ACTION")]
    pub(crate) workload_to_host: Option<WorkloadToHost>,

    /// Tunnels that pods may not send whatever policy says, on every node [default: what a FelixConfiguration in the input
    /// says, else `default`]
    ///
    /// `default` is IP in IP and VXLAN: 4,udp:4789,udp:8472. `none` leaves the decision to policy. A list names IP protocols and
    /// destination ports of UDP: 4,41,47,udp:4789,udp:6081.
    #[arg(long, value_name = "LIST", value_parser = tunnels)]
    pub(crate) tunnels: Option<Tunnels>,

    /// Whether the Baseline tier still applies to a pod that a NetworkPolicy selects
    #[arg(long, value_enum, value_name = "READING", default_value_t = Baseline::PerDirection)]
    pub(crate) baseline: Baseline,

    /// The namespace of objects that name none [default: default]
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Options", value_parser = namespace)]
    pub(crate) namespace: Option<String>,

    /// Refuse input with policies of other network plugins, which answers leave out
    ///
    /// Without it, a warning names them: Cilium, Antrea, OVN-Kubernetes, Istio and others.
    #[arg(long, help_heading = "Options")]
    pub(crate) strict: bool,
}

/// Compile policy into decision tables, and show them
///
/// Prints the tables that every backend is made from, as text. Their sizes and the time of each phase go to standard
/// error.
#[derive(Debug, Args)]
#[command(after_long_help = COMPILE_EXAMPLES)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,

    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = CompileOutput::Text)]
    pub(crate) output: CompileOutput,

    /// What to compile to
    #[arg(long, value_enum, value_name = "TARGET", default_value_t = CompileTarget::Ir, conflicts_with = "output")]
    pub(crate) to: CompileTarget,

    /// The host's interface of an endpoint, for the nftables targets; may be repeated
    ///
    /// NAMESPACE/NAME=INTERFACE, or hep/NAME=INTERFACE for a host endpoint. Without it, the interfaceName of a
    /// HostEndpoint or WorkloadEndpoint holds.
    #[arg(long, value_name = "ENDPOINT=INTERFACE", value_parser = endpoint_interface)]
    pub(crate) bind: Vec<(String, Interface)>,

    /// Compile for the endpoints of this node only, as its agent would
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// Print neither warnings, sizes nor times
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) readings: ReadingArgs,
}

/// Check a Calico selector
///
/// Prints the canonical form of a valid selector, or says what is wrong and where.
#[derive(Debug, Args)]
#[command(after_long_help = SELECTOR_EXAMPLES)]
pub(crate) struct SelectorArgs {
    /// The selector, or - to read one JSON object a line from standard input
    ///
    /// {"selector": TEXT, "labels": [{KEY: VALUE}, ...]} is answered by {"valid", "canonical", "error", "matches"} with
    /// one entry in matches for each set of labels.
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub(crate) selector: String,

    /// Labels to try the selector on, as key=value,key=value; may be repeated
    #[arg(short, long, value_name = "LABELS")]
    pub(crate) labels: Vec<String>,
}

/// Print a script that completes commands in your shell
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  portcullis completions bash > ~/.local/share/bash-completion/completions/portcullis"
)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table for people: why each flow has its verdict
    Table,
    /// A table with what both ends say, and where that stands
    Wide,
    /// One JSON array; with --from, one JSON object
    Json,
    /// One JSON object a line
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompileTarget {
    /// The decision tables that every backend is made from
    Ir,
    /// The nftables table as text, for nft -f
    Nft,
    /// The nftables table as JSON, for nft -j -f
    NftJson,
}

/// Reads `ENDPOINT=INTERFACE`.
fn endpoint_interface(text: &str) -> Result<(String, Interface), String> {
    let (endpoint, interface) = text.split_once('=').ok_or("there is no `=`")?;
    Ok((endpoint.to_owned(), Interface::new(interface).map_err(|error| error.to_string())?))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompileOutput {
    /// The tables as text
    Text,
    /// The tables as bytes, for a file
    Binary,
    /// Nothing
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Expected {
    /// It passes
    Allow,
    /// It is dropped
    Deny,
    /// An HTTP rule decides
    Inspect,
}

impl Expected {
    /// The verdict.
    pub(crate) const fn verdict(self) -> Verdict {
        match self {
            Self::Allow => Verdict::Allow,
            Self::Deny => Verdict::Deny,
            Self::Inspect => Verdict::Inspect,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Failsafe {
    /// Calico's default list: SSH, DHCP, DNS, BGP, etcd, the API server
    Default,
    /// None
    None,
}

/// Tunnels that pods may not send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunnels(pub(crate) Vec<Tunnel>);

fn tunnels(text: &str) -> Result<Tunnels, TunnelError> {
    Ok(Tunnels(match text {
        "default" => Tunnel::DEFAULT.to_vec(),
        "none" => Vec::new(),
        list => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkloadToHost {
    /// It is accepted
    Accept,
    /// It is dropped
    Drop,
    /// The host endpoint's policy decides
    Policy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Baseline {
    /// In the directions that no NetworkPolicy isolates
    PerDirection,
    /// Not at all, as kube-network-policies reads it
    PerPod,
}

/// Source: RFC 1123 labels, as Kubernetes demands of names of namespaces.
fn namespace(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    let is_label = text.len() <= 63
        && ends.into_iter().all(|end| end.is_some_and(is_plain))
        && text.bytes().all(|byte| is_plain(byte) || byte == b'-');
    if is_label {
        Ok(text.to_owned())
    } else {
        Err("not the name of a namespace: lower-case letters, digits and `-`, at most 63".into())
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    parse_protocol(text).map_err(|error| error.reason().to_owned())
}

const EXIT_CODES: &str = "\
Exit codes:
  0  evaluated
  1  bad input: the message says file, line, object, field and reason
  2  wrong usage
  3  the environment cannot do it
  4  a gate failed";

const EVAL_EXAMPLES: &str = "\
Examples:
  May the customer page reach the database, and which rule says so?
    portcullis eval -f manifests/ --from shop/customer --to shop/database --port 5432

  The same for a list of flows, as JSON for a program
    portcullis eval -f manifests/ --flows flows.jsonl -o jsonl

  In a CI job: each flow says what it expects, and another answer fails the job
    {\"from\": \"shop/web\", \"to\": \"shop/database\", \"port\": 5432, \"expect\": \"allow\"}
    portcullis eval -f manifests/ --flows expected.jsonl

  What is running, from a cluster; nothing that must work may be denied
    kubectl get ns,pods,svc,netpol -A -o yaml | portcullis eval -f - --flows must-work.jsonl --fail-on-deny

  A repository, less its charts; what a chart renders to; what a kustomization builds
    portcullis eval -f repo/ --exclude charts --flows flows.jsonl
    helm template web charts/web | portcullis eval -f - --flows flows.jsonl
    portcullis eval -k overlays/prod --flows flows.jsonl

  A ping from outside over IPv6
    portcullis eval -f manifests/ --from 2001:db8::7 --to shop/customer --protocol ICMPv6

Peers:
  namespace/pod          a pod, or a workload that stands for its pods
  192.0.2.7              an address; if a known pod, host endpoint or node owns it, that object
  node/NAME              the host itself
  hep/NAME               a host endpoint
  set/[NAMESPACE/]NAME   the first address of a network set
  svc/NAMESPACE/NAME     each backend of a service that takes traffic, after destination NAT

Answers (-o jsonl):
  {\"id\": ..., \"verdict\": \"allow\"|\"deny\"|\"inspect\", \"egress\": SIDE|null, \"ingress\": SIDE|null, \"flow\": ...}
  SIDE is {\"verdict\", \"cause\", \"tier\", \"policy\": {\"kind\", \"namespace\", \"name\"}|null, \"rule\", \"location\"}; null for
  an end that is no endpoint. Inspect: an HTTP rule decides, and the flow has no http. docs/schemas has all fields.

Exit codes:
  0  evaluated
  1  bad input: the message says file, line, object, field and reason. A bad manifest: nothing is evaluated.
     A bad flow: the flows before it are answered
  2  wrong usage
  3  the environment cannot do it, or this build lacks the engine
  4  a gate failed: an answer is not what its flow expects; with --fail-on-deny, a flow is denied; with either, there
     is no flow, or neither a policy nor a pod (--allow-empty lets that pass)";

const COMPILE_EXAMPLES: &str = "\
Examples:
  What does the policy of this directory compile to?
    portcullis compile -f manifests/

  How large do the tables get, and how long does it take?
    portcullis compile -f manifests/ -o none

  Which nftables table would enforce it on a node?
    portcullis compile -f manifests/ --node n1 --bind shop/web=veth0 --to nft
    portcullis compile -f manifests/ --node n1 --bind shop/web=veth0 --to nft-json | nft -j -c -f -

Exit codes:
  0  compiled
  1  bad input: the message says file, line, object, field and reason
  2  wrong usage";

const SELECTOR_EXAMPLES: &str = "\
Examples:
  portcullis selector 'app == \"web\" && tier in {\"prod\", \"test\"}'
  portcullis selector 'has(app)' --labels app=web,tier=prod --labels tier=prod
  echo '{\"selector\": \"has(app)\", \"labels\": [{\"app\": \"web\"}, {}]}' | portcullis selector -

Exit codes:
  0  valid; with -, every line was read, whatever the selectors are
  1  not valid; with -, a line is not such a JSON object
  2  wrong usage";
