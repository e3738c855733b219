//! Copies of gateways' keys: who gets one, and what lies on the disk.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value as Json, json};

use super::tls::{Card, Fort};

#[tokio::test]
async fn a_key_is_given_to_the_gateway_that_deposited_it_and_to_nobody_else() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    let (_, other) = fort.clinic("b").await;
    let letters = sync_protocol::recovery::to_letters(&[0xc3; 32]);
    let name = "00112233445566778899aabbccddeeff";
    let ask = async |card: Option<&Card>, path: &str, body: &Json| {
        let (status, body) = fort.ask(card, path, "application/json", body.to_string().as_bytes()).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    };
    let deposit = json!({ "name": name, "key": *letters });
    let wish = json!({ "name": name });
    assert_eq!(ask(None, "/escrow/v1", &deposit).await.0, 403, "without a certificate");
    assert_eq!(ask(Some(&card), "/escrow/v1", &json!({ "name": name, "key": "OPK-AAAAA" })).await.0, 400);
    assert_eq!(ask(Some(&card), "/escrow/v1/fetch", &wish).await.0, 404, "not deposited yet");
    assert_eq!(ask(Some(&card), "/escrow/v1", &deposit).await.0, 200);
    let (status, given) = ask(Some(&card), "/escrow/v1/fetch", &wish).await;
    assert!(status == 200 && given.contains(letters.as_str()));
    assert_eq!(ask(Some(&other), "/escrow/v1/fetch", &wish).await.0, 404, "another gateway's");
    assert_eq!(ask(None, "/escrow/v1/fetch", &wish).await.0, 403);
    // Nothing of it lies in the database; and without the file beside it, nobody opens it.
    let dir = fort.hub.data_dir().to_owned();
    for file in std::fs::read_dir(&dir).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(8).any(|eight| eight == [0xc3; 8] || eight == &letters.as_bytes()[..8]));
    }
    assert_eq!(dir.join("escrow.key").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::rename(dir.join("escrow.key"), dir.join("elsewhere")).unwrap();
    assert_eq!(ask(Some(&card), "/escrow/v1/fetch", &wish).await.0, 500);
    std::fs::rename(dir.join("elsewhere"), dir.join("escrow.key")).unwrap();
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    assert_eq!(ask(Some(&card), "/escrow/v1/fetch", &wish).await.0, 403, "revoked");
    assert_eq!(ask(Some(&card), "/escrow/v1", &deposit).await.0, 403);
    fort.hub.write(|tx| tx.allow("a")).await.unwrap();
    assert_eq!(ask(Some(&card), "/escrow/v1/fetch", &wish).await.0, 200, "found again");
}

#[tokio::test]
async fn a_key_that_a_lost_file_sealed_is_sealed_anew_when_its_gateway_deposits_it_again() {
    let fort = Fort::start().await;
    let (_, card) = fort.clinic("a").await;
    let letters = sync_protocol::recovery::to_letters(&[0xc3; 32]);
    let older = sync_protocol::recovery::to_letters(&[0xc4; 32]);
    let name = "00112233445566778899aabbccddeeff";
    let ask = async |path: &str, body: Json| {
        fort.ask(Some(&card), path, "application/json", body.to_string().as_bytes()).await.unwrap().0
    };
    let deposit = json!({ "name": name, "key": *letters });
    assert_eq!(ask("/escrow/v1", json!({ "name": "ff".repeat(16), "key": *older })).await, 200);
    assert_eq!(ask("/escrow/v1", deposit.clone()).await, 200);
    let print = || fort.run(&["gateway", "recovery-key", "a"]);
    assert!(print().unwrap().contains(letters.as_str()));
    let file = fort.hub.data_dir().join("escrow.key");
    for is_replaced in [false, true] {
        match is_replaced {
            true => std::fs::write(&file, [7_u8; 32]).unwrap(),
            false => std::fs::remove_file(&file).unwrap(),
        }
        assert!(print().is_err());
        assert_ne!(ask("/escrow/v1/fetch", json!({ "name": name })).await, 200);
        assert_eq!(ask("/escrow/v1", deposit.clone()).await, 200);
        let printed = print().unwrap();
        assert!(printed.contains(letters.as_str()), "{printed}");
        assert!(
            printed.contains("sealed with another escrow.key"),
            "the older one says why it is not there: {printed}"
        );
        assert_eq!(ask("/escrow/v1/fetch", json!({ "name": name })).await, 200);
    }
}
