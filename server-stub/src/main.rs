//! `outpost-hub`: reads the command line, runs one command, tells how it ended.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use server_stub::cli::{Cli, run};
use sync_protocol::error::without_data;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Memory holds records and keys: neither words nor a file may show them when the program breaks.
    std::panic::set_hook(Box::new(|panic| drop(writeln!(std::io::stderr(), "outpost-hub: {}", without_data(panic)))));
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr);
    // That a line cannot be written would be told where it cannot be written, and end the program.
    log.log_internal_errors(false).init();
    match run(Cli::parse(), &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outpost-hub: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            eprintln!("  what to do: {}", error.hint());
            ExitCode::from(error.class().exit_code())
        }
    }
}
