//! Pages of large records: each has an end in bytes, and the next goes on.

use serde_json::{Value as Json, json};

use super::World;

/// What each page of a list has, by the ids or numbers of its rows.
async fn pages(world: &World, path: &str, list: &str, key: &str) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let reply = world.admin("GET", &format!("{path}?limit=12{after}"), Json::Null).await;
        assert!(reply.status == 200 && reply.body.len() < 3 << 19, "{path}: {} {}", reply.status, reply.body.len());
        let page = reply.json();
        pages.push(page[list].as_array().unwrap().iter().map(|row| row[key].to_string()).collect());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return pages,
        }
    }
}

fn sizes(pages: &[Vec<String>]) -> Vec<usize> {
    pages.iter().map(Vec::len).collect()
}

#[tokio::test]
async fn a_page_of_large_records_is_cut_and_the_next_goes_on() {
    let world = World::start().await;
    let large = "x".repeat(200 * 1024);
    for n in 0..12 {
        let body = json!({ "n": n, "note": large, "even": n % 2 == 0 });
        assert_eq!(world.admin("PUT", &format!("/records/visit/v{n:02}"), body).await.status, 201);
    }
    let found = pages(&world, "/records/visit", "records", "id").await;
    assert_eq!(found.concat(), (0..12).map(|n| format!("\"v{n:02}\"")).collect::<Vec<_>>());
    // The record that reaches 1 MiB is the sixth.
    assert_eq!(sizes(&found), [6, 6, 0]);
    let even = world.admin("GET", "/records/visit?even=true&limit=6", Json::Null).await.json();
    assert_eq!((even["records"].as_array().unwrap().len(), even["next"].as_str()), (6, Some("v10")));

    let lines = String::from_utf8(world.admin("GET", "/export/visit", Json::Null).await.body).unwrap();
    let ids: Vec<Json> = lines.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids, (0..12).map(|n| json!(format!("v{n:02}"))).collect::<Vec<_>>());
    assert_eq!(world.admin("GET", "/export/nothing", Json::Null).await.body, b"");

    for n in 0..12 {
        let body = json!({ "note": format!("{n}{large}") });
        assert!(world.admin("PUT", "/records/visit/v00", body).await.status < 300);
    }
    let past = pages(&world, "/records/visit/v00/history", "history", "hub_seq").await;
    assert_eq!(sizes(&past), [6, 6, 1], "with the first");
    let numbers: Vec<u64> = past.concat().iter().map(|number| number.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|newer, older| newer > older), "{numbers:?}");
}

#[tokio::test]
async fn so_is_one_of_conflicts_and_of_what_is_in_quarantine() {
    let world = World::start().await;
    let (mut a, mut b) = (world.clinic("a", "mw").await, world.clinic("b", "mw").await);
    let rules = "version = 1\n[types.patient]\ndefault = \"keep-both\"\n[types.p.fields]\nname = { rule = \"lww\", required = true }\n";
    world.hub.publish_rules(rules).await.unwrap();
    let large = "x".repeat(200 * 1024);
    for n in 0..4 {
        a.put(&format!("patient/c{n}"), json!({ "note": format!("a{large}") }));
        b.put(&format!("patient/c{n}"), json!({ "note": format!("b{large}") }));
    }
    for n in 0..7 {
        a.put(&format!("p/h{n}"), json!({ "x": large }));
    }
    world.sync(&mut b).await;
    for _ in 0..9 {
        world.exchange(&mut a).await;
    }
    let found = pages(&world, "/conflicts", "conflicts", "id").await;
    assert_eq!((found.concat().len(), sizes(&found)), (4, vec![3, 1]));
    let found = pages(&world, "/quarantine", "quarantine", "id").await;
    assert_eq!((found.concat().len(), sizes(&found)), (7, vec![6, 1]));
}
