//! What is sent again, because the answer was not heard.

use serde_json::json;

use super::Open;
use crate::error::Error;
use crate::store::Tx;

const VISITS: &str = "/v1/records/visit";
const BODY: &str = r#"{"n": 1}"#;
const KEY: &str = "idempotency-key: 1";

impl Open {
    /// Makes a visit under a key; gives its id.
    fn visit(&self, token: &str) -> String {
        let made = match token {
            "" => self.ask_local("POST", VISITS, &[KEY], BODY),
            token => self.ask(token, "POST", VISITS, &[KEY], BODY),
        };
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["id"].as_str().unwrap().to_owned()
    }

    fn visits(&self) -> usize {
        self.ask_local("GET", VISITS, &[], "").json()["records"].as_array().unwrap().len()
    }
}

#[test]
fn the_key_of_one_app_is_not_that_of_another() {
    let gateway = Open::start();
    let [a, b] = ["a", "b"].map(|name| gateway.pair(json!({"name": name})));
    let ids = [gateway.visit(&a), gateway.visit(&b), gateway.visit("")];
    assert_eq!(gateway.visits(), 3, "each of them has its record");
    let a = gateway.pair(json!({"name": "a"}));
    assert_eq!([gateway.visit(&a), gateway.visit(&b), gateway.visit("")], ids, "also when it was paired again");
    assert_eq!(gateway.visits(), 3);
}

#[test]
fn what_was_answered_by_an_earlier_version_is_known_to_the_first_who_asks_and_to_no_other() {
    let gateway = Open::start();
    let [a, b] = ["a", "b"].map(|name| gateway.pair(json!({"name": name})));
    let id = gateway.visit(&a);
    // As earlier versions kept it.
    let age = |tx: &mut Tx<'_>| -> Result<(), Error> { tx.idempotent_rename("visit 1\na", "visit 1") };
    gateway.store.as_ref().unwrap().blocking_write(age).unwrap();
    let other = gateway.ask(&b, "POST", VISITS, &[KEY], r#"{"n": 2}"#);
    assert_eq!(other.status, 201, "another body was not meant: {other:?}");
    assert_eq!((gateway.visit(&a), gateway.visit(&a)), (id.clone(), id.clone()));
    assert_ne!(gateway.visit(""), id);
    assert_eq!(gateway.visits(), 3);
}
