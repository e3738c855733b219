//! What the service manager is told by the real programs.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outpost_tests::process::Running;
use rustix::process::{Pid, Signal, kill_process};

/// Far more than an answer takes, and less than either writer waits for a lock (5 s).
const SILENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);
/// Four signs of life in 400 ms.
const WATCHDOG_USEC: &str = "400000";

/// A program, how it is made to serve, and its database.
struct Program {
    name: &'static str,
    command: &'static str,
    database: &'static str,
}

const GATEWAY: Program = Program { name: "outpost", command: "run", database: "outpost.db" };
const HUB: Program = Program { name: "outpost-hub", command: "serve", database: "hub.db" };

/// The service manager's end, and what it started.
struct Service {
    ear: UnixDatagram,
    running: Running,
    database: PathBuf,
}

impl Service {
    fn start(program: &Program, folder: &Path) -> Service {
        let (socket, data) = (folder.join("notify"), folder.join("data"));
        let ear = UnixDatagram::bind(&socket).unwrap();
        let variables =
            [("NOTIFY_SOCKET", socket.to_string_lossy().into_owned()), ("WATCHDOG_USEC", WATCHDOG_USEC.to_owned())];
        let args = [program.command, "--listen", "127.0.0.1:0", "--data-dir", &data.to_string_lossy()];
        let running = Running::start_with(program.name, &args, &variables, &folder.join("log"));
        Service { ear, running, database: data.join(program.database) }
    }

    /// The next message; `None` if none comes in this time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.ear.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 1_024];
        match self.ear.recv(&mut message) {
            Ok(length) => Some(String::from_utf8_lossy(&message[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn hear_life(&self) {
        assert_eq!(self.hear(PATIENCE).unwrap().trim(), "WATCHDOG=1");
    }
}

fn is_ready_when_the_writer_answered_and_alive_while_it_does(program: &Program) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(program, folder.path());
    let ready = service.hear(PATIENCE).unwrap();
    let address = &service.running.address;
    assert!(ready.contains("READY=1") && ready.contains(address.as_str()), "{ready}");
    service.hear_life();
    service.hear_life();

    // A writer that gets nowhere: somebody else holds the database.
    let other = rusqlite::Connection::open(&service.database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // At most what was under way is still said.
    let said = std::iter::from_fn(|| service.hear(SILENCE)).take(3).count();
    assert!(said < 3, "it says that it is alive while its writer hangs");
    other.execute_batch("ROLLBACK").unwrap();
    service.hear_life();
}

fn says_that_it_ends(program: &Program) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(program, folder.path());
    assert!(service.hear(PATIENCE).unwrap().contains("READY=1"));
    let id = Pid::from_raw(i32::try_from(service.running.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let last = std::iter::from_fn(|| service.hear(PATIENCE)).find(|said| said.contains("STOPPING=1"));
    assert!(last.is_some());
}

#[test]
fn the_gateway_is_ready_when_its_writer_answered_and_alive_while_it_does() {
    is_ready_when_the_writer_answered_and_alive_while_it_does(&GATEWAY);
}

#[test]
fn the_hub_is_ready_when_its_writer_answered_and_alive_while_it_does() {
    is_ready_when_the_writer_answered_and_alive_while_it_does(&HUB);
}

#[test]
fn the_gateway_says_that_it_ends() {
    says_that_it_ends(&GATEWAY);
}

#[test]
fn the_hub_says_that_it_ends() {
    says_that_it_ends(&HUB);
}
