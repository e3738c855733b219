//! The hub over real sockets, with gateways whose store is in memory.

mod acts;
mod admin;
mod audit;
mod backup;
mod beside;
mod commands;
mod daily;
mod erase;
mod escrow;
mod exchange;
mod given;
mod limits;
mod login;
mod pages;
mod people;
mod proxy;
mod rescue;
mod rights;
mod room;
mod slow;
mod store;
mod tls;
mod twins;
mod walk;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::{Map, Value as Json, json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::gateway::{self, Capture, Intent, Store as _, WallClock};
use sync_protocol::id::{Device, Epoch, Origin, RecordKey, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::MemoryGateway;
use sync_protocol::message::{Request, Response, body, split_head};
use sync_protocol::payload::Payload;
use sync_protocol::record::Record;
use sync_protocol::rules::Rules;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Config, Hub, Tls, serve};

const SYNC: (&str, &str) = ("content-type", "application/vnd.outpost.sync");

/// The log of all tests together, of all threads.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    subscriber.with_writer(move || Log(Arc::clone(&writer))).init();
    log
});

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

/// A hub that serves on a free port of this machine.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) hub: Hub,
    address: SocketAddr,
    end: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl World {
    pub(crate) async fn start() -> World {
        World::start_with(Config { tls: Tls::Off, ..Config::default() }).await
    }

    async fn start_with(config: Config) -> World {
        LazyLock::force(&LOG);
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::open_with(dir.path(), config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, hub.clone(), async move { drop(ended.await) }));
        World { dir, hub, address, end, served }
    }

    async fn stop(self) -> TempDir {
        self.end.send(()).unwrap();
        self.served.await.unwrap();
        self.dir
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.send([request.as_bytes(), body].concat(), false).await.unwrap()
    }

    /// Sends bytes and reads what comes; `None` if the hub just hangs up, as it may if the sending was cut, or too much.
    async fn send(&self, bytes: Vec<u8>, is_cut: bool) -> Option<Reply> {
        let address = self.address;
        let talk = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            // What was said before it hung up is there to read all the same.
            let _ = stream.write_all(&bytes);
            if is_cut {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok()?;
            let at = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
            let head = String::from_utf8(answer[..at].to_vec()).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let (head, body) = (head.to_lowercase(), &answer[at + 4..]);
            let is_chunked = head.contains("transfer-encoding: chunked");
            let body = if is_chunked { joined(body) } else { body.to_vec() };
            Some(Reply { status, head, body })
        };
        tokio::task::spawn_blocking(talk).await.unwrap()
    }

    pub(crate) async fn admin(&self, method: &str, path: &str, body: Json) -> Reply {
        self.admin_with(method, path, &[], body).await
    }

    async fn admin_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Json) -> Reply {
        let token = format!("Bearer {}", self.hub.admin_token());
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", token.as_str())]).collect();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, &format!("/admin/v1{path}"), &headers, body.as_bytes()).await
    }

    async fn enroll(&self, code: &str) -> Reply {
        let wish = json!({ "code": code, "hardware": { "machine": "m-1" }, "version": "1.2.3" });
        self.ask("POST", "/enroll/v1", &[("content-type", "application/json")], wish.to_string().as_bytes()).await
    }

    async fn clinic(&self, name: &str, scope: &str) -> Clinic {
        let code = self.hub.add_gateway(name, &[scope], "clinic").await.unwrap();
        let granted = self.enroll(&code).await;
        assert_eq!(granted.status, 200, "{granted:?}");
        Clinic::new(&granted.json())
    }

    /// One exchange, and whether to go on.
    async fn exchange(&self, clinic: &mut Clinic) -> Response {
        let outgoing = clinic.request();
        let reply = self.ask("POST", "/sync/v1", &[SYNC], &body(&outgoing.head.encode(), outgoing.frames)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        clinic.integrate(&outgoing.head, &reply.body)
    }

    /// Exchanges until there is nothing more to say; the digests must agree then.
    async fn sync(&self, clinic: &mut Clinic) {
        for _ in 0..20 {
            let response = self.exchange(clinic).await;
            if !response.more && clinic.store.state().unwrap().unsent() == 0 && response.view.is_none() {
                assert!(clinic.agrees, "the digests of hub and gateway agree");
                return;
            }
        }
        panic!("it does not settle");
    }
}

/// A gateway.
struct Clinic {
    store: MemoryGateway,
    packer: Packer,
    now_ms: i64,
    agrees: bool,
}

impl Clinic {
    fn new(granted: &Json) -> Clinic {
        let number = |key: &str| u32::try_from(granted[key].as_u64().unwrap()).unwrap();
        let mut store = MemoryGateway::default();
        let mut state = store.state().unwrap();
        state.device = Device(number("device"));
        state.key = key_of(granted["key"].as_str().unwrap());
        state.epoch = Epoch(number("epoch"));
        let scopes = granted["scopes"].as_array().unwrap();
        state.scopes = scopes.iter().map(|scope| Scope::new(scope.as_str().unwrap()).unwrap()).collect();
        state.source = Source(u8::try_from(number("source")).unwrap());
        store.set_state(&state).unwrap();
        store.set_rules(Arc::new(Rules::parse(granted["rules"].as_str().unwrap()).unwrap())).unwrap();
        gateway::adopt_origin(&mut store, Origin(number("origin"))).unwrap();
        let packer = Packer::new(Effort::Quick).unwrap();
        Clinic { store, packer, now_ms: granted["hub_ms"].as_i64().unwrap(), agrees: false }
    }

    fn capture(&mut self, key: &str, intent: Intent) {
        self.now_ms += 1_000;
        let key = RecordKey::parse(key).unwrap();
        let quality = TimeQuality::Good;
        let wish = Capture { key, intent, base: None, author: None, now_ms: self.now_ms, quality };
        gateway::capture(&mut self.store, wish).unwrap();
    }

    fn put(&mut self, key: &str, body: Json) {
        self.capture(key, Intent::Put(object(body)));
    }

    fn request(&mut self) -> gateway::Outgoing {
        let clock = WallClock { now_ms: self.now_ms as u64, ahead_seconds: Some(0) };
        gateway::request(&mut self.store, &mut self.packer, clock, 1 << 20, 1 << 20).unwrap()
    }

    fn integrate(&mut self, request: &Request, body: &[u8]) -> Response {
        let (head, mut at) = split_head(body).unwrap().unwrap();
        let response = Response::decode(head).unwrap();
        gateway::integrate_head(&mut self.store, request, &response).unwrap();
        while let Some((frame, taken)) = split(&body[at..]).unwrap() {
            match Payload::decode(&self.packer.unpack(frame).unwrap()).unwrap() {
                Payload::Rows(rows) => drop(gateway::integrate_rows(&mut self.store, &rows).unwrap()),
                Payload::Ops(_) => panic!("ops from the hub"),
            }
            at += taken;
        }
        self.agrees = gateway::finish(&mut self.store, request, &response).unwrap();
        response
    }

    fn record(&self, key: &str) -> Option<&Record> {
        self.store.record(&RecordKey::parse(key).unwrap()).map(|held| &held.visible)
    }

    fn body(&self, key: &str) -> Json {
        self.record(key).map_or(Json::Null, |record| Json::Object(sync_protocol::edit::render(record)))
    }
}

/// What came in chunks, in one piece.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let at = chunks.windows(2).position(|two| two == b"\r\n").expect("the length of a chunk");
        let bytes = usize::from_str_radix(str::from_utf8(&chunks[..at]).unwrap(), 16).unwrap();
        if bytes == 0 {
            return whole;
        }
        whole.extend_from_slice(&chunks[at + 2..][..bytes]);
        chunks = &chunks[at + 2 + bytes + 2..];
    }
}

/// A key from its hex digits.
fn key_of(hex: &str) -> DeviceKey {
    let digits = hex.as_bytes().chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap());
    DeviceKey(digits.collect::<Vec<u8>>().try_into().unwrap())
}

fn object(body: Json) -> Map<String, Json> {
    body.as_object().cloned().unwrap()
}
