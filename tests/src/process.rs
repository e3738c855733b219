//! Hubs and gateways as real programs: started on a free port, asked over HTTP, killed without warning.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::canary;
pub use crate::mount::may_mount;
use crate::mount::read_only;
use crate::preload::Variables;
use crate::program::{EXEC, must_in, say_by};
pub use crate::program::{Running, command, end_all, must, program, say};
use crate::proxy::Proxy;
pub use crate::wait::wait_for;

/// A hub on a folder, behind a proxy that keeps one address over restarts.
#[derive(Debug)]
pub struct Hub {
    dir: PathBuf,
    running: Option<Running>,
    scheme: &'static str,
    /// Of its environment, and that of its commands.
    variables: Variables,
    /// The way to it that gateways use.
    pub proxy: Proxy,
}

impl Hub {
    /// Starts a hub on `dir` as it is by default, with TLS.
    pub fn start(dir: &Path) -> Hub {
        Hub::start_as(dir, "https", "")
    }

    /// Starts a hub that speaks plain HTTP, so that a test sees and counts what goes over the link.
    pub fn start_plain(dir: &Path) -> Hub {
        Hub::start_as(dir, "http", "tls = \"off\"\n")
    }

    /// Starts a hub with a configuration; `scheme` is what it speaks by that.
    pub fn start_as(dir: &Path, scheme: &'static str, config: &str) -> Hub {
        std::fs::create_dir_all(dir).expect("a folder for the hub");
        std::fs::write(dir.join("config.toml"), config).expect("its configuration");
        let mut hub = Hub { dir: dir.to_owned(), running: None, scheme, variables: Vec::new(), proxy: Proxy::start() };
        hub.restart();
        hub
    }

    fn config(&self) -> String {
        self.dir.join("config.toml").to_string_lossy().into_owned()
    }

    /// The way to it through the proxy.
    pub fn proxied(&self) -> String {
        self.proxy.url().replacen("http", self.scheme, 1)
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// Starts it again on the same folder.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Starts it again, with a log of everything that it and its libraries can say.
    pub fn restart_telling_all(&mut self) {
        self.restart_with(&[tells_all()]);
    }

    /// Starts it again, in this environment from now on.
    pub fn restart_in(&mut self, variables: Variables) {
        self.variables = variables;
        self.restart();
    }

    fn restart_with(&mut self, variables: &[(&str, String)]) {
        self.kill();
        let log = self.dir.join("log");
        let dir = self.data_dir();
        let variables = &[variables, &self.variables].concat();
        let config = self.config();
        let args = ["serve", "--data-dir", &dir, "--config", &config, "--listen", "127.0.0.1:0"];
        let running = Running::start_with("outpost-hub", &args, variables, &log);
        self.proxy.lead_to(&running.address);
        self.running = Some(running);
    }

    /// Its data folder.
    pub fn data_dir(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }

    /// Where it listens itself.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.running.as_ref().map(|r| r.address.as_str()).unwrap_or_default())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::id)
    }

    /// Runs one of its commands, which must succeed.
    pub fn command(&self, args: &[&str]) -> String {
        let dir = self.data_dir();
        must_in(&self.variables, "outpost-hub", &[args, &["--data-dir", &dir, "--config", &self.config()]].concat())
    }

    /// Adds a gateway, and gives the code for it.
    pub fn code(&self, name: &str, scope: &str) -> String {
        [name, scope].into_iter().for_each(canary::note_name);
        let added = self.command(&["gateway", "add", name, "--scope", scope, "--json"]);
        let added: Value = serde_json::from_str(&added).expect("JSON of gateway add");
        canary::note_secrets(&added);
        added.get("code").and_then(Value::as_str).expect("a code").to_owned()
    }

    /// Publishes rules.
    pub fn publish(&self, rules: &str) {
        let file = self.dir.join("rules.toml");
        std::fs::write(&file, rules).expect("a rules file");
        self.command(&["rules", "publish", &file.to_string_lossy()]);
    }

    /// Asks the admin API.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let token = std::fs::read_to_string(self.dir.join("admin.token")).expect("the admin token");
        canary::note_secret(token.trim());
        let token = format!("Bearer {}", token.trim());
        let headers = [("authorization", token.as_str())];
        ask_by(&client(self.authority().as_deref()), method, &format!("{}{path}", self.url()), &headers, body)
    }

    /// The certificate of its authority; `None` if it speaks plain HTTP.
    fn authority(&self) -> Option<Vec<u8>> {
        let database = || rusqlite::Connection::open(self.dir.join("hub.db")).expect("its database");
        let read = |db: rusqlite::Connection| db.query_row("SELECT certificate FROM authority", [], |row| row.get(0));
        (self.scheme == "https").then(|| read(database()).expect("its authority"))
    }

    /// All records of a type as canonical JSON lines, by id.
    pub fn export(&self, record_type: &str) -> String {
        let (status, body) = self.ask("GET", &format!("/admin/v1/export/{record_type}"), None);
        assert_eq!(status, 200, "{body}");
        let line = |line: &str| {
            let record: Value = serde_json::from_str(line).expect("an exported record");
            format!("{}\n", serde_json::json!({"id": record.get("id"), "body": record.get("body")}))
        };
        body.lines().map(line).collect()
    }
}

/// A gateway on a folder.
#[derive(Debug)]
pub struct Gateway {
    dir: PathBuf,
    running: Option<Running>,
    /// Of its environment.
    variables: Variables,
}

impl Gateway {
    /// Starts a gateway on `dir`; not enrolled yet.
    pub fn start(dir: &Path) -> Gateway {
        Gateway::start_in(dir, Vec::new())
    }

    /// Starts a gateway in this environment.
    pub fn start_in(dir: &Path, variables: Variables) -> Gateway {
        std::fs::create_dir_all(dir).expect("a folder for the gateway");
        let mut gateway = Gateway { dir: dir.to_owned(), running: None, variables };
        gateway.restart();
        gateway
    }

    /// Starts a gateway on a board whose system has these files: a folder with its `sys`, `proc` and `run`.
    pub fn start_on_board(dir: &Path, system: &Path) -> Gateway {
        Gateway::start_in(dir, vec![("OUTPOST_TEST_ROOT", system.to_string_lossy().into_owned())])
    }

    /// Starts a gateway in another box than the one that this machine is.
    pub fn start_in_box(dir: &Path, name: &str) -> Gateway {
        Gateway::start_in(dir, vec![("OUTPOST_TEST_BOX", name.to_owned())])
    }

    /// Starts a gateway and enrols it under a name and scope.
    pub fn enrolled(dir: &Path, hub: &Hub, name: &str, scope: &str) -> Gateway {
        let gateway = Gateway::start(dir);
        gateway.enroll(hub, name, scope);
        gateway
    }

    /// Enrols it.
    pub fn enroll(&self, hub: &Hub, name: &str, scope: &str) {
        self.command(&["enroll", &hub.proxied(), &hub.code(name, scope)]);
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// Starts it again on the same folder.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Starts it again, with a log of everything that it and its libraries can say.
    pub fn restart_telling_all(&mut self) {
        self.restart_with(&[tells_all()]);
    }

    /// Cuts the power of its box and switches it on again: a new boot, in which the wall clock begins here.
    pub fn boot(&mut self, boot_id: &str, wall_ms: i64) {
        self.restart_with(&[clock(boot_id, wall_ms)]);
    }

    /// Runs one of its commands in a boot, which must succeed. For the command the boot and its clock begin anew.
    pub fn command_in_boot(&self, boot_id: &str, wall_ms: i64, args: &[&str]) -> String {
        let dir = self.data_dir();
        must_in(&[clock(boot_id, wall_ms)], "outpost", &[args, &["--data-dir", &dir]].concat())
    }

    /// Starts it again on a card that takes no writes. `memory` is where it may make a copy.
    pub fn restart_read_only(&mut self, memory: &Path) {
        self.restart_by(&read_only(&self.data_dir()), &[in_memory(memory)]);
    }

    /// Runs one of its commands on that card, and says something to it.
    pub fn say_read_only(&self, memory: &Path, args: &[&str], said: &str) -> Output {
        let dir = self.data_dir();
        let args = [args, &["--data-dir", &dir, "--passphrase-fd", "0"]].concat();
        say_by(&read_only(&dir), "outpost", &args, &[in_memory(memory)], said)
    }

    fn restart_with(&mut self, variables: &[(&str, String)]) {
        self.restart_by(EXEC, variables);
    }

    fn restart_by(&mut self, line: &str, variables: &[(&str, String)]) {
        self.kill();
        let dir = self.data_dir();
        let log = self.dir.join("log");
        let args = ["run", "--data-dir", &dir, "--listen", "127.0.0.1:0"];
        let variables = &[variables, &self.variables].concat();
        self.running = Some(Running::start_by(line, "outpost", &args, variables, &log));
    }

    /// Its data folder.
    pub fn data_dir(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.as_ref().map(|r| r.address.as_str()).unwrap_or_default())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::id)
    }

    /// Runs one of its commands, which must succeed.
    pub fn command(&self, args: &[&str]) -> String {
        let dir = self.data_dir();
        must("outpost", &[args, &["--data-dir", &dir]].concat())
    }

    /// Asks its API.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> (u16, String) {
        ask(method, &format!("{}{path}", self.url()), headers, body)
    }

    /// Saves a record, which must succeed.
    pub fn put(&self, key: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("PUT", &format!("/v1/records/{key}"), &[], Some(body));
        assert!(status == 200 || status == 201, "{key}: {status} {answer}");
        serde_json::from_str(&answer).expect("a receipt")
    }

    /// A record; `None` if there is none.
    pub fn get(&self, key: &str) -> Option<Value> {
        let (status, answer) = self.ask("GET", &format!("/v1/records/{key}"), &[], None);
        (status == 200).then(|| serde_json::from_str(&answer).expect("a record"))
    }

    /// Syncs until there is nothing left to say; tells what it did.
    pub fn sync(&self) -> Value {
        let (status, answer) = self.ask("POST", "/v1/sync", &[], None);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).expect("a report")
    }

    /// Its status.
    pub fn status(&self) -> Value {
        let (status, answer) = self.ask("GET", "/v1/status", &[], None);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).expect("a status")
    }

    /// A number of its status.
    pub fn count(&self, key: &str) -> u64 {
        self.status().get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    /// All records of a type as JSON lines, by id.
    pub fn export(&self, record_type: &str) -> String {
        let listed = self.command(&["records", "list", record_type]);
        let mut lines = String::new();
        for line in listed.lines() {
            let record: Value = serde_json::from_str(line).expect("a listed record");
            let (id, body) = (record.get("id"), record.get("body"));
            lines.push_str(&serde_json::json!({"id": id, "body": body}).to_string());
            lines.push('\n');
        }
        lines
    }
}

fn in_memory(folder: &Path) -> (&'static str, String) {
    ("RUNTIME_DIRECTORY", folder.to_string_lossy().into_owned())
}

fn clock(boot_id: &str, wall_ms: i64) -> (&'static str, String) {
    ("OUTPOST_TEST_CLOCK", format!("{boot_id} {wall_ms}"))
}

fn tells_all() -> (&'static str, String) {
    ("RUST_LOG", "trace".to_owned())
}

/// One HTTP request with JSON; status and body of the answer, whatever the status.
pub fn ask(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&Value>) -> (u16, String) {
    ask_by(&client(None), method, url, headers, body)
}

/// A client that trusts this authority and nobody else.
fn client(authority: Option<&[u8]>) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let config = config.timeout_global(Some(Duration::from_secs(120)));
    let Some(authority) = authority else { return config.build().into() };
    let trusted = RootCerts::new_with_certs(&[Certificate::from_der(authority).to_owned()]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder().root_certs(trusted).unversioned_rustls_crypto_provider(provider);
    config.tls_config(tls.build()).build().into()
}

fn ask_by(
    client: &ureq::Agent,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> (u16, String) {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let is_typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if body.is_some() && !is_typed {
        request = request.header("content-type", "application/json");
    }
    let is_write = url.contains("/records") || url.contains("/batch");
    url.split(['/', '?']).skip_while(|part| *part != "records").for_each(canary::note_name);
    match body {
        Some(batch) if url.contains("/batch") => canary::note_batch(batch),
        Some(record) if is_write => canary::note_values(record),
        _ => {}
    }
    body.into_iter().for_each(canary::note_secrets);
    for (_, author) in headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("outpost-author")) {
        canary::note_values(&Value::from(*author));
    }
    let text = body.map(|b| b.as_str().map_or_else(|| b.to_string(), str::to_owned)).unwrap_or_default();
    let answer = request.body(text).map_err(|e| e.to_string()).and_then(|r| client.run(r).map_err(|e| e.to_string()));
    match answer {
        Ok(mut answer) => {
            let status = answer.status().as_u16();
            let told = answer.body_mut().with_config().limit(1 << 30).read_to_string().unwrap_or_default();
            match body.filter(|_| status >= 400) {
                Some(sent) if is_write => canary::check_refused_record(sent, &told),
                Some(sent) => canary::check_refusal(sent, &told),
                None => serde_json::from_str(&told).iter().for_each(canary::note_secrets),
            }
            (status, told)
        }
        Err(error) => (0, error),
    }
}
