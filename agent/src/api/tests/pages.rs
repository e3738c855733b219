//! Pages of lists.

use serde_json::{Value, json};

use super::Open;

#[test]
fn a_page_of_large_records_is_cut_and_the_next_goes_on() {
    let open = Open::start();
    let large = "x".repeat(200 * 1024);
    for n in 0..12 {
        let body = json!({"n": n, "note": large}).to_string();
        let answer = open.ask_local("PUT", &format!("/v1/records/visit/v{n:02}"), &[], &body);
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let (mut path, mut found, mut pages) = ("/v1/records/visit?limit=12".to_owned(), Vec::new(), Vec::new());
    loop {
        let page = open.ask_local("GET", &path, &[], "").json();
        let records = page["records"].as_array().unwrap();
        found.extend(records.iter().map(|record| record["body"]["n"].as_u64().unwrap()));
        pages.push(records.len());
        let Some(next) = page.get("next").and_then(Value::as_str) else { break };
        path = format!("/v1/records/visit?limit=12&after={next}");
    }
    assert_eq!(found, (0..12).collect::<Vec<_>>());
    // The record that reaches 1 MiB is the sixth.
    assert_eq!(pages, [6, 6, 0]);
}
