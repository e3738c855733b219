//! What a gateway may do only so often in a day.

use serde_json::json;
use sync_protocol::gateway::Store as _;
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Device, Origin};
use sync_protocol::message::Status;

use super::Clinic;
use super::tls::{Card, Fort};
use crate::account::Sight;
use crate::store::{Daily, Tx};

impl Fort {
    async fn ask_for(&self, card: &Card, path: &str, body: &str) -> u16 {
        self.ask(Some(card), path, "application/json", body.as_bytes()).await.unwrap().0
    }

    /// Counts all that a gateway may do today but for one time.
    async fn use_up(&self, device: Device, what: Daily) {
        let use_up = move |tx: &mut Tx<'_>| (1..what.most()).try_for_each(|_| tx.once_more(device, what).map(drop));
        self.hub.write(use_up).await.unwrap();
    }

    /// Exchanges until the hub has compared what there is to compare.
    async fn settle(&self, clinic: &mut Clinic, card: &Card) {
        for _ in 0..20 {
            if self.sync(clinic, Some(card)).await == Some(Ok(Status::Ok)) {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    async fn begins_epoch(&self, clinic: &mut Clinic, card: &Card) -> Status {
        let mut state = clinic.store.state().unwrap();
        state.turn += 1_000;
        clinic.store.set_state(&state).unwrap();
        self.sync(clinic, Some(card)).await.unwrap().unwrap()
    }
}

fn device_of(clinic: &mut Clinic) -> Device {
    clinic.store.state().unwrap().device
}

#[tokio::test]
async fn certificates_and_keys_are_given_so_often_in_a_day_and_others_get_theirs() {
    let fort = Fort::start().await;
    let ((mut a, card), (_, other)) = (fort.clinic("a").await, fort.clinic("b").await);
    let name = "00112233445566778899aabbccddeeff";
    let key = json!({ "name": name, "key": *sync_protocol::recovery::to_letters(&[0xc3; 32]) }).to_string();
    let wish = json!({ "name": name }).to_string();
    for card in [&card, &other] {
        assert_eq!(fort.ask_for(card, "/escrow/v1", &key).await, 200);
    }
    for (what, path, body) in [(Daily::Renewal, "/renew/v1", "{}"), (Daily::Key, "/escrow/v1/fetch", wish.as_str())] {
        fort.use_up(device_of(&mut a), what).await;
        assert_eq!(fort.ask_for(&card, path, body).await, 200, "the last of the day");
        let head = fort.hub.read(|tx| tx.audit_head()).await.unwrap();
        assert_eq!(fort.ask_for(&card, path, body).await, 429);
        assert_eq!(fort.hub.read(|tx| tx.audit_head()).await.unwrap(), head, "and no entry");
        assert_eq!(fort.ask_for(&other, path, body).await, 200, "another gateway");
    }
    fort.hub.write(|tx| tx.a_day_passes()).await.unwrap();
    assert_eq!(fort.ask_for(&card, "/renew/v1", "{}").await, 200);
    assert_eq!(fort.ask_for(&card, "/escrow/v1/fetch", &wish).await, 200);
}

#[tokio::test]
async fn the_answer_to_a_code_is_given_again_so_often_in_a_day() {
    let fort = Fort::start().await;
    let (card, code) = (Card::new(), fort.code("a").await);
    let (status, told) = fort.enroll(&card, &code).await;
    assert_eq!(status, 200, "{told}");
    fort.use_up(Device(u32::try_from(told["device"].as_u64().unwrap()).unwrap()), Daily::Answer).await;
    assert_eq!(fort.enroll(&card, &code).await.0, 200, "the last of the day");
    let head = fort.hub.read(|tx| tx.audit_head()).await.unwrap();
    assert_eq!(fort.enroll(&card, &code).await.0, 429);
    assert_eq!(fort.hub.read(|tx| tx.audit_head()).await.unwrap(), head, "and no entry");
    fort.hub.write(|tx| tx.a_day_passes()).await.unwrap();
    assert_eq!(fort.enroll(&card, &code).await.0, 200);
}

#[tokio::test]
async fn who_says_again_and_again_that_the_hub_was_put_back_is_not_heard_until_tomorrow() {
    let fort = Fort::start().await;
    let ((mut a, card), (mut b, other)) = (fort.clinic("a").await, fort.clinic("b").await);
    for (clinic, card) in [(&mut a, &card), (&mut b, &other)] {
        assert_eq!(fort.sync(clinic, Some(card)).await, Some(Ok(Status::Ok)));
    }
    let epoch = async || fort.hub.read(|tx| tx.epoch()).await.unwrap();
    let first = epoch().await;
    fort.use_up(device_of(&mut a), Daily::Loss).await;
    assert_eq!(fort.begins_epoch(&mut a, &card).await, Status::Rebase, "the last of the day");
    let second = epoch().await;
    assert_ne!(second, first);
    fort.settle(&mut a, &card).await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    assert_eq!(fort.begins_epoch(&mut a, &card).await, Status::Denied);
    assert_eq!(epoch().await, second, "nobody has to compare anything");
    fort.settle(&mut b, &other).await;
    assert_eq!(fort.begins_epoch(&mut b, &other).await, Status::Rebase, "another gateway is heard");
    fort.hub.write(|tx| tx.a_day_passes()).await.unwrap();
    fort.settle(&mut a, &card).await;
    assert_eq!(fort.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 1, "what waited has come");
}

#[tokio::test]
async fn who_claims_origins_without_end_is_not_heard_until_tomorrow_and_loses_nothing() {
    let fort = Fort::start().await;
    let (mut a, card) = fort.clinic("a").await;
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Ok)));
    let device = device_of(&mut a);
    fort.use_up(device, Daily::Found).await;
    for (origin, told) in [(0x0700_0001, Status::Ok), (0x0700_0002, Status::Denied)] {
        let mut state = a.store.state().unwrap();
        state.origin = Origin(origin);
        a.store.set_state(&state).unwrap();
        assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(told)));
    }
    assert_eq!(fort.hub.read(|tx| tx.device_of(Origin(0x0700_0001))).await.unwrap(), Some(device));
    assert_eq!(fort.hub.read(|tx| tx.device_of(Origin(0x0700_0002))).await.unwrap(), None);
    a.put("patient/p1", json!({ "name": "Asha" }));
    fort.hub.write(|tx| tx.a_day_passes()).await.unwrap();
    fort.settle(&mut a, &card).await;
    assert_eq!(fort.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 1);
}
