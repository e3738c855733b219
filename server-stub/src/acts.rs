//! What was done at gateways, told by them for the audit: who was let in there, and which key opens what.
//!
//! A gateway says what it likes of itself, as it does of its records: an entry is what the gateway told, from where and when, and
//! says so. It can say nothing of another gateway, nothing in the name of the hub, and no more in a day than [`ACTS_A_DAY`].

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audit::Actor;
use crate::clock::rfc3339;
use crate::exchange;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::problem::{self, Problem};
use crate::secret::{hex, unhex};
use crate::store::Tx;
use crate::strangers::whole;

/// New acts of one gateway in a day. It keeps 500 until it is heard, so that all of them pass at once.
pub(crate) const ACTS_A_DAY: u64 = 1_000;
/// What a request may bring.
const TELLING_BYTES_MAX: usize = 256 * 1024;
/// Acts in one request.
const ACTS_AT_ONCE: usize = 64;
const WHO_BYTES_MAX: usize = 100;
const WHAT_BYTES_MAX: usize = 40;
const ON_BYTES_MAX: usize = 1_024;

/// What a gateway sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Telling {
    acts: Vec<Told>,
    #[serde(default)]
    dropped: u64,
}

/// One act as it is sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    number: u64,
    name: String,
    at_ms: i64,
    time: String,
    who: String,
    what: String,
    on: Map<String, Value>,
}

/// What it is told back.
#[derive(Debug, Serialize)]
pub(crate) struct Heard {
    upto: u64,
}

/// One act that has the right form.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) number: u64,
    pub(crate) name: [u8; 8],
    at_ms: i64,
    time: String,
    who: String,
    what: String,
    on: Map<String, Value>,
}

impl Told {
    fn checked(self) -> Result<Act, Problem> {
        let wrong = |what: &str| Problem::bad_request(format!("act {}: {what}", self.number));
        let name = unhex(&self.name).and_then(|bytes| bytes.try_into().ok());
        let name = name.ok_or_else(|| wrong("its name has 16 hex digits"))?;
        let is_word = |text: &str| {
            (1..=WHAT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        };
        if !is_word(&self.what) || !is_word(&self.time) {
            return Err(wrong("what was done and how good the time is are words with hyphens"));
        }
        if !(1..=WHO_BYTES_MAX).contains(&self.who.len()) || self.who.chars().any(char::is_control) {
            return Err(wrong("who did it has 1 to 100 bytes, and no control characters"));
        }
        let is_plain = |value: &Value| !value.is_object() && !value.is_array();
        let is_flat = |value: &Value| is_plain(value) || value.as_array().is_some_and(|list| list.iter().all(is_plain));
        if !self.on.values().all(is_flat) || Value::from(self.on.clone()).to_string().len() > ON_BYTES_MAX {
            return Err(wrong("on what it was done is a flat object of at most 1,024 bytes"));
        }
        let Told { number, at_ms, time, who, what, on, .. } = self;
        Ok(Act { number, name, at_ms, time, who, what, on })
    }
}

impl Act {
    /// Who did it, as the audit names it: never without the gateway, so that nobody there passes for somebody here.
    pub(crate) fn actor(&self, gateway: &Actor) -> Actor {
        match self.who.as_str() {
            "gateway" => gateway.clone(),
            who => Actor { who: format!("{}/{who}", gateway.who), source: gateway.source.clone() },
        }
    }

    /// What the audit says of it. What was done has a place of its own, apart from what is done at the hub.
    pub(crate) fn target(&self, gateway: &Actor) -> Value {
        json!({
            "gateway": gateway.gateway_name(),
            "did": self.what,
            "on": self.on,
            "at": rfc3339(self.at_ms),
            "time": self.time,
            "act": self.number,
            "name": hex(&self.name),
        })
    }
}

/// `POST /acts/v1`.
pub(crate) async fn take(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Json<Heard>, Problem> {
    // Before anything is kept of what comes: who it is.
    let (device, name) = match peer.owner(&hub).await {
        Ok(known) => known,
        Err(refused) => {
            exchange::drain_a_little(body).await;
            return Err(refused.into());
        }
    };
    let body = whole(body, TELLING_BYTES_MAX).await?;
    let Telling { acts, dropped } = problem::json(&body)?;
    if !(1..=ACTS_AT_ONCE).contains(&acts.len()) || !acts.is_sorted_by(|one, next| one.number < next.number) {
        return Err(Problem::bad_request(format!("there are 1 to {ACTS_AT_ONCE} acts, and their numbers rise")));
    }
    let acts = acts.into_iter().map(Told::checked).collect::<Result<Vec<_>, _>>()?;
    let gateway = Actor::at(format!("gateway:{name}"), peer.address);
    let write = move |tx: &mut Tx<'_>| tx.take_acts(device, &gateway, &acts, dropped);
    match hub.write(write).await? {
        Some(upto) => Ok(Json(Heard { upto })),
        None => {
            tracing::warn!(device = device.0, "a gateway tells of more acts in a day than are taken");
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-acts", "Too many acts in a day")
                .detail(format!("of one gateway {ACTS_A_DAY} acts are taken in a day"))
                .hint("the gateway keeps them, and tells the rest tomorrow"))
        }
    }
}
