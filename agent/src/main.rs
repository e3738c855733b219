//! The program `outpost`.

use std::io::Write;
use std::process::ExitCode;

use agent::cli::{Cli, execute, start_log};
use clap::Parser;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sync_protocol::error::without_data;

fn main() -> ExitCode {
    // Memory holds records and keys: neither words nor a file may show them when the program breaks.
    std::panic::set_hook(Box::new(|panic| drop(writeln!(std::io::stderr(), "outpost: {}", without_data(panic)))));
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let cli = Cli::parse();
    start_log(&cli);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("outpost: cannot start: {error}");
            return ExitCode::from(6);
        }
    };
    let mut out = std::io::stdout();
    let result = runtime.block_on(execute(cli, &mut out));
    let _ = out.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outpost: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            if !error.hint().is_empty() {
                eprintln!("  {}", error.hint());
            }
            ExitCode::from(error.exit_code())
        }
    }
}
