//! Programs of this workspace: started and waited for, killed without warning, run to their end. What is started is stopped on drop.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::canary;

/// A program of this workspace, built beside the test: `cargo build --workspace --bins` makes it.
///
/// # Panics
/// If it is not there, saying how to build it.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let found = here.ancestors().map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; run: cargo build --workspace --bins"))
}

/// A line of shell that becomes the program.
pub(crate) const EXEC: &str = r#"exec "$0" "$@""#;

/// All that was started and has not been seen to end: for an end that drops nothing, by a signal.
static STARTED: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Ends everything that this program started, without warning, and this program.
pub fn end_all(exit_code: i32) -> ! {
    // Held to the end, so that nothing is started any more.
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.iter().for_each(|child| end(child));
    std::process::exit(exit_code)
}

fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
}

/// A running program that listens.
#[derive(Debug)]
pub struct Running {
    child: Arc<Mutex<Child>>,
    id: u32,
    log: PathBuf,
    /// Where it listens, such as `127.0.0.1:4711`.
    pub address: String,
}

impl Running {
    /// Starts a program and waits until it says where it listens.
    ///
    /// # Panics
    /// If it ends instead.
    pub fn start(name: &str, args: &[&str], log: &Path) -> Running {
        Running::start_with(name, args, &[], log)
    }

    /// As [`Running::start`], with variables of its environment.
    ///
    /// # Panics
    /// If it ends instead.
    pub fn start_with(name: &str, args: &[&str], variables: &[(&str, String)], log: &Path) -> Running {
        Running::start_by(EXEC, name, args, variables, log)
    }

    /// The same by a line of shell that ends in the program.
    pub(crate) fn start_by(line: &str, name: &str, args: &[&str], variables: &[(&str, String)], log: &Path) -> Running {
        let to_log = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        // A file that may not grow (scenario `io`) would end it otherwise, and Rust has no safe word for that.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("trap '' XFSZ; {line}")).arg(program(name));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(to_log);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let (child, id, stdout) = {
            let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
            let mut child = command.spawn().expect("the program starts");
            let (id, stdout) = (child.id(), child.stdout.take().expect("its standard output"));
            let child = Arc::new(Mutex::new(child));
            started.push(Arc::clone(&child));
            (child, id, stdout)
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("its first line");
        let Some((_, address)) = line.trim().split_once("://") else {
            end(&child);
            panic!("{name} did not say where it listens: {line:?}; see its log");
        };
        Running { address: address.to_owned(), child, id, log: log.to_owned() }
    }

    /// Ends it without warning, as a pulled plug does to a program.
    pub fn kill(&mut self) {
        end(&self.child);
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        started.retain(|child| !Arc::ptr_eq(child, &self.child));
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            canary::check_log(&self.log);
        }
    }
}

/// Runs a command of a program to its end.
pub fn command(name: &str, args: &[&str]) -> Output {
    command_in(&[], name, args)
}

fn command_in(variables: &[(&str, String)], name: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program(name));
    command.args(args).envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    canary::check(&format!("what {name} said"), &String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs a command of a program to its end, and says something to it on its standard input.
pub fn say(name: &str, args: &[&str], said: &str) -> Output {
    say_by(EXEC, name, args, &[], said)
}

/// The same by a line of shell that ends in the program.
pub(crate) fn say_by(line: &str, name: &str, args: &[&str], variables: &[(&str, String)], said: &str) -> Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).arg(program(name)).args(args);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    said.lines().for_each(canary::note_secret);
    child.stdin.take().expect("a pipe").write_all(said.as_bytes()).expect("a program that listens");
    let output = child.wait_with_output().expect("the program ends");
    canary::check(&format!("what {name} said"), &String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs a command that must succeed, and gives its standard output.
///
/// # Panics
/// If it fails, with what it said.
pub fn must(name: &str, args: &[&str]) -> String {
    must_in(&[], name, args)
}

pub(crate) fn must_in(variables: &[(&str, String)], name: &str, args: &[&str]) -> String {
    let output = command_in(variables, name, args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {:?}\n{told}", output.status);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    canary::note_printed(&printed);
    printed
}
