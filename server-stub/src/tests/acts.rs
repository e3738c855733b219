//! What gateways tell of what was done there: who may, what of it is taken, and what an entry says.

use serde_json::{Value as Json, json};

use super::tls::{Card, Fort};
use crate::acts::ACTS_A_DAY;
use crate::audit::{Entry, Verdict};

/// An act with a name of its own.
fn act(number: u64, name: u64) -> Json {
    let on = json!({ "app": "tablet 1", "reads": ["visit"], "days": 365 });
    json!({ "number": number, "name": format!("{name:016x}"), "at_ms": 1_780_000_000_000_i64, "time": "good",
            "who": "cli:0 for 1000", "what": "invite-app", "on": on })
}

impl Fort {
    async fn tell(&self, card: Option<&Card>, body: &Json) -> (u16, Json) {
        let (status, body) = self.ask(card, "/acts/v1", "application/json", body.to_string().as_bytes()).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn tell_acts(&self, card: &Card, acts: &[Json]) -> (u16, Json) {
        self.tell(Some(card), &json!({ "acts": acts, "dropped": 0 })).await
    }

    async fn told(&self) -> Vec<Entry> {
        let all = self.hub.read(|tx| tx.audit_after(0, 10_000)).await.unwrap();
        all.into_iter().filter(|entry| entry.what == "gateway-act").collect()
    }

    async fn names(&self) -> Vec<u64> {
        let name = |entry: &Entry| {
            let on: Json = serde_json::from_str(&entry.target).unwrap();
            u64::from_str_radix(on["name"].as_str().unwrap(), 16).unwrap()
        };
        self.told().await.iter().map(name).collect()
    }
}

#[tokio::test]
async fn what_a_gateway_tells_is_an_entry_of_this_gateway_and_written_once() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    let (_, other) = fort.clinic("b").await;
    let itself = json!({ "number": 9, "name": "00000000000000ff", "at_ms": 5, "time": "unknown", "who": "gateway",
                         "what": "set-aside", "on": {} });
    let told = [act(3, 1), act(7, 2), itself];
    assert_eq!(fort.tell_acts(&card, &told).await, (200, json!({ "upto": 9 })));
    assert_eq!(fort.tell_acts(&card, &told).await, (200, json!({ "upto": 9 })), "whose answer was lost");
    assert_eq!(fort.tell_acts(&card, &told[1..]).await, (200, json!({ "upto": 9 })));
    let entries = fort.told().await;
    let who: Vec<_> = entries.iter().map(|entry| (entry.who.as_str(), entry.source.as_str())).collect();
    let person = ("gateway:a/cli:0 for 1000", "127.0.0.1");
    assert_eq!(who, [person, person, ("gateway:a", "127.0.0.1")]);
    let on: Json = serde_json::from_str(&entries[0].target).unwrap();
    let wanted = json!({ "gateway": "a", "did": "invite-app", "at": "2026-05-28T20:26:40Z", "time": "good", "act": 3,
                         "name": "0000000000000001", "on": { "app": "tablet 1", "reads": ["visit"], "days": 365 } });
    assert_eq!(on, wanted);
    // The same names of another gateway are other acts.
    assert_eq!(fort.tell_acts(&other, &told).await.0, 200);
    assert_eq!(fort.told().await.len(), 6);
    let verdict: Verdict = fort.hub.read(|tx| tx.audit_verdict(Vec::new())).await.unwrap();
    assert_eq!(verdict.findings, Vec::<String>::new());
}

#[tokio::test]
async fn a_card_that_was_put_back_or_copied_and_gives_its_numbers_again_loses_nothing() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    fort.tell_acts(&card, &[act(1, 11), act(2, 12), act(3, 13)]).await;
    // Put back to its second act, which it has not told as far as it knows; what it does then has the third number again.
    assert_eq!(fort.tell_acts(&card, &[act(2, 12), act(3, 23), act(4, 24)]).await.1, json!({ "upto": 4 }));
    // Begun anew, with numbers from the first.
    assert_eq!(fort.tell_acts(&card, &[act(1, 31)]).await.1, json!({ "upto": 1 }));
    assert_eq!(fort.names().await, [11, 12, 13, 23, 24, 31]);
}

#[tokio::test]
async fn nobody_tells_for_another_and_who_is_shut_out_tells_nothing() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    let told = json!({ "acts": [act(1, 1)], "dropped": 0 });
    assert_eq!(fort.tell(None, &told).await.0, 403, "without a certificate");
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    assert_eq!(fort.tell(Some(&card), &told).await.0, 403, "revoked");
    assert!(fort.told().await.is_empty());
    fort.hub.write(|tx| tx.allow("a")).await.unwrap();
    assert_eq!(fort.tell(Some(&card), &told).await.0, 200);
    let of_hub = |what: &str| {
        json!({ "number": 2, "name": "aa00000000000000", "at_ms": 0, "time": "good",
                                      "who": "account:asha", "what": what, "on": {} })
    };
    assert_eq!(fort.tell_acts(&card, &[of_hub("restore")]).await.0, 200);
    let last = fort.told().await.pop().unwrap();
    assert_eq!((last.who.as_str(), last.what.as_str()), ("gateway:a/account:asha", "gateway-act"));
    let verdict: Verdict = fort.hub.read(|tx| tx.audit_verdict(Vec::new())).await.unwrap();
    assert!(verdict.restores.is_empty(), "it passes for nothing that the hub does");
}

#[tokio::test]
async fn what_has_another_form_is_refused_whole() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    let with = |key: &str, value: Json| {
        let mut act = act(2, 2);
        act[key] = value;
        act
    };
    let long = "x".repeat(1_100);
    for wrong in [
        with("name", json!("12")),
        with("name", json!("zz00000000000000")),
        with("what", json!("")),
        with("what", json!("two words")),
        with("what", json!("x".repeat(41))),
        with("time", json!("Good")),
        with("who", json!("")),
        with("who", json!("cli:0\nlogin account:asha")),
        with("who", json!("x".repeat(101))),
        with("on", json!("text")),
        with("on", json!({ "app": long })),
        with("on", json!({ "record": { "name": "Asha" } })),
        with("on", json!({ "list": [["deep"]] })),
        with("number", json!(-1)),
        with("number", json!(1)),
        with("number", json!(0)),
    ] {
        assert_eq!(fort.tell_acts(&card, &[act(1, 1), wrong.clone()]).await.0, 400, "{wrong}");
    }
    assert_eq!(fort.tell_acts(&card, &[]).await.0, 400, "none");
    let many: Vec<Json> = (1..=65).map(|n| act(n, n)).collect();
    assert_eq!(fort.tell_acts(&card, &many).await.0, 400, "more than a request has");
    let large = json!({ "acts": [], "more": "x".repeat(300 * 1024) });
    assert_eq!(fort.tell(Some(&card), &large).await.0, 413);
    assert!(fort.told().await.is_empty(), "nothing of it was written");
}

#[tokio::test]
async fn a_gateway_cannot_make_the_audit_grow_without_end() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    let (_, other) = fort.clinic("b").await;
    let (mut next, mut answered) = (1, (200, Json::Null));
    while answered.0 == 200 {
        let acts: Vec<Json> = (next..next + 64).map(|n| act(n, n)).collect();
        answered = fort.tell(Some(&card), &json!({ "acts": acts, "dropped": next })).await;
        next = answered.1["upto"].as_u64().map_or(next, |upto| upto + 1);
        assert!(next < 2 * ACTS_A_DAY, "it goes on");
    }
    assert_eq!(answered.0, 429, "{answered:?}");
    assert_eq!(fort.told().await.len() as u64, ACTS_A_DAY, "with what it says that it dropped");
    assert_eq!(fort.tell_acts(&card, &[act(1, 1)]).await.0, 200, "what is there is there");
    assert_eq!(fort.tell_acts(&other, &[act(1, 1)]).await.0, 200, "another one is heard");
    fort.hub.write(|tx| tx.a_day_passes()).await.unwrap();
    assert_eq!(fort.tell_acts(&card, &[act(next, next)]).await.0, 200, "and tomorrow it is");
}

#[tokio::test]
async fn what_was_dropped_before_it_was_told_is_told_once() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    for (name, dropped) in [(1, 0), (2, 812), (3, 812), (4, 900)] {
        let told = json!({ "acts": [act(name, name)], "dropped": dropped });
        assert_eq!(fort.tell(Some(&card), &told).await.0, 200);
    }
    let dropped = fort
        .told()
        .await
        .iter()
        .filter_map(|entry| {
            let on: Json = serde_json::from_str(&entry.target).unwrap();
            (on["did"] == "drop-acts").then(|| on["in_all"].as_u64().unwrap())
        })
        .collect::<Vec<_>>();
    assert_eq!(dropped, [812, 900]);
}
