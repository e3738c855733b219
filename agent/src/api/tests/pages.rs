//! Pages of lists.

use serde_json::{Value, json};
use sync_protocol::gateway::{Fate, Store as _, UNENROLLED};
use sync_protocol::id::{Dot, Seq, Stream};

use super::{Answer, Open};

/// Goes through a list by two rows at a time. Gives the rows, and how many each page had.
fn by_two(key: &str, mut ask: impl FnMut(&str) -> Answer) -> (Vec<Value>, Vec<usize>) {
    let (mut query, mut all, mut pages) = ("limit=2".to_owned(), Vec::new(), Vec::new());
    loop {
        let page = ask(&query).json();
        let rows = page[key].as_array().unwrap();
        all.extend(rows.iter().cloned());
        pages.push(rows.len());
        let Some(next) = page.get("next").and_then(Value::as_str) else { return (all, pages) };
        assert!(next.bytes().all(|digit| digit.is_ascii_digit()), "it names no record: {next}");
        query = format!("limit=2&after={next}");
    }
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[test]
fn all_that_waits_for_a_person_is_listed_page_by_page_and_to_each_only_what_is_his() {
    let open = Open::start();
    open.rule(
        "version = 1\n[types.patient.fields]\nname = \"keep-both\"\n[types.visit.fields]\nname = \"keep-both\"\n",
    );
    for (record_type, id) in [("patient", "p1"), ("visit", "v1"), ("patient", "p2"), ("patient", "p3"), ("visit", "v2")]
    {
        let put = |headers: &[&str], name: &str| {
            let body = json!({"name": name}).to_string();
            open.ask_local("PUT", &format!("/v1/records/{record_type}/{id}"), headers, &body).json()
        };
        let read = put(&[], "a");
        put(&[], "b");
        put(&[&format!("if-match: \"{}\"", read["etag"].as_str().unwrap())], "c");
    }
    let local = |path: &'static str| {
        let open = &open;
        move |query: &str| open.ask_local("GET", &format!("{path}?{query}"), &[], "")
    };
    let (all, pages) = by_two("conflicts", local("/v1/conflicts"));
    assert_eq!((ids(&all), pages), (vec!["p1", "v1", "p2", "p3", "v2"], vec![2, 2, 1]));
    let visits = open.pair(json!({"name": "tablet", "read": ["visit"]}));
    let (mine, pages) =
        by_two("conflicts", |query| open.ask(&visits, "GET", &format!("/v1/conflicts?{query}"), &[], ""));
    assert_eq!((ids(&mine), pages), (vec!["v1", "v2"], vec![1, 0, 1]), "a page may be empty before the last");

    // What was settled meanwhile takes nothing from the pages to come.
    let first = local("/v1/conflicts")("limit=2").json();
    let settle = json!({"type": "patient", "id": "p1", "field": "name", "value": "c", "why": "asked her"}).to_string();
    assert_eq!(open.ask_local("POST", "/v1/conflicts/settle", &[], &settle).status, 200);
    let rest = local("/v1/conflicts")(&format!("after={}", first["next"].as_str().unwrap())).json();
    assert_eq!(ids(rest["conflicts"].as_array().unwrap()), ["p2", "p3", "v2"]);

    let dot = |seq| Dot { origin: UNENROLLED, stream: Stream::Normal, seq: Seq(seq) };
    let store = open.store();
    for seq in 1..=5 {
        store.blocking_write(move |tx| tx.settle_fate(dot(seq), &Fate::Parked("no such village".to_owned()))).unwrap();
    }
    let (parked, pages) = by_two("parked", local("/v1/parked"));
    assert_eq!((ids(&parked), pages), (vec!["p1", "p1", "p1", "v1", "v1"], vec![2, 2, 1]));
    // One that is on no first page can be decided about.
    let last = parked[4]["change"].as_str().unwrap();
    let decide = json!({"change": last, "discard": true}).to_string();
    assert_eq!(open.ask_local("POST", "/v1/parked", &[], &decide).status, 202);
    let unknown = json!({"change": "4294967295-1-6", "discard": true}).to_string();
    assert_eq!(open.ask_local("POST", "/v1/parked", &[], &unknown).status, 404);

    for query in ["limit=0", "limit=1001", "limit=no", "after=patient/p1", "after=-"] {
        for path in ["/v1/conflicts", "/v1/parked", "/v1/records/patient/p1/history"] {
            let answer = open.ask_local("GET", &format!("{path}?{query}"), &[], "");
            assert_eq!(answer.status, 400, "{path} {query}");
        }
    }
}

#[test]
fn a_long_history_is_told_page_by_page() {
    let open = Open::start();
    for n in 0..5 {
        open.ask_local("PUT", "/v1/records/visit/v", &[], &json!({"n": n}).to_string());
    }
    let path = "/v1/records/visit/v/history";
    let whole = open.ask_local("GET", path, &[], "").json();
    let (all, pages) = by_two("history", |query| open.ask_local("GET", &format!("{path}?{query}"), &[], ""));
    assert_eq!((Some(&all), pages), (whole["history"].as_array(), vec![2, 2, 1]));
    let far = open.ask_local("GET", &format!("{path}?after=1000000000"), &[], "");
    assert_eq!((far.status, far.json()), (200, json!({"history": []})));
}

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
