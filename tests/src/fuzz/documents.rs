//! What people and apps write: rules documents and JSON bodies.

use serde_json::{Map, Value as Json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Capture, Intent, Refusal, Store as _};
use sync_protocol::id::RecordKey;
use sync_protocol::limits::RULES_BYTES_MAX;
use sync_protocol::memory::MemoryGateway;
use sync_protocol::rules::Rules;
use sync_protocol::value::Value;

use super::CANARY;

/// A document that has every kind of rule.
pub(super) const RULES: &str = include_str!("../../../docs/rules-sample.toml");

/// Types that the sample knows, and one that it does not.
const TYPES: [&str; 4] = ["patient", "visit", "observation", "unknown"];
const NOW_MS: i64 = 1_780_000_000_000;

/// A rules document, and a record under it.
pub(super) fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(rules) = Rules::parse(text) else { return };
    assert!(text.len() <= RULES_BYTES_MAX);
    let again = Rules::parse(rules.text()).expect("the text of rules that were read");
    assert!(again.hash() == rules.hash(), "the same text is other rules");
    let mut desk = MemoryGateway::default();
    desk.set_rules(rules.into()).expect("memory");
    let body =
        serde_json::json!({"name": CANARY, "facility": "mw/zomba", "given": 2, "tags": [1, "a"], "a": {"b": null}});
    for record_type in TYPES {
        write(&mut desk, record_type, body.clone());
    }
}

/// Bodies of one record, one a line, each over the one before. The first byte chooses the type.
pub(super) fn edit(bytes: &[u8]) {
    let Some((first, lines)) = bytes.split_first() else { return };
    let record_type = TYPES[usize::from(*first) % TYPES.len()];
    let mut desk = MemoryGateway::default();
    desk.set_rules(Rules::parse(RULES).expect("the sample").into()).expect("memory");
    for line in lines.split(|byte| *byte == b'\n').take(8) {
        let Ok(body) = serde_json::from_slice::<Json>(line) else { continue };
        write(&mut desk, record_type, body);
    }
}

fn write(desk: &mut MemoryGateway, record_type: &str, body: Json) {
    let Json::Object(body) = body else { return };
    let key = RecordKey::new(record_type, "r1").expect("a key");
    let before = desk.own().count();
    let (intent, quality) = (Intent::Put(body.clone()), TimeQuality::Good);
    let wish = Capture { key: key.clone(), intent, base: None, author: None, now_ms: NOW_MS, quality };
    match gateway::capture(desk, wish) {
        Ok(_) => {
            let held = desk.record(&key).map(|held| held.visible.clone()).unwrap_or_default();
            let bytes = held.canonical();
            assert!(sync_protocol::record::Record::from_canonical(&bytes).expect("what was written") == held);
            for (op, _) in desk.own().skip(before) {
                let again = sync_protocol::record::Op::from_canonical(&op.canonical()).expect("an op that was written");
                assert!(again == *op, "{op:?}");
            }
            // Where no rule says otherwise, what an app sent is what it is shown.
            if record_type == "unknown" {
                assert_eq!(plain(&render(&held)), plain(&body));
            }
        }
        Err(Refusal::Edit(error)) => {
            assert_eq!(desk.own().count(), before, "refused, and written all the same");
            if !body.keys().any(|name| name.contains(CANARY)) {
                assert!(!error.to_string().contains(CANARY), "{error}");
            }
        }
        Err(error) => panic!("{error}"),
    }
}

/// A body as values, without what is empty anyway.
fn plain(body: &Map<String, Json>) -> Vec<(&String, Value)> {
    body.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, Value::from_json(value))).collect()
}
