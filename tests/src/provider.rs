//! A login provider (OpenID Connect) on this machine that does what one does, and on request what none should.
//!
//! Its keys are made when it starts. It lets everybody in as the person it is told, and checks what comes to it: the code is good
//! once, with the redirect address, the secret and the proof (RFC 7636) of who asked for it.

mod keys;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use self::keys::Keyring;
pub use self::keys::Sign;

/// The hub's name at the provider.
pub const CLIENT: &str = "outpost:hub";
/// The secret that goes with it.
pub const SECRET: &str = "s3cret of the hub/+";

/// What it does that it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// Nothing.
    None,
    /// It says that it is another one.
    OtherName,
    /// It leads elsewhere for its description.
    Redirects,
    /// It never answers.
    Silent,
    /// Its keys have no end.
    HugeKeys,
}

/// What it says of whoever logs in.
#[derive(Debug, Clone)]
pub struct Says {
    /// Who it is: the claim `sub`.
    pub subject: String,
    /// Claims that are added, or in the place of what they should be; null takes one away.
    pub claims: Value,
    /// How the token is signed.
    pub sign: Sign,
    /// Whether the secret has to come in the body (`client_secret_post`), and not in the header.
    pub by_post: bool,
    /// What else.
    pub oddity: Oddity,
}

/// What was asked for with a code.
#[derive(Debug)]
struct Asked {
    nonce: String,
    challenge: String,
    redirect: String,
    scopes: String,
}

#[derive(Debug)]
struct Inner {
    issuer: String,
    keys: Keyring,
    says: Mutex<Says>,
    codes: Mutex<BTreeMap<String, Asked>>,
    asked: Mutex<BTreeMap<String, u64>>,
}

/// A provider that runs until the process ends.
#[derive(Debug)]
pub struct Provider {
    /// Where it listens, in the clear.
    pub address: String,
    inner: Arc<Inner>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Provider {
    /// Starts one that is known by its own address.
    pub fn start() -> Provider {
        Provider::start_as(None)
    }

    /// Starts one that is known by another address, such as that of what ends TLS in front of it.
    ///
    /// # Panics
    /// If there is no port or no randomness.
    pub fn start_as(issuer: Option<String>) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let says =
            Says { subject: String::new(), claims: json!({}), sign: Sign::Es256, by_post: false, oddity: Oddity::None };
        let inner = Arc::new(Inner {
            issuer: issuer.unwrap_or_else(|| format!("http://{address}")),
            keys: Keyring::new(),
            says: Mutex::new(says),
            codes: Mutex::default(),
            asked: Mutex::default(),
        });
        let serving = Arc::clone(&inner);
        // Ends with the process; it holds nothing but sockets.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inner = Arc::clone(&serving);
                // A hub that hangs up is no matter of the provider.
                thread::spawn(move || drop(inner.serve(stream)));
            }
        });
        Provider { address, inner }
    }

    /// How it names itself.
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// Changes what it says from now on.
    pub fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut locked(&self.inner.says));
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> u64 {
        locked(&self.inner.asked).get(path).copied().unwrap_or(0)
    }

    /// What a browser does that was led there: somebody logs in, and is sent back. Gives the address he is sent to.
    pub fn log_in(&self, url: &str) -> String {
        let query = url.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let fields = fields(query);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        assert_eq!((field("response_type").as_str(), field("client_id").as_str()), ("code", CLIENT), "{url}");
        assert_eq!(field("code_challenge_method"), "S256", "{url}");
        assert!(field("scope").split(' ').any(|scope| scope == "openid"), "{url}");
        let code = format!("code-{}", coded(digest(&SHA256, url.as_bytes())));
        crate::canary::note_secret(&code);
        let redirect = field("redirect_uri");
        let asked = Asked {
            nonce: field("nonce"),
            challenge: field("code_challenge"),
            redirect: redirect.clone(),
            scopes: field("scope"),
        };
        locked(&self.inner.codes).insert(code.clone(), asked);
        format!("{redirect}?code={code}&state={}&session_state=1&iss={}", field("state"), escaped(self.issuer()))
    }
}

impl Inner {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let (head, body) = request(&mut stream)?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        *locked(&self.asked).entry(path.clone()).or_default() += 1;
        let says = locked(&self.says).clone();
        if says.oddity == Oddity::Silent {
            // Until the hub has had enough.
            return stream.read(&mut [0]).map(drop);
        }
        let (status, more, answer) = match path.as_str() {
            "/.well-known/openid-configuration" if says.oddity == Oddity::Redirects => {
                ("302 Found", "location: /elsewhere\r\n", String::new())
            }
            "/.well-known/openid-configuration" | "/elsewhere" => ("200 OK", "", self.description(&says).to_string()),
            "/keys" => ("200 OK", "", self.keys(&says)),
            "/token" => self.token(&head, &body, &says),
            _ => ("404 Not Found", "", String::new()),
        };
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(answer.as_bytes())
    }

    fn description(&self, says: &Says) -> Value {
        let issuer = &self.issuer;
        let named = if says.oddity == Oddity::OtherName { "https://id.example.org" } else { issuer };
        json!({
            "issuer": named,
            "authorization_endpoint": format!("{issuer}/authorize?kept=1"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "token_endpoint_auth_methods_supported": [if says.by_post { "client_secret_post" } else { "client_secret_basic" }],
            "id_token_signing_alg_values_supported": ["ES256", "EdDSA", "RS256", "PS256"],
        })
    }

    fn keys(&self, says: &Says) -> String {
        let filling = if says.oddity == Oddity::HugeKeys { "x".repeat(1 << 20) } else { String::new() };
        json!({ "keys": self.keys.published(), "filling": filling }).to_string()
    }

    fn token(&self, head: &str, body: &str, says: &Says) -> (&'static str, &'static str, String) {
        let refused = |why: &str| ("400 Bad Request", "", json!({ "error": why }).to_string());
        let fields = fields(body);
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        // The one way or the other, and never both (RFC 6749, 2.3).
        let known = format!("{}:{}", escaped(CLIENT), escaped(SECRET));
        let in_head = format!("authorization: Basic {}", STANDARD.encode(known));
        let shown: Vec<&str> = head.lines().filter(|line| line.to_lowercase().starts_with("authorization:")).collect();
        let is_known = match says.by_post {
            true => shown.is_empty() && (field("client_id"), field("client_secret")) == (CLIENT, SECRET),
            false => shown == [in_head] && !fields.contains_key("client_secret"),
        };
        if !is_known {
            return refused("invalid_client");
        }
        let Some(asked) = locked(&self.codes).remove(field("code")) else { return refused("invalid_grant") };
        let proof = coded(digest(&SHA256, field("code_verifier").as_bytes()));
        let is_right = proof == asked.challenge && field("redirect_uri") == asked.redirect;
        if !is_right || field("grant_type") != "authorization_code" {
            return refused("invalid_grant");
        }
        let token = self.token_of(&asked, says);
        crate::canary::note_secret(&token);
        let answer =
            json!({ "access_token": "of no use here", "token_type": "Bearer", "expires_in": 60, "id_token": token });
        ("200 OK", "", answer.to_string())
    }

    fn token_of(&self, asked: &Asked, says: &Says) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "sub": says.subject, "nonce": asked.nonce, "iat": now, "exp": now + 300,
            "email": "director@example.org", "preferred_username": "director",
        });
        let changes = says.claims.as_object().into_iter().flatten();
        if let Some(claims) = claims.as_object_mut() {
            claims.extend(changes.map(|(name, value)| (name.clone(), value.clone())));
            // What nobody asked for is not told (OpenID Connect Core, 5.4).
            let scope_of = |claim: &str| match claim {
                "email" => "email",
                "preferred_username" => "profile",
                _ => "openid",
            };
            let is_asked = |claim: &str| asked.scopes.split(' ').any(|scope| scope == scope_of(claim));
            claims.retain(|claim, value| !value.is_null() && is_asked(claim));
        }
        self.keys.signed(&claims, says.sign)
    }
}

/// Head and body of a request.
fn request(stream: &mut TcpStream) -> io::Result<(String, String)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

/// Text as a form sends it, each byte escaped that is no letter or digit.
pub fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false if byte == b' ' => "+".to_owned(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// The fields of a form.
pub fn fields(form: &str) -> BTreeMap<String, String> {
    let plain = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let digits: Vec<u8> = rest.by_ref().take(2).collect();
                    let digits = String::from_utf8_lossy(&digits).into_owned();
                    bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
                }
                other => bytes.push(other),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    form.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (plain(name), plain(value))).collect()
}
