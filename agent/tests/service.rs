//! What the service manager is told by the real program.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Far more than an answer takes, and less than the writer waits for a lock (5 s).
const SILENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);
/// Four signs of life in 400 ms.
const WATCHDOG_USEC: &str = "400000";

/// The service manager's end, and the daemon that it started.
struct Service {
    ear: UnixDatagram,
    daemon: Child,
}

impl Service {
    fn start(folder: &Path) -> Service {
        let socket = folder.join("notify");
        let ear = UnixDatagram::bind(&socket).unwrap();
        let daemon = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .args(["run", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", WATCHDOG_USEC)
            .env_remove("WATCHDOG_PID")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Service { ear, daemon }
    }

    /// The next message; `None` if none comes in this time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.ear.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 1_024];
        match self.ear.recv(&mut message) {
            Ok(length) => Some(String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn it_is_ready_when_the_writer_answered_and_alive_while_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let ready = service.hear(PATIENCE).unwrap();
    assert!(ready.contains("READY=1") && ready.contains("http://127.0.0.1:"), "{ready}");
    assert_eq!(service.hear(PATIENCE).unwrap().trim(), "WATCHDOG=1");
    assert_eq!(service.hear(PATIENCE).unwrap().trim(), "WATCHDOG=1");

    // A writer that gets nowhere: somebody else holds the database.
    let other = rusqlite::Connection::open(folder.path().join("data/outpost.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // At most what was under way is still said.
    let said = std::iter::from_fn(|| service.hear(SILENCE)).take(3).count();
    assert!(said < 3, "it says that it is alive while its writer hangs");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(service.hear(PATIENCE).unwrap().trim(), "WATCHDOG=1");
}

#[test]
fn it_says_that_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    assert!(service.hear(PATIENCE).unwrap().contains("READY=1"));
    let id = rustix::process::Pid::from_child(&service.daemon);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let last = std::iter::from_fn(|| service.hear(PATIENCE)).find(|said| said.contains("STOPPING=1"));
    assert!(last.is_some());
}
