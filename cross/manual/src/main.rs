//! Writes man pages and shell completions into a folder: `cargo run -p outpost-manual -- FOLDER`
//!
//! A program of its own, so that the gateway carries none of it. One page for each command, as `outpost-conflicts-settle.1`, and
//! for each program `NAME.bash`, `NAME.fish` and `_NAME` for zsh.

use std::ffi::OsString;
use std::fs::create_dir_all;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let folder: OsString = args.next().context("usage: outpost-manual FOLDER")?;
    for (program, command) in
        [("outpost", agent::cli::Cli::command()), ("outpost-hub", server_stub::cli::Cli::command())]
    {
        let folder = PathBuf::from(&folder).join(program);
        create_dir_all(&folder)?;
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            generate_to(shell, &mut command.clone(), program, &folder)?;
        }
        clap_mangen::generate_to(command, &folder)?;
    }
    Ok(())
}
