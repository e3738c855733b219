//! Boxes that run with copies of one card: what the key that they share is good for, once one of them was shut out.

use serde_json::json;
use sync_protocol::frame::{Effort, Packer};
use sync_protocol::gateway::Store as _;
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::Device;
use sync_protocol::limits::TWINS_MAX;
use sync_protocol::memory::MemoryGateway;
use sync_protocol::message::Status;
use sync_protocol::recovery::to_letters;

use super::Clinic;
use super::tls::{Card, Fort};
use crate::account::Sight;
use crate::fleet;
use crate::hub::give_code;
use crate::secret::{self, unhex};

const KEY_NAME: &str = "00112233445566778899aabbccddeeff";
const KEY: [u8; 32] = [0xc3; 32];

/// The gateways `a` and `a-twin-1`, and the card that both have.
struct Pair {
    fort: Fort,
    card: Card,
    first: Clinic,
    twin: Clinic,
    /// The card as it was when it was copied.
    image: MemoryGateway,
}

impl Pair {
    async fn start() -> Pair {
        let fort = Fort::start().await;
        let (mut first, card) = fort.clinic("a").await;
        first.store.set_print([1; 8]);
        assert_eq!(fort.sync(&mut first, Some(&card)).await, Some(Ok(Status::Ok)));
        let image = first.store.clone();
        let mut twin = in_box(&image, [2; 8], first.now_ms);
        let state = twin.store.state().unwrap();
        // What the copy shows is of yesterday by then.
        for _ in 0..2 {
            assert_eq!(fort.sync(&mut first, Some(&card)).await, Some(Ok(Status::Ok)));
        }
        settle(&fort, &mut twin, &card).await;
        assert_ne!(twin.store.state().unwrap().device, state.device, "a gateway of its own");
        Pair { fort, card, first, twin, image }
    }
}

/// A box with this card.
fn in_box(image: &MemoryGateway, print: [u8; 8], now_ms: i64) -> Clinic {
    let mut store = image.clone();
    store.set_print(print);
    let mut state = store.state().unwrap();
    // It was started anew, as a box with a copied card is.
    state.told = false;
    store.set_state(&state).unwrap();
    Clinic { store, packer: Packer::new(Effort::Quick).unwrap(), now_ms, agrees: false }
}

/// Exchanges until there is nothing more to say.
async fn settle(fort: &Fort, clinic: &mut Clinic, card: &Card) {
    let mut last = None;
    for _ in 0..10 {
        last = fort.sync(clinic, Some(card)).await;
    }
    assert_eq!(last, Some(Ok(Status::Ok)));
}

/// What the hub answers to who shows nothing but this card's key: a deposit, the key of the database, a certificate, and acts.
async fn opened(fort: &Fort, card: &Card) -> [u16; 4] {
    let letters = to_letters(&KEY);
    let deposit = json!({ "name": KEY_NAME, "key": *letters });
    let act = json!({ "number": 1, "name": "0000000000000001", "at_ms": 1, "time": "good", "who": "gateway",
                      "what": "enrol", "on": {} });
    let asked = [
        ("/escrow/v1", deposit),
        ("/escrow/v1/fetch", json!({ "name": KEY_NAME })),
        ("/renew/v1", json!({})),
        ("/acts/v1", json!({ "acts": [act], "dropped": 0 })),
    ];
    let mut told = [0; 4];
    for (at, (path, body)) in asked.iter().enumerate() {
        let (status, answer) =
            fort.ask(Some(card), path, "application/json", body.to_string().as_bytes()).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(answer.contains(letters.as_str()), status == 200 && *path == "/escrow/v1/fetch", "{path}");
        assert_eq!(answer.contains("certificate-refused"), status == 403, "{answer}");
        told[at] = status;
    }
    told
}

/// A card of its own for a gateway that had one before.
async fn enrolled_anew(fort: &Fort, name: &'static str) -> Card {
    let (mut card, code) = (Card::new(), secret::code().unwrap());
    let given = code.clone();
    fort.hub.write(move |tx| give_code(tx, name, &given, 1)).await.unwrap();
    let (status, granted) = fort.enroll(&card, &secret::normal_code(&code)).await;
    assert_eq!(status, 200, "{granted}");
    card.certificate = unhex(granted["certificate"].as_str().unwrap()).unwrap();
    card
}

#[tokio::test]
async fn the_key_of_a_card_opens_nothing_by_itself_once_a_box_with_a_copy_of_it_was_revoked() {
    for (revoked, stays) in [("a-twin-1", "a"), ("a", "a-twin-1")] {
        let Pair { fort, card, mut first, mut twin, .. } = Pair::start().await;
        assert_eq!(opened(&fort, &card).await, [200; 4]);
        let told = fort.run(&["gateway", "revoke", revoked]).unwrap();
        assert!(told.contains(&format!("`gateway code {stays}`")), "{told}");
        assert!(told.contains(&format!("`gateway recovery-key {stays}`")), "{told}");
        assert_eq!(opened(&fort, &card).await, [403; 4], "{revoked} was revoked");
        let listed = fort.run(&["gateway", "list"]).unwrap();
        assert!(listed.contains(&format!("{stays}\tenrolled, needs a new code\t")), "{listed}");
        // What tells the two from each other is in the exchange, which goes on.
        let (gone, good) = if revoked == "a" { (&mut first, &mut twin) } else { (&mut twin, &mut first) };
        assert_eq!(fort.sync(gone, Some(&card)).await, Some(Ok(Status::Revoked)));
        good.put("patient/p1", json!({ "name": "Asha" }));
        settle(&fort, good, &card).await;
        assert_eq!(fort.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 1);
        let printed = fort.run(&["gateway", "recovery-key", stays]).unwrap();
        assert!(printed.contains(to_letters(&KEY).as_str()), "{printed}");
        // With a card of its own it is served as before, and with the old one nobody is.
        let own = enrolled_anew(&fort, stays).await;
        assert_eq!(opened(&fort, &own).await, [200; 4]);
        assert_eq!(opened(&fort, &card).await, [403; 4]);
        let listed = fort.run(&["gateway", "list"]).unwrap();
        assert!(listed.contains(&format!("{stays}\tenrolled\t")), "{listed}");
    }
}

#[tokio::test]
async fn the_key_of_a_card_that_was_revoked_opens_nothing_when_another_card_has_its_name() {
    let Pair { fort, card, mut twin, .. } = Pair::start().await;
    assert_eq!(opened(&fort, &card).await, [200; 4]);
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    fort.hub.write(|tx| tx.allow("a")).await.unwrap();
    assert_eq!(opened(&fort, &card).await, [200; 4], "found again");
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    let own = enrolled_anew(&fort, "a").await;
    assert_eq!(opened(&fort, &own).await, [200; 4]);
    assert_eq!(opened(&fort, &card).await, [403; 4], "although the twin that has it is not revoked");
    settle(&fort, &mut twin, &card).await;
}

#[tokio::test]
async fn a_twin_is_given_the_key_of_its_card_also_when_the_other_one_has_a_new_card() {
    let Pair { fort, card, .. } = Pair::start().await;
    assert_eq!(opened(&fort, &card).await, [200; 4]);
    let wish = json!({ "name": KEY_NAME }).to_string();
    let fetched =
        async |card| fort.ask(Some(card), "/escrow/v1/fetch", "application/json", wish.as_bytes()).await.unwrap().0;
    let second = enrolled_anew(&fort, "a").await;
    assert_eq!(fetched(&card).await, 200);
    // The new card is stolen: its key is another one than the twin's.
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    assert_eq!((fetched(&second).await, fetched(&card).await), (403, 200));
    enrolled_anew(&fort, "a").await;
    assert_eq!((fetched(&second).await, fetched(&card).await), (403, 200));
    assert_eq!(opened(&fort, &card).await, [200; 4]);
}

/// A few exchanges; whether the hub goes on with it.
async fn is_heard(fort: &Fort, clinic: &mut Clinic, card: &Card) -> bool {
    for _ in 0..8 {
        if fort.sync(clinic, Some(card)).await == Some(Ok(Status::Denied)) {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn boxes_that_nothing_tells_apart_show_by_what_they_do_and_lose_nothing() {
    for print in [[0; 8], [1; 8]] {
        let fort = Fort::start().await;
        let (mut first, card) = fort.clinic("a").await;
        first.store.set_print(print);
        assert!(is_heard(&fort, &mut first, &card).await);
        let copy = in_box(&first.store, print, first.now_ms);
        let (mut boxes, mut written, mut told, mut sent_away) = ([first, copy], 0, Vec::new(), 0);
        let warned = async || {
            let a = fort.hub.read(|tx| fleet::one(tx, &Sight::everything(), "a")).await.unwrap();
            a.box_warnings.iter().any(|warning| warning.contains("two boxes run with copies of its card"))
        };
        while sent_away < 3 {
            assert!(written < 100, "they go on for ever");
            let clinic = &mut boxes[written % 2];
            clinic.put(&format!("patient/p{written}"), json!({ "name": "Asha" }));
            written += 1;
            sent_away += usize::from(!is_heard(&fort, clinic, &card).await);
            told.push(warned().await);
        }
        assert!(!told[1] && told[8], "once may be a card that was put back: {told:?}");
        // One fits, 20 are sent on, and of what comes then every other one is sent away.
        assert_eq!(written, 1 + 20 + 5, "{told:?}");
        fort.hub.write(|tx| tx.a_day_passes()).await.unwrap();
        for clinic in &mut boxes {
            assert!(is_heard(&fort, clinic, &card).await, "the next day");
        }
        let arrived = fort.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0;
        assert_eq!(arrived, written as u64, "all that either wrote");
    }
}

#[tokio::test]
async fn an_older_image_of_a_card_that_was_revoked_does_not_come_in_as_another_copy() {
    let Pair { fort, card, mut first, image, .. } = Pair::start().await;
    fort.hub.write(|tx| tx.revoke("a-twin-1")).await.unwrap();
    for print in [[2; 8], [3; 8]] {
        let mut older = in_box(&image, print, first.now_ms);
        older.put("patient/p2", json!({ "name": "Bina" }));
        assert_eq!(fort.sync(&mut older, Some(&card)).await, Some(Ok(Status::Denied)));
    }
    assert!(!fort.run(&["gateway", "list"]).unwrap().contains("a-twin-2"));
    let shown = fort.run(&["gateway", "show", "a"]).unwrap();
    assert!(shown.contains("a box with a copy of this card was revoked"), "{shown}");
    first.put("patient/p1", json!({ "name": "Asha" }));
    settle(&fort, &mut first, &card).await;
    assert_eq!(fort.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 1);
}

/// A box that says it was parted from this card as a gateway of this number, in a time that the hub lost.
fn made_up(image: &MemoryGateway, device: Device, now_ms: i64) -> Clinic {
    let mut clinic = in_box(image, [7; 8], now_ms);
    let mut state = clinic.store.state().unwrap();
    (state.key, state.device) = (state.key.part(device.0), device);
    clinic.store.set_state(&state).unwrap();
    clinic
}

#[tokio::test]
async fn whoever_has_a_card_makes_up_no_more_gateways_of_it_than_may_be_and_uses_up_no_numbers() {
    let fort = Fort::start().await;
    let (mut first, card) = fort.clinic("a").await;
    assert!(is_heard(&fort, &mut first, &card).await);
    let epoch = fort.hub.read(|tx| tx.epoch()).await.unwrap();
    let last = Device(Device::before(epoch).0 + 0xffff);
    for nth in 0..2 * TWINS_MAX as u32 {
        let heard = fort.sync(&mut made_up(&first.store, Device(last.0 - nth), first.now_ms), Some(&card)).await;
        let is_taken_in = heard != Some(Ok(Status::Denied));
        assert_eq!(is_taken_in, nth < TWINS_MAX as u32, "{nth}: {heard:?}");
    }
    let listed = fort.run(&["gateway", "list"]).unwrap();
    assert_eq!(listed.lines().filter(|line| line.starts_with("a-twin-")).count(), TWINS_MAX, "{listed}");
    let mut next = fort.clinic("b").await.0.store;
    let (now, given) = (fort.hub.read(|tx| tx.epoch()).await.unwrap(), next.state().unwrap().device);
    assert!(given.is_of(now) && now != epoch, "{given:?} is of an epoch whose numbers nobody has claimed");
}

#[tokio::test]
async fn an_image_of_a_card_that_was_revoked_does_not_come_in_under_a_made_up_number() {
    let Pair { fort, card, first, image, .. } = Pair::start().await;
    fort.hub.write(|tx| tx.revoke("a-twin-1")).await.unwrap();
    let before = fort.run(&["gateway", "list"]).unwrap();
    for device in [Device(0), Device(77), Device(u32::MAX)] {
        let heard = fort.sync(&mut made_up(&image, device, first.now_ms), Some(&card)).await;
        assert_eq!(heard, Some(Ok(Status::Denied)), "{device:?}");
    }
    assert_eq!(fort.run(&["gateway", "list"]).unwrap(), before);
}
