//! Old cards hand in what they hold: over HTTP, in the hub's file, and by whom.

use serde_json::json;
use sync_protocol::gateway::Store as _;
use sync_protocol::gateway::rescue::{Rescuer, Tally};
use sync_protocol::hub::{Snapshot as _, Store as _};
use sync_protocol::id::Seq;
use sync_protocol::memory::MemoryGateway;
use sync_protocol::message::{Response, Status, body, split_head};

use super::{Clinic, SYNC, World};
use crate::account::Sight;
use crate::store::{Daily, Tx};
use crate::{HubError, fleet};

const RULES: &str =
    "version = 1\n[types.stock.fields]\nused = \"counter\"\n[types.case.fields]\nlog = \"append-only\"\n";

impl World {
    /// Hands in a file, or says why not.
    async fn rescue(&self, file: &MemoryGateway) -> Result<Tally, String> {
        let mut clinic = Clinic {
            store: file.clone(),
            packer: super::Packer::new(super::Effort::Quick).unwrap(),
            now_ms: 0,
            agrees: true,
        };
        let mut rescuer = Rescuer::new(&clinic.store.state().unwrap(), [Seq(0); 3]);
        while let Some(outgoing) = rescuer.request(&mut clinic.store, &mut clinic.packer, 500).unwrap() {
            let reply = self.ask("POST", "/sync/v1", &[SYNC], &body(&outgoing.head.encode(), outgoing.frames)).await;
            if reply.status != 200 {
                return Err(reply.json()["type"].as_str().unwrap().to_owned());
            }
            let answer = Response::decode(split_head(&reply.body).unwrap().unwrap().0).unwrap();
            if answer.status != Status::Ok {
                return Err(answer.reason.unwrap());
            }
            rescuer.answered(&mut clinic.store, &answer).unwrap();
        }
        Ok(rescuer.tally())
    }

    /// All that the hub says of its gateways.
    async fn fleet(&self) -> String {
        self.admin("GET", "/gateways", json!(null)).await.json().to_string()
    }

    async fn again(&self, name: &str) -> Clinic {
        let code = self.admin("POST", &format!("/gateways/{name}/code"), json!(null)).await.json();
        let granted = self.enroll(code["code"].as_str().unwrap()).await;
        assert_eq!(granted.status, 200, "{granted:?}");
        Clinic::new(&granted.json())
    }

    async fn stock(&self) -> (serde_json::Value, usize) {
        let stock = self.admin("GET", "/records/stock/s1", json!(null)).await.json();
        let case = self.admin("GET", "/records/case/c1", json!(null)).await.json();
        (stock["used"].clone(), case["log"].as_array().map_or(0, Vec::len))
    }
}

fn work(clinic: &mut Clinic, steps: std::ops::RangeInclusive<i64>) {
    for n in steps {
        clinic.put("stock/s1", json!({ "used": 2 * n }));
        clinic.put("case/c1", json!({ "log": (1..=n).collect::<Vec<_>>() }));
    }
}

/// The file with one op that cannot be read any more.
fn with_a_gap(file: &MemoryGateway) -> MemoryGateway {
    let mut damaged = file.clone();
    let lost = damaged.own().map(|(op, _)| op.stamp.dot).find(|dot| dot.seq == Seq(21)).unwrap();
    damaged.lose(lost);
    damaged
}

#[tokio::test]
async fn a_card_that_was_replaced_hands_in_what_it_holds_and_the_new_one_does_not_notice() {
    let world = World::start().await;
    world.hub.publish_rules(RULES).await.unwrap();
    let mut old = world.clinic("a", "mw").await;
    work(&mut old, 1..=2);
    world.sync(&mut old).await;
    work(&mut old, 3..=40);
    let mut new = world.again("a").await;
    world.sync(&mut new).await;
    let damaged = with_a_gap(&old.store);
    let fleet = world.fleet().await;
    assert_eq!(world.rescue(&damaged).await, Ok(Tally { in_place: 16, apart: 59, ..Tally::default() }));
    assert_eq!(world.stock().await, (json!(78), 40));
    assert_eq!(world.rescue(&damaged).await, Ok(Tally { known: 75, ..Tally::default() }));
    // A whole copy has the one that was lost.
    let whole = world.rescue(&old.store).await.unwrap();
    assert_eq!((whole.known, whole.in_place + whole.apart), (75, 1));
    assert_eq!(world.stock().await, (json!(80), 40));
    assert_eq!(world.fleet().await, fleet, "turn, contact and errors of the gateway stay");
    world.sync(&mut new).await;
    assert_eq!(new.body("stock/s1"), json!({ "used": 80 }));
    assert_eq!(world.rescue(&new.store).await.map(|tally| tally.apart + tally.in_place), Ok(0));
}

#[tokio::test]
async fn what_needs_numbers_of_its_own_is_taken_so_often_in_a_day_and_what_was_taken_is_in_the_audit() {
    let world = World::start().await;
    world.hub.publish_rules(RULES).await.unwrap();
    let mut old = world.clinic("a", "mw").await;
    work(&mut old, 1..=40);
    let _new = world.again("a").await;
    let device = old.store.state().unwrap().device;
    let damaged = with_a_gap(&old.store);
    let most = Daily::Found.most();
    let use_up = move |tx: &mut Tx<'_>| (0..most).try_for_each(|_| tx.once_more(device, Daily::Found).map(drop));
    world.hub.write(use_up).await.unwrap();
    let told = world.rescue(&damaged).await.unwrap_err();
    assert!(told.contains("tomorrow"), "{told}");
    world.hub.write(|tx| tx.a_day_passes()).await.unwrap();
    assert_eq!(world.rescue(&damaged).await, Ok(Tally { known: 20, apart: 59, ..Tally::default() }));
    assert_eq!(world.stock().await, (json!(78), 40));
    let shown = world.hub.read(|tx| fleet::one(tx, &Sight::everything(), "a")).await.unwrap();
    assert!(!shown.box_warnings.iter().any(|told| told.contains("copies")), "a rescue is no second box");
    let audit = world.hub.read(|tx| tx.audit_after(0, 1_000)).await.unwrap();
    let taken = audit.iter().filter(|entry| entry.what == "hand-in").map(|entry| {
        assert_eq!(entry.who, "gateway:a");
        serde_json::from_str::<serde_json::Value>(&entry.target).unwrap()["taken"].as_u64().unwrap()
    });
    assert_eq!(taken.sum::<u64>(), 79);
}

#[tokio::test]
async fn without_room_nothing_of_an_old_card_is_taken_and_all_of_it_once_there_is_room() {
    let world = World::start().await;
    let mut old = world.clinic("a", "mw").await;
    work(&mut old, 1..=40);
    let _new = world.again("a").await;
    world.hub.room().pretend(Some(0));
    assert_eq!(world.rescue(&old.store).await, Err("disk-nearly-full".to_owned()));
    assert_eq!(world.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 0);
    world.hub.room().pretend(None);
    assert_eq!(world.rescue(&old.store).await, Ok(Tally { in_place: 80, ..Tally::default() }));
}

#[tokio::test]
async fn a_key_that_was_revoked_opens_nothing_and_one_that_was_replaced_only_this() {
    let world = World::start().await;
    let mut old = world.clinic("a", "mw").await;
    old.put("form/f1", json!({ "n": 1 }));
    let replaced = world.again("a").await;
    let refusal = world.exchange(&mut old).await;
    assert_eq!(refusal.status, Status::Denied, "it is no gateway any more");
    assert_eq!(world.rescue(&old.store).await.unwrap().in_place, 1);
    world.admin("POST", "/gateways/a/revoke", json!(null)).await;
    assert!(world.rescue(&old.store).await.unwrap_err().contains("revoked"));
    let _new = world.again("a").await;
    for card in [&old.store, &replaced.store] {
        let mut card = Clinic {
            store: card.clone(),
            packer: super::Packer::new(super::Effort::Quick).unwrap(),
            now_ms: 1,
            agrees: true,
        };
        card.put("form/forged", json!({ "n": 2 }));
        assert!(world.rescue(&card.store).await.unwrap_err().contains("key"));
    }
}

#[tokio::test]
async fn a_hub_of_the_version_before_learns_to_rescue() {
    let world = World::start().await;
    world.clinic("a", "mw").await;
    let dir = world.stop().await;
    let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    conn.execute_batch(
        "DROP TABLE former_keys; DROP TABLE rescued; DROP TABLE rescue_origins;
         DROP TABLE authority; DROP TABLE former_cert_keys;
         DROP TABLE conditions; DROP TABLE escrow; DROP TABLE identities; DROP TABLE revoked_keys; ALTER TABLE quarantine DROP COLUMN for_person; ALTER TABLE gateways DROP COLUMN cert_key; DROP TABLE skipped; DROP TABLE erasures; DROP TABLE erased_ops; DROP TABLE erasure_wishes; ALTER TABLE gateways DROP COLUMN erased; ALTER TABLE hub DROP COLUMN sweep_due; DROP TABLE accounts; DROP TABLE sessions; DROP TABLE tokens; DROP TABLE audit; DROP TABLE acts; DROP TABLE acts_heard; DROP TABLE daily; PRAGMA user_version = 1",
    )
    .unwrap();
    drop(conn);
    let mut database = crate::hub::open_database(dir.path()).unwrap();
    let (origin, is_it, is_other) = database
        .write(0, |tx| {
            let device = sync_protocol::id::Device(1);
            let origin = tx.rescue_origin(device, sync_protocol::id::Origin(1))?;
            assert_eq!(tx.device_of(origin)?, Some(device));
            Ok::<_, HubError>((origin, tx.is_for_rescue(origin)?, tx.is_for_rescue(sync_protocol::id::Origin(1))?))
        })
        .unwrap();
    assert!(origin.0 > 1 && is_it && !is_other);
}
