//! The command line: one file for each noun, and what all of them share.

mod actor;
pub(crate) mod admin;
#[cfg(feature = "agent")]
pub(crate) mod agent;
mod apply;
#[cfg(feature = "agent")]
mod attest;
mod audit;
mod authority;
#[cfg(feature = "server")]
mod backup;
mod bundle;
mod completions;
#[cfg(any(feature = "server", feature = "agent"))]
mod daemons;
mod decide;
pub(crate) mod declared;
mod entry;
pub(crate) mod explain;
mod fetch;
mod help;
mod man;
mod mandate;
#[cfg(feature = "agent")]
mod mcp;
mod mint;
mod node;
pub(crate) mod output;
pub(crate) mod own_task;
#[cfg(all(feature = "server", feature = "agent"))]
pub(crate) mod paint;
mod policy;
mod run;
#[cfg(feature = "server")]
pub(crate) mod server;
pub(crate) mod sockets;
mod status;
mod task;
mod tenant;
mod token;
mod trace;
mod validate;

use std::{future::Future, io, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, FromArgMatches as _, Parser, Subcommand};

use server_api::CallError;
use tonic::Code;

use output::Format;
use sockets::Sockets;

const EXAMPLES: &str = "\
Examples:
  writ demo                                   the whole story on this machine, in seconds
  writ up                                     a server and an agent here, until Ctrl-C
  writ entry create --spiffe-id /hello --parent local --selector unix:uid:1000
  writ fetch x509                             who am I?
  writ explain --pid 4242                     what the agent sees of a process, and why it gets what it gets

Each command has its own --help with examples. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.";

/// Gives every process an identity that it can prove, and takes it back at once.
#[derive(Debug, Parser)]
#[command(name = "writ", version, after_help = EXAMPLES, infer_subcommands = false, max_term_width = 100)]
pub(crate) struct Writ {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    verb: Verb,
}

/// Options that every command has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Shared {
    /// What to print: text for people, or JSON that stays the same.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "text|json",
        hide_possible_values = true
    )]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) sockets: Sockets,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tell the whole story on this machine, in a temporary directory
    #[cfg(all(feature = "server", feature = "agent"))]
    #[command(after_help = crate::demo::EXAMPLES)]
    Demo(crate::demo::Demo),
    /// Run a server and an agent here until told to end
    #[cfg(all(feature = "server", feature = "agent"))]
    #[command(after_help = crate::up::EXAMPLES)]
    Up(crate::up::Up),
    /// The server: what is true
    #[cfg(feature = "server")]
    #[command(subcommand, after_help = server::EXAMPLES)]
    Server(server::ServerVerb),
    /// The agent: what is near
    #[cfg(feature = "agent")]
    #[command(subcommand, after_help = agent::EXAMPLES)]
    Agent(agent::AgentVerb),
    /// Show the server and the agent on this machine, and what is insecure
    #[command(after_help = status::EXAMPLES)]
    Status,
    /// Entries: who may be what
    #[command(subcommand, after_help = entry::EXAMPLES)]
    Entry(entry::EntryVerb),
    /// Make the server agree with files
    #[command(after_help = apply::EXAMPLES)]
    Apply(apply::Files),
    /// Show where the server differs from files; exit 1 where it does
    #[command(after_help = apply::EXAMPLES)]
    Diff(apply::Files),
    /// Join tokens: how another machine joins
    #[command(subcommand, after_help = token::EXAMPLES)]
    Token(token::TokenVerb),
    /// Nodes: the machines whose agents have attested
    #[command(subcommand, after_help = node::EXAMPLES)]
    Node(node::NodeVerb),
    /// Tenants: the owners of actors and resources
    #[command(subcommand, after_help = tenant::EXAMPLES)]
    Tenant(tenant::TenantVerb),
    /// Actors: AI agents, and what each could do with nobody asking
    #[command(subcommand, after_help = actor::EXAMPLES)]
    Actor(actor::ActorVerb),
    /// Mandates: the approved templates of work
    #[command(subcommand, after_help = mandate::EXAMPLES)]
    Mandate(mandate::MandateVerb),
    /// Tasks: the work that is under way
    #[command(subcommand, after_help = task::EXAMPLES)]
    Task(task::TaskVerb),
    /// Cedar policies: what tasks may do
    #[command(subcommand, after_help = policy::EXAMPLES)]
    Policy(policy::PolicyVerb),
    /// Trust bundles: whom this trust domain believes
    #[command(subcommand, after_help = bundle::EXAMPLES)]
    Bundle(bundle::BundleVerb),
    /// Authorities: the keys that sign, and how they take turns
    #[command(subcommand, after_help = authority::EXAMPLES)]
    Authority(authority::AuthorityVerb),
    /// Evidence: the tamper-evident log of what was decided and done
    #[command(subcommand, after_help = audit::EXAMPLES)]
    Audit(audit::AuditVerb),
    /// Show one chain of actions as a tree: who, what, decided how, and what came of it
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::Trace),
    /// Mint an SVID of any ID, without an entry
    #[command(subcommand, after_help = mint::EXAMPLES)]
    Mint(mint::Mint),
    /// Backups: the server's state and keys, sealed in one file
    #[cfg(feature = "server")]
    #[command(subcommand, after_help = backup::EXAMPLES)]
    Backup(backup::BackupVerb),
    /// Be a workload: fetch what the agent gives this process
    #[command(subcommand, after_help = fetch::EXAMPLES)]
    Fetch(fetch::Fetch),
    /// Measure a command, then run it in a cgroup of its own, with an identity by what was measured
    #[command(after_help = run::EXAMPLES)]
    Run(run::Run),
    /// Show what the agent sees of a process, and which entries match or almost match
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Explain),
    /// Attestation tests: is everything on this machine what its tests say?
    #[cfg(feature = "agent")]
    #[command(subcommand, after_help = attest::EXAMPLES)]
    Attest(attest::AttestVerb),
    /// The gate in front of MCP servers: every call of a tool is decided before it is forwarded
    #[cfg(feature = "agent")]
    #[command(subcommand, after_help = mcp::EXAMPLES)]
    Mcp(mcp::McpVerb),
    /// Ask what the decision about a call would be, and why
    #[command(after_help = decide::EXAMPLES)]
    Decide(decide::Decide),
    /// Answer pure checks for conformance suites
    #[command(after_help = validate::EXAMPLES)]
    Validate(validate::Validate),
    /// Be a program of the demo
    #[cfg(all(feature = "server", feature = "agent"))]
    #[command(hide = true)]
    DemoActor(crate::demo::actor::Actor),
    /// Be the tools of the demo
    #[cfg(all(feature = "server", feature = "agent"))]
    #[command(hide = true)]
    DemoTools,
    /// Print shell completions
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Completions),
    /// Write a man page for each command
    #[command(after_help = man::EXAMPLES)]
    Man(man::Man),
}

/// The command is understood but does not make sense; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    match run(parsed()) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::remark(&format!("writ: {}", output::plain(&sentence(&error))));
            ExitCode::from(if is_wrong_usage(&error) { 2 } else { 1 })
        }
    }
}

/// What was typed; with `--help` it ends here.
fn parsed() -> Writ {
    let matches = help::command().get_matches();
    Writ::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn run(writ: Writ) -> Result<ExitCode> {
    let shared = writ.shared;
    match writ.verb {
        #[cfg(all(feature = "server", feature = "agent"))]
        Verb::Demo(demo) => client(crate::demo::run(demo, &shared)),
        #[cfg(all(feature = "server", feature = "agent"))]
        Verb::DemoActor(actor) => client(crate::demo::actor::run(actor)),
        #[cfg(all(feature = "server", feature = "agent"))]
        Verb::DemoTools => client(crate::demo::tools::run()),
        #[cfg(all(feature = "server", feature = "agent"))]
        Verb::Up(up) => client(crate::up::run(up, &shared)),
        #[cfg(feature = "server")]
        Verb::Server(verb) => server::run(verb, &shared),
        #[cfg(feature = "agent")]
        Verb::Agent(verb) => agent::run(verb, &shared),
        Verb::Status => client(status::run(&shared)),
        Verb::Entry(verb) => client(entry::run(verb, &shared)),
        Verb::Apply(files) => client(apply::apply(files, &shared)),
        Verb::Diff(files) => client(apply::diff(files, &shared)),
        Verb::Token(verb) => client(token::run(verb, &shared)),
        Verb::Node(verb) => client(node::run(verb, &shared)),
        Verb::Tenant(verb) => client(tenant::run(verb, &shared)),
        Verb::Actor(verb) => client(actor::run(verb, &shared)),
        Verb::Mandate(verb) => client(mandate::run(verb, &shared)),
        Verb::Task(verb) => client(task::run(verb, &shared)),
        Verb::Policy(verb) => client(policy::run(verb, &shared)),
        Verb::Bundle(verb) => client(bundle::run(verb, &shared)),
        Verb::Authority(verb) => client(authority::run(verb, &shared)),
        Verb::Audit(verb) => client(audit::run(verb, &shared)),
        Verb::Trace(trace) => client(trace::run(trace, &shared)),
        Verb::Mint(verb) => client(mint::run(verb, &shared)),
        #[cfg(feature = "server")]
        Verb::Backup(verb) => client(backup::run(verb, &shared)),
        Verb::Fetch(fetch) => client(fetch::run(fetch, &shared)),
        Verb::Run(command) => client(run::run(command, &shared)),
        Verb::Explain(explain) => client(explain::run(explain, &shared)),
        #[cfg(feature = "agent")]
        Verb::Attest(verb) => client(attest::run(verb, &shared)),
        #[cfg(feature = "agent")]
        Verb::Mcp(verb) => mcp::run(verb, &shared),
        Verb::Decide(decide) => client(decide::run(decide, &shared)),
        Verb::Validate(validate) => validate::run(&validate),
        Verb::Completions(completions) => completions::run(&completions),
        Verb::Man(man) => man::run(&man),
    }
}

/// Runs a command that talks to a daemon: one thread is enough, and starts fastest.
fn client(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(command)
}

/// An error with its causes as one sentence; many a one names its cause already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether nothing but another command line would help. What only the server can judge, it judges.
fn is_wrong_usage(error: &anyhow::Error) -> bool {
    let refused = |error: &CallError| matches!(error, CallError::Refused { code: Code::InvalidArgument, .. });
    error.is::<Usage>() || error.downcast_ref().is_some_and(refused)
}

/// Whoever read our output has seen enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_once() {
        let refused = || anyhow::anyhow!("permission denied");
        assert_eq!(sentence(&refused().context("cannot open x")), "cannot open x: permission denied");
        assert_eq!(
            sentence(&refused().context("cannot open x (permission denied)")),
            "cannot open x (permission denied)"
        );
    }
}
