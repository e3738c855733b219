//! Enrolment and exchanges.

use serde_json::{Value as Json, json};
use sync_protocol::digest::item;
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::gateway::{self, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{FieldName, HubSeq, Scope};
use sync_protocol::identity::DeviceKey;
use sync_protocol::message::{Plea, Response, Status, body, split_head};
use sync_protocol::payload::Payload;
use sync_protocol::record::Change;
use sync_protocol::value::Value;

use super::{SYNC, World, logged};
use crate::account::Sight;
use crate::{Config, HubError};

const RULES: &str = r#"
version = 1
[types.patient]
[types.patient.fields]
name = { rule = "keep-both", required = true }
alive = "keep-both"
[types.visit]
parents = { patient = "patient" }
[types.visit.fields]
patient = { rule = "immutable", required = true }
"#;

/// The digest that is kept up with each write is that of the records.
async fn assert_digest(world: &World) {
    let computed = world.hub.read(|tx| {
        let keys = tx.items(&[Scope::root()])?;
        let mut sum = 0u64;
        for (kept, key) in keys {
            let computed = item(&key, &tx.record(&key)?.unwrap());
            assert_eq!(computed, kept, "{key}");
            sum = sum.wrapping_add(computed);
        }
        Ok::<_, HubError>(sum)
    });
    assert_eq!(world.hub.digest().await.unwrap(), computed.await.unwrap());
}

#[tokio::test]
async fn a_code_opens_once_and_wrong_ones_are_told_so() {
    let world = World::start().await;
    let code = world.hub.add_gateway("zomba", &["mw/zomba"], "clinic").await.unwrap();
    let granted = world.enroll(&code.to_lowercase()).await.json();
    assert_eq!((granted["device"].as_u64(), granted["origin"].as_u64()), (Some(1), Some(1)));
    assert_eq!((granted["name"].as_str(), granted["source_name"].as_str()), (Some("zomba"), Some("clinic")));
    let again = world.enroll(&code).await;
    assert_eq!(again.status, 403);
    assert!(again.head.contains("application/problem+json"), "{}", again.head);
    assert!(again.json()["detail"].as_str().unwrap().contains("used already"));
    assert!(world.enroll("AAAA-BBBB-CCCC").await.json()["detail"].as_str().unwrap().contains("gateway code"));
    let name_taken = world.hub.add_gateway("zomba", &["mw"], "clinic").await;
    assert!(matches!(name_taken, Err(HubError::NameTaken(_))));
    assert!(matches!(world.hub.add_gateway("x", &["mw"], "moon").await, Err(HubError::Invalid(_))));
}

#[tokio::test]
async fn too_many_wrong_codes_close_the_door_for_a_while() {
    let world =
        World::start_with(Config { code_failures_per_minute: 2, tls: crate::Tls::Off, ..Config::default() }).await;
    let code = world.hub.add_gateway("zomba", &["mw/zomba"], "clinic").await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.enroll("AAAA-BBBB-CCCC").await.status, 403);
    }
    let closed = world.enroll(&code).await;
    assert_eq!(closed.status, 429);
    assert!(closed.head.contains("retry-after"));
}

#[tokio::test]
async fn what_one_clinic_writes_another_of_its_scope_reads() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    let mut b = world.clinic("b", "mw/zomba").await;
    let mut far = world.clinic("far", "mw/mzuzu").await;
    for n in 0..300 {
        a.put(&format!("patient/p{n}"), json!({ "name": format!("Asha {n}"), "visits": n }));
    }
    world.sync(&mut a).await;
    world.sync(&mut b).await;
    world.sync(&mut far).await;
    assert_eq!(b.body("patient/p299"), json!({ "name": "Asha 299", "visits": 299 }));
    assert!(far.record("patient/p1").is_none());
    b.put("patient/p7", json!({ "name": "Asha Banda", "visits": 7 }));
    world.sync(&mut b).await;
    let response = world.exchange(&mut a).await;
    assert_eq!((response.status, a.agrees), (Status::Ok, true));
    assert_eq!(a.body("patient/p7")["name"], "Asha Banda");
    assert_digest(&world).await;
}

#[tokio::test]
async fn an_idle_exchange_is_small() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    let outgoing = a.request();
    let up = body(&outgoing.head.encode(), outgoing.frames);
    let down = world.ask("POST", "/sync/v1", &[SYNC], &up).await;
    assert!(down.head.contains("content-length"), "{}", down.head);
    assert!(up.len() + down.body.len() <= 110, "{} up, {} down", up.len(), down.body.len());
}

#[tokio::test]
async fn what_arrived_before_a_cut_stays() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    for n in 0..2_000 {
        a.put(&format!("patient/p{n}"), json!({ "name": format!("{n}"), "note": format!("{}", n * 7_919 % 10_007) }));
    }
    let outgoing = a.request();
    let all = body(&outgoing.head.encode(), outgoing.frames.clone());
    assert!(outgoing.frames.len() > 4, "{}", outgoing.frames.len());
    let cut = all.len() - outgoing.frames.last().unwrap().len() / 2;
    let head = format!(
        "POST /sync/v1 HTTP/1.1\r\nhost: hub\r\n{}: {}\r\ncontent-length: {}\r\n\r\n",
        SYNC.0,
        SYNC.1,
        all.len()
    );
    let _ = world.send([head.as_bytes(), &all[..cut]].concat(), true).await;
    let arrived = world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0;
    assert!(arrived > 1_000 && arrived < 2_000, "{arrived}");
    let shown = world.admin("GET", "/gateways/a", Json::Null).await.json();
    assert_eq!(shown["unsent"].as_u64(), Some(2_000 - arrived), "absence is seen: {shown}");
    assert_eq!(a.store.state().unwrap().unsent(), 2_000, "the gateway does not know");
    world.sync(&mut a).await;
    assert_eq!(world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 2_000);
    assert_digest(&world).await;
}

#[tokio::test]
async fn a_damaged_frame_ends_reading_but_not_the_exchange() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    for n in 0..1_000 {
        a.put(&format!("patient/p{n}"), json!({ "name": format!("{n}") }));
    }
    let mut outgoing = a.request();
    let last = outgoing.frames.last_mut().unwrap();
    let middle = last.len() / 2;
    last[middle] ^= 0x40;
    let reply = world.ask("POST", "/sync/v1", &[SYNC], &body(&outgoing.head.encode(), outgoing.frames)).await;
    let response = a.integrate(&outgoing.head, &reply.body);
    assert_eq!(response.status, Status::Ok);
    let left = a.store.state().unwrap().unsent();
    assert!(left > 0 && left < 1_000, "{left}");
    world.sync(&mut a).await;
    assert_digest(&world).await;
}

#[tokio::test]
async fn frames_that_are_small_on_the_wire_and_large_in_memory_have_an_end() {
    const OPS: u64 = 12;
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    for n in 0..OPS {
        a.put(&format!("patient/p{n}"), json!({ "n": n }));
    }
    let outgoing = a.request();
    let mut packer = Packer::new(Effort::Quick).unwrap();
    let mut bombs = Vec::new();
    for frame in &outgoing.frames {
        let (inside, _) = split(frame).unwrap().unwrap();
        let Payload::Ops(ops) = Payload::decode(&packer.unpack(inside).unwrap()).unwrap() else { panic!() };
        for mut op in ops {
            let put = Change::Put { value: Some(Value::Text("x".repeat(7_000_000))), unseen: Vec::new() };
            op.changes.insert(FieldName::new("note").unwrap(), put);
            bombs.push(packer.pack(&Payload::Ops(vec![op]).encode()).unwrap());
        }
    }
    let message = body(&outgoing.head.encode(), bombs);
    assert!(message.len() < 64 * 1024, "{} bytes", message.len());
    let reply = world.ask("POST", "/sync/v1", &[SYNC], &message).await;
    let (head, _) = split_head(&reply.body).unwrap().unwrap();
    let told = Response::decode(head).unwrap();
    let taken = told.acks.iter().find(|ack| ack.acked.0 > 0).unwrap().acked.0;
    assert_eq!(told.status, Status::Ok, "{told:?}");
    assert_eq!(taken, 10, "the frame that reaches 64 MiB is the last");
    let mut b = world.clinic("b", "mw/zomba").await;
    world.sync(&mut b).await;
}

#[tokio::test]
async fn two_clinics_that_did_not_know_of_each_other_leave_a_conflict_for_a_person() {
    let world = World::start().await;
    world.hub.publish_rules(RULES).await.unwrap();
    let mut a = world.clinic("a", "mw/zomba").await;
    let mut b = world.clinic("b", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "Asha", "alive": "unknown" }));
    world.sync(&mut a).await;
    world.sync(&mut b).await;
    a.put("patient/p1", json!({ "name": "Asha", "alive": "alive" }));
    b.put("patient/p1", json!({ "name": "Asha", "alive": "dead" }));
    world.sync(&mut a).await;
    world.sync(&mut b).await;
    world.sync(&mut a).await;
    let listed = world.admin("GET", "/conflicts", Json::Null).await.json();
    let values = listed["conflicts"][0]["fields"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), 2, "{listed}");
    let settled = json!({ "type": "patient", "id": "p1", "field": "alive", "value": "alive", "why": "seen at market" });
    assert_eq!(world.admin("POST", "/conflicts/settle", settled).await.status, 200);
    assert_eq!(world.admin("GET", "/conflicts", Json::Null).await.json(), json!({ "conflicts": [] }));
    for clinic in [&mut a, &mut b] {
        world.sync(clinic).await;
        assert_eq!(clinic.body("patient/p1")["alive"], "alive");
        assert!(clinic.record("patient/p1").unwrap().conflicts().is_empty());
    }
    let told = world.admin("GET", "/records/patient/p1/history", Json::Null).await.json();
    assert!(told.to_string().contains("seen at market") && told.to_string().contains("dead"), "{told}");
    assert_digest(&world).await;
}

#[tokio::test]
async fn a_bad_record_waits_alone_and_is_freed_by_its_correction() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/bad", json!({ "nickname": "x" }));
    a.put("visit/v1", json!({ "patient": "bad" }));
    a.put("patient/good", json!({ "name": "Good" }));
    world.hub.publish_rules(RULES).await.unwrap();
    world.exchange(&mut a).await;
    assert_eq!(world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 1);
    let listed = world.admin("GET", "/quarantine", Json::Null).await.json();
    let rows = listed["quarantine"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{listed}");
    assert_eq!((rows[0]["gateway"].as_str(), rows[0]["id"].as_str()), (Some("a"), Some("bad")));
    assert!(rows[1]["reason"].as_str().unwrap().contains("waits for patient/bad"));
    a.put("patient/bad", json!({ "nickname": "x", "name": "Bad" }));
    world.sync(&mut a).await;
    assert_eq!(world.hub.read(|tx| tx.held_count(&Sight::everything())).await.unwrap(), 0);
    assert_eq!(world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 3);
    world.sync(&mut a).await;
    assert!(a.store.parked().is_empty());
    assert_digest(&world).await;
}

#[tokio::test]
async fn quarantine_is_released_or_dropped_by_people_on_either_side() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    world.hub.publish_rules(RULES).await.unwrap();
    for id in ["r", "d", "h"] {
        a.put(&format!("patient/{id}"), json!({ "nickname": id }));
    }
    world.exchange(&mut a).await;
    world.exchange(&mut a).await;
    let parked: Vec<_> = a.store.parked().iter().map(|(op, _)| op.stamp.dot).collect();
    assert_eq!(parked.len(), 3);
    a.store.plead(Plea { dot: parked[2], discard: true });
    a.store.plead(Plea { dot: parked[0], discard: false });
    let name = crate::view::change_name;
    let release = json!({ "change": name(parked[0]) });
    assert_eq!(world.admin("POST", "/quarantine/release", release.clone()).await.status, 204);
    assert_eq!(world.admin("POST", "/quarantine/release", release).await.status, 404);
    let why = json!({ "change": name(parked[1]), "why": "a test record" });
    assert_eq!(world.admin("POST", "/quarantine/discard", why).await.status, 204);
    world.exchange(&mut a).await;
    world.sync(&mut a).await;
    assert!(a.store.parked().is_empty(), "{:?}", a.store.parked());
    assert_eq!(a.body("patient/r")["nickname"], "r");
    assert!(a.record("patient/d").is_none() && a.record("patient/h").is_none());
    let past = world.admin("GET", "/records/patient/h/history", Json::Null).await.json();
    assert_eq!(past["history"][0]["state"], "dropped");
    let audit = world.hub.read(|tx| tx.audit_after(0, 1_000)).await.unwrap();
    let by_gateway = audit.iter().filter(|entry| entry.who == "gateway:a" && entry.target.contains("patient/h"));
    assert_eq!(by_gateway.map(|entry| entry.what.as_str()).collect::<Vec<_>>(), ["discard"]);
    assert_digest(&world).await;
}

#[tokio::test]
async fn of_one_record_the_earlier_change_is_decided_on_first() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    world.hub.publish_rules(RULES).await.unwrap();
    a.put("patient/p", json!({ "nickname": "one" }));
    a.put("patient/p", json!({ "nickname": "two" }));
    world.exchange(&mut a).await;
    let held = world.hub.read(|tx| tx.held_page(&Sight::everything(), HubSeq::NONE, 10)).await.unwrap();
    let [first, second] = [0, 1].map(|nth: usize| crate::view::change_name(held[nth].held.op.stamp.dot));
    let refused = world.admin("POST", "/quarantine/release", json!({ "change": second })).await;
    assert_eq!(refused.status, 409);
    assert!(refused.json()["detail"].as_str().unwrap().contains(&first), "it says which");
    for change in [first, second] {
        assert_eq!(world.admin("POST", "/quarantine/release", json!({ "change": change })).await.status, 204);
    }
    world.sync(&mut a).await;
    assert_eq!(a.body("patient/p")["nickname"], "two");
}

#[tokio::test]
async fn a_gateway_may_not_decide_about_the_changes_of_another() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    let mut b = world.clinic("b", "mw/zomba").await;
    world.hub.publish_rules(RULES).await.unwrap();
    a.put("patient/p", json!({ "nickname": "p" }));
    world.exchange(&mut a).await;
    world.exchange(&mut a).await;
    let dot = a.store.parked()[0].0.stamp.dot;
    b.store.plead(Plea { dot, discard: true });
    world.exchange(&mut b).await;
    assert_eq!(world.hub.read(|tx| tx.held_count(&Sight::everything())).await.unwrap(), 1);
}

#[tokio::test]
async fn what_a_revoked_gateway_sends_waits_for_an_admin_and_a_stranger_is_denied() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    assert_eq!(world.admin("POST", "/gateways/a/revoke", Json::Null).await.status, 200);
    let answer = world.exchange(&mut a).await;
    assert_eq!((answer.status, answer.acks.len(), answer.cursor), (Status::Revoked, 1, HubSeq::NONE));
    assert_eq!(world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 0);
    let listed = world.admin("GET", "/quarantine", Json::Null).await.json();
    let held = &listed["quarantine"][0];
    assert_eq!((held["gateway"].as_str(), held["id"].as_str()), (Some("a"), Some("p1")), "{listed}");
    assert!(held["reason"].as_str().unwrap().contains("revoked"), "{listed}");
    let shown = world.admin("GET", "/gateways/a", Json::Null).await.json();
    assert!(shown["last_error"].as_str().unwrap().contains("revoked"), "{shown}");
    assert_eq!((shown["last_contact_at"].as_str(), shown["quarantined"].as_u64()), (Some(""), Some(1)));
    let newer = RULES.replacen("version = ", "version = 9", 1);
    assert_eq!(world.hub.publish_rules(&newer).await.unwrap(), 0, "other rules free nothing");
    assert_eq!(world.admin("POST", "/gateways/a/allow", Json::Null).await.status, 200);
    assert_eq!(world.admin("POST", "/gateways/a/allow", Json::Null).await.status, 409);
    assert_eq!(world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 1);
    world.sync(&mut a).await;
    assert!(a.store.parked().is_empty());
    let mut stranger = world.clinic("b", "mw/zomba").await;
    let mut state = stranger.store.state().unwrap();
    state.key = DeviceKey([9; 32]);
    stranger.store.set_state(&state).unwrap();
    assert_eq!(world.exchange(&mut stranger).await.status, Status::Denied);
}

#[tokio::test]
async fn a_new_card_goes_on_under_the_old_name_and_the_old_one_is_shut_out() {
    let world = World::start().await;
    let mut old = world.clinic("a", "mw/zomba").await;
    old.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut old).await;
    let code = world.admin("POST", "/gateways/a/code", Json::Null).await.json();
    let granted = world.enroll(code["code"].as_str().unwrap()).await.json();
    assert_eq!((granted["device"].as_u64(), granted["origin"].as_u64()), (Some(1), Some(2)));
    let mut new = super::Clinic::new(&granted);
    world.sync(&mut new).await;
    assert_eq!(new.body("patient/p1")["name"], "Asha");
    assert_eq!(world.exchange(&mut old).await.status, Status::Denied);
}

#[tokio::test]
async fn a_restored_card_gets_a_new_origin_and_loses_nothing() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    let image = a.store.clone();
    a.put("patient/p2", json!({ "name": "Bina" }));
    world.sync(&mut a).await;
    a.store = image;
    a.put("patient/p3", json!({ "name": "Chisomo" }));
    let before = a.store.state().unwrap().origin;
    assert_eq!(world.exchange(&mut a).await.status, Status::Compared);
    world.sync(&mut a).await;
    assert_ne!(a.store.state().unwrap().origin, before);
    assert_eq!(a.body("patient/p2")["name"], "Bina");
    assert_eq!(world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 3);
    assert_digest(&world).await;
}

#[tokio::test]
async fn new_scopes_bring_their_records_and_lost_ones_take_them_away() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    let mut b = world.clinic("b", "mw/mzuzu").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    b.put("patient/p2", json!({ "name": "Bina" }));
    world.sync(&mut a).await;
    world.sync(&mut b).await;
    let scopes = json!({ "scopes": ["mw/zomba", "mw/mzuzu"] });
    assert_eq!(world.admin("PUT", "/gateways/a/scopes", scopes).await.status, 200);
    for _ in 0..3 {
        world.exchange(&mut a).await;
    }
    assert!(a.agrees);
    assert_eq!(a.body("patient/p2")["name"], "Bina");
    world.admin("PUT", "/gateways/a/scopes", json!({ "scopes": ["mw/mzuzu"] })).await;
    for _ in 0..3 {
        world.exchange(&mut a).await;
    }
    assert!(a.agrees);
    assert!(a.record("patient/p1").is_none());
}

#[tokio::test]
async fn a_number_at_the_head_that_concerns_nobody_does_not_hide_the_proof() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    world.hub.publish_rules(RULES).await.unwrap();
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    let held = world.admin("PUT", "/records/visit/v1?scope=mw/zomba", json!({ "patient": "nobody" })).await;
    assert_eq!(held.status, 202, "it waits for its parent");
    let response = world.exchange(&mut a).await;
    assert!(!response.more && response.digest.is_some(), "{response:?}");
    assert!(a.agrees);
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_in_words() {
    let world = World::start().await;
    let wrong = world.ask("POST", "/sync/v1", &[("content-type", "text/plain")], b"x").await;
    assert_eq!(wrong.status, 415);
    for bytes in [&b"\x03abc"[..], b"", b"\xff\xff\xff\xff\x7f"] {
        let reply = world.ask("POST", "/sync/v1", &[SYNC], bytes).await;
        assert_eq!((reply.status, reply.json()["status"].as_u64()), (400, Some(400)));
    }
}

#[tokio::test]
async fn who_speaks_another_version_is_told_so() {
    let world = World::start().await;
    // A head that says protocol 9 and nothing else, and the path of another version, whatever is sent there.
    for (path, bytes) in
        [("/sync/v1", &b"\x02\x81\x09"[..]), ("/sync/v9", b"\x02\x81\x09"), ("/sync/v2", b"what it likes")]
    {
        let reply = world.ask("POST", path, &[SYNC], bytes).await;
        let (head, _) = split_head(&reply.body).unwrap().unwrap();
        let told = Response::decode(head).unwrap();
        assert_eq!((reply.status, told.status), (200, Status::Upgrade), "{path}");
        assert_eq!(told.reason.as_deref(), Some("this hub speaks protocol version 1"));
    }
    for path in ["/sync/v", "/sync/vx", "/sync/1"] {
        assert_eq!(world.ask("POST", path, &[SYNC], b"").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_hub_remembers_over_a_restart() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    let digest = world.hub.digest().await.unwrap();
    let dir = world.stop().await;
    let hub = crate::Hub::open(dir.path()).unwrap();
    assert_eq!(hub.digest().await.unwrap(), digest);
    let scopes = a.store.state().unwrap().scopes;
    assert_eq!(gateway::Store::digest(&mut a.store, &scopes).unwrap(), digest);
}

#[tokio::test]
async fn no_value_and_no_secret_reaches_the_log() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    world.hub.publish_rules(RULES).await.unwrap();
    a.put("patient/canary-id", json!({ "name": "canary-name" }));
    a.put("patient/canary-bad", json!({ "nickname": "canary-nickname" }));
    world.exchange(&mut a).await;
    let key = a.store.state().unwrap().key;
    let mut outgoing = a.request();
    outgoing.frames.push(vec![9; 10]);
    world.ask("POST", "/sync/v1", &[SYNC], &body(&outgoing.head.encode(), outgoing.frames)).await;
    world.enroll("CANA-RYCA-NARY").await;
    world.admin("PUT", "/records/patient/canary-admin", json!({ "name": "canary-name" })).await;
    world.admin("PUT", "/records/patient/canary-admin", json!({ "nickname": "canary-name" })).await;
    let told = logged();
    assert!(told.contains("ops.new=2") && told.contains("ops.held=1") && told.contains("damaged frame"), "{told}");
    for secret in ["canary", "CANA", &crate::secret::hex(&key.0), world.hub.admin_token()] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}
