//! What is asked of a provider, and when: with one that says what it is told, and a clock that is put forward.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::begun::derived;
use super::signer::Signer;
use super::*;

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// What the browser keeps of the login.
const PASS: &str = "pass";

/// What is answered at each path, and how often each was asked for.
#[derive(Debug, Default)]
struct Says {
    answers: BTreeMap<&'static str, (u16, Json)>,
    asked: BTreeMap<String, u32>,
}

/// A provider that ends with the test.
struct Fake {
    issuer: String,
    says: Arc<Mutex<Says>>,
}

impl Fake {
    async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new(Says::default()));
        let serving = Arc::clone(&says);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        let fake = Fake { issuer, says };
        let at = |path: &str| format!("{}{path}", fake.issuer);
        let document = json!({
            "issuer": fake.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
            "jwks_uri": at("/keys"),
        });
        fake.answer(DISCOVERY, 200, document);
        fake
    }

    fn answer(&self, path: &'static str, status: u16, body: Json) {
        self.says.lock().unwrap().answers.insert(path, (status, body));
    }

    fn asked(&self, path: &str) -> u32 {
        self.says.lock().unwrap().asked.get(path).copied().unwrap_or(0)
    }

    fn settings(&self) -> Oidc {
        Oidc { issuer: self.issuer.clone(), client_id: "hub".to_owned(), ..Oidc::default() }
    }

    fn client(&self) -> Client {
        let settings = self.settings();
        let provider = Provider::open(&settings).unwrap();
        Client { settings, secret: "s".to_owned().into(), provider, begun: Mutex::default() }
    }

    /// From now on people log in with tokens of this key.
    fn signs(&self, signer: &Signer, header: &Json) {
        let mut claims = signer.claims(&derived(PASS, "nonce"));
        claims["iss"] = Json::from(self.issuer.as_str());
        self.answer("/token", 200, json!({ "id_token": signer.sign(header, &claims) }));
    }
}

async fn serve(mut stream: TcpStream, says: Arc<Mutex<Says>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (status, body) = {
        let mut says = says.lock().unwrap();
        let answer = says.answers.get(path.as_str()).cloned().unwrap_or((404, Json::Null));
        *says.asked.entry(path).or_default() += 1;
        answer
    };
    let body = body.to_string();
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Whether somebody comes in, or why not.
async fn log_in(client: &Client, now: Instant) -> Result<(), String> {
    let ready = client.provider.ready(now).await.unwrap();
    let person = client.prove(ready, ("code", "https://hub.example.org/login/oidc/return"), PASS, now).await;
    person.map(|person| assert_eq!(person.subject, "s-1")).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_key_that_is_new_is_asked_for_whether_or_not_the_token_names_it_once_a_minute() {
    let later = |now: Instant, seconds: u64| now + Duration::from_secs(seconds);
    for is_named in [true, false] {
        let header = |id: &str| if is_named { json!({ "alg": "EdDSA", "kid": id }) } else { json!({ "alg": "EdDSA" }) };
        let (fake, now) = (Fake::start().await, Instant::now());
        let (client, old, new) = (fake.client(), Signer::new("old"), Signer::new("new"));
        fake.answer("/keys", 200, old.published());
        fake.signs(&old, &header("old"));
        assert_eq!(log_in(&client, now).await, Ok(()));
        fake.answer("/keys", 200, new.published());
        fake.signs(&new, &header("new"));
        let refused = log_in(&client, later(now, 59)).await.unwrap_err();
        assert!(refused.ends_with("(key)") && fake.asked("/keys") == 1, "{is_named}: {refused}");
        assert_eq!(log_in(&client, later(now, 60)).await, Ok(()), "named: {is_named}");
        assert_eq!(fake.asked("/keys"), 2);
        // One that nobody has: the others come in, and the provider is left in peace.
        let stranger = Signer::new("stranger");
        fake.signs(&stranger, &header("stranger"));
        for seconds in [61, 70, 119] {
            log_in(&client, later(now, seconds)).await.unwrap_err();
        }
        assert_eq!(fake.asked("/keys"), 2);
        for seconds in [120, 121] {
            log_in(&client, later(now, seconds)).await.unwrap_err();
        }
        assert_eq!(fake.asked("/keys"), 3);
        fake.signs(&new, &header("new"));
        assert_eq!(log_in(&client, later(now, 121)).await, Ok(()));
    }
}

#[tokio::test]
async fn what_the_provider_said_is_believed_for_an_hour_and_after_a_failure_it_is_left_alone() {
    let (fake, now) = (Fake::start().await, Instant::now());
    let client = fake.client();
    let endpoints = async |seconds: u64| client.provider.endpoints(now + Duration::from_secs(seconds)).await;
    for (seconds, asked) in [(0, 1), (3_599, 1), (3_600, 2)] {
        endpoints(seconds).await.unwrap();
        assert_eq!(fake.asked(DISCOVERY), asked, "{seconds}");
    }
    let (_, document) = fake.says.lock().unwrap().answers.remove(DISCOVERY).unwrap();
    for (seconds, asked) in [(7_200, 3), (7_209, 3), (7_220, 4)] {
        endpoints(seconds).await.unwrap_err();
        assert_eq!(fake.asked(DISCOVERY), asked, "{seconds}");
    }
    fake.answer(DISCOVERY, 200, document);
    endpoints(7_240).await.unwrap();
}

#[tokio::test]
async fn only_a_code_that_is_none_is_the_fault_of_who_brings_it() {
    let (fake, now) = (Fake::start().await, Instant::now());
    let client = fake.client();
    let says = async |status: u16, answer: Json| {
        fake.answer("/token", status, answer);
        log_in(&client, now).await.unwrap_err()
    };
    assert_eq!(says(400, json!({ "error": "invalid_grant" })).await, Refused::NotLetIn.to_string());
    for (status, error) in
        [(401, "invalid_client"), (400, "unauthorized_client"), (400, "invalid_request"), (403, "<b>what")]
    {
        let told = says(status, json!({ "error": error })).await;
        assert!(told.contains("client_id") && !told.contains(error), "{error}: {told}");
    }
    for (status, answer) in
        [(400, json!({})), (500, json!({ "error": "invalid_grant" })), (200, json!({})), (200, json!(7))]
    {
        assert_eq!(says(status, answer).await, Trouble::Odd.to_string(), "{status}");
    }
    assert_eq!(fake.asked("/keys"), 0);
}
