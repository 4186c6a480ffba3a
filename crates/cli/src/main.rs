//! The `portcullis` command.

extern crate alloc;

mod args;
mod compile;
mod engine;
mod eval;
mod failure;
mod input;
mod kustomize;
mod load;
mod output;
mod progress;
mod selector;
mod stream;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command, CompletionsArgs};
use failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to be done when the message itself cannot be written.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let result = match cli.command {
        Command::Eval(args) => eval::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Selector(args) => selector::run(&args),
        Command::Completions(args) => completions(&args),
    };
    result.unwrap_or_else(|failure| {
        if let Some(message) = failure.message() {
            output::to_stderr(&format!("error: {message}\n"));
        }
        failure.exit_code()
    })
}

fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "portcullis", &mut script);
    let mut out = output::stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
