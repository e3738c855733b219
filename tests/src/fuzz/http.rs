//! Both programs on real sockets, with any method, path, headers and body.
//!
//! An input is a request in its written form: the first byte chooses the program, then the line with method and path, headers
//! and body. Length and host are made right; every request must have an answer, and no refusal repeats what was in its body.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use agent::config::Config;
use agent::run::Gateway;
use serde_json::Value as Json;
use server_stub::Hub;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::CANARY;

/// Whoever has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests after which both begin with empty databases again.
const REQUESTS_MAX: u32 = 20_000;

/// A gateway and a hub.
struct Programs {
    gateway: SocketAddr,
    hub: SocketAddr,
    token: String,
    asked: u32,
    end: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    _folder: TempDir,
}

thread_local! {
    static PROGRAMS: RefCell<Option<Programs>> = const { RefCell::new(None) };
}

impl Programs {
    fn start() -> Programs {
        let folder = TempDir::new().expect("a folder");
        let (gateway_dir, hub_dir) = (folder.path().join("gateway"), folder.path().join("hub"));
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.set_nonblocking(true).expect("a socket");
            (listener.local_addr().expect("an address"), listener)
        };
        let ((gateway, at_gateway), (hub, at_hub)) = (listen(), listen());
        let (end_gateway, ended_gateway) = oneshot::channel::<()>();
        let (end_hub, ended_hub) = oneshot::channel::<()>();
        let plain = server_stub::Config { tls: server_stub::Tls::Off, ..server_stub::Config::default() };
        let opened = Hub::open_with(&hub_dir, plain).expect("a hub");
        let token = opened.admin_token().to_owned();
        let threads = vec![
            runtime(async move {
                std::fs::create_dir_all(&gateway_dir).expect("a folder");
                let config = Config::parse("").expect("the defaults");
                let program = Gateway::open(&gateway_dir, &config).expect("a gateway");
                let listener = tokio::net::TcpListener::from_std(at_gateway).expect("a socket");
                program.serve(listener, async move { drop(ended_gateway.await) }).await;
            }),
            runtime(async move {
                let listener = tokio::net::TcpListener::from_std(at_hub).expect("a socket");
                server_stub::serve(listener, opened, async move { drop(ended_hub.await) }).await;
            }),
        ];
        Programs { gateway, hub, token, asked: 0, end: vec![end_gateway, end_hub], threads, _folder: folder }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.end.drain(..).for_each(|end| {
            let _ = end.send(());
        });
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn runtime(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work);
    })
}

/// One request.
pub(super) fn http(bytes: &[u8]) {
    let Some((which, written)) = bytes.split_first() else { return };
    let is_hub = which % 2 == 1;
    let Some((head, body)) = parts(written, is_hub) else { return };
    PROGRAMS.with_borrow_mut(|programs| {
        if programs.as_ref().is_none_or(|programs| programs.asked >= REQUESTS_MAX) {
            *programs = Some(Programs::start());
        }
        let programs = programs.as_mut().expect("just started");
        programs.asked += 1;
        let address = if is_hub { programs.hub } else { programs.gateway };
        let token = if is_hub { format!("authorization: Bearer {}\r\n", programs.token) } else { String::new() };
        let more = format!("{token}host: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = ask(address, &[head.as_bytes(), more.as_bytes(), body].concat());
        judge(&head, body, &answer);
    });
}

/// Head and body of a written request, with what would not be one left out.
fn parts(written: &[u8], is_hub: bool) -> Option<(String, &[u8])> {
    let end = written.windows(2).position(|two| two == b"\n\n").unwrap_or(written.len());
    let body = written.get(end + 2..).unwrap_or_default();
    let text = std::str::from_utf8(&written[..end]).ok()?;
    let mut lines = text.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    let is_name = |word: &str| is_word(word) && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    // What waits on purpose, and at a gateway what calls out.
    let waits = path.contains("changes") || !is_hub && path.contains("enroll");
    if !is_name(method) || !is_word(path) || !path.starts_with('/') || waits || method == "CONNECT" || method == "HEAD"
    {
        return None;
    }
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let is_ours =
            ["content-length", "transfer-encoding", "connection", "host", "expect", "upgrade", "authorization"]
                .contains(&name.to_ascii_lowercase().as_str());
        if is_name(name) && !is_ours && value.bytes().all(|byte| (32..127).contains(&byte)) {
            head.push_str(&format!("{name}:{value}\r\n"));
        }
    }
    Some((head, body))
}

fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the program listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // One that refuses a long head or body may close before all of it was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
        Err(error) => panic!("no answer: {error}"),
    }
    answer
}

fn judge(head: &str, body: &[u8], answer: &[u8]) {
    let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default()).ok().and_then(|s| s.parse::<u16>().ok());
    let Some(status) = status else { panic!("no answer to {head}") };
    let told = String::from_utf8_lossy(answer);
    assert!(status < 500 || [502, 503, 507].contains(&status), "{head}{told}");
    if status >= 400 && !head.contains(CANARY) && holds_canary_as_value(body) {
        assert!(!told.contains(CANARY), "a refusal repeats what it refuses: {told}");
    }
}

/// Whether a body is JSON with the canary in a value and in no name: names may be told.
fn holds_canary_as_value(body: &[u8]) -> bool {
    fn names(json: &Json) -> bool {
        match json {
            Json::Object(map) => map.iter().any(|(name, value)| name.contains(CANARY) || names(value)),
            Json::Array(list) => list.iter().any(names),
            _ => false,
        }
    }
    serde_json::from_slice::<Json>(body).is_ok_and(|json| !names(&json) && json.to_string().contains(CANARY))
}
