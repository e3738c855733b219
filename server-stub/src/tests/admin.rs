//! The admin API and the status page.

use serde_json::{Value as Json, json};
use sync_protocol::gateway::Store as _;
use sync_protocol::message::{Condition, Reserve};

use super::World;

#[tokio::test]
async fn nobody_comes_in_without_the_token() {
    let world = World::start().await;
    assert_eq!(world.ask("GET", "/healthz", &[], b"").await.status, 200);
    let gateways = "/admin/v1/gateways";
    assert_eq!(world.ask("GET", gateways, &[], b"").await.status, 401);
    for wrong in ["Bearer 00", "Bearer hub_00", "Bearer", "Basic YWRtaW46YWRtaW4="] {
        assert_eq!(world.ask("GET", gateways, &[("authorization", wrong)], b"").await.status, 401, "{wrong}");
    }
    assert_eq!(world.ask("GET", "/admin/v1/nothing", &[], b"").await.status, 401);
    assert_eq!(world.admin("GET", "/nothing", Json::Null).await.status, 404);
    let page = world.ask("GET", "/", &[], b"").await;
    assert!(page.status == 303 && page.head.contains("location: /login"), "{page:?}");
}

#[tokio::test]
async fn records_are_written_read_and_deleted_at_the_centre() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    let put = world
        .admin("PUT", "/records/patient/p1?scope=mw/zomba&author=admin", json!({ "name": "Asha", "n": 1.50 }))
        .await;
    assert_eq!(put.status, 201, "{put:?}");
    let tag = put.head.split("etag: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    world.sync(&mut a).await;
    assert_eq!(a.body("patient/p1")["name"], "Asha");

    let patched = world.admin_with("PATCH", "/records/patient/p1", &[("if-match", &tag)], json!({ "n": null })).await;
    assert_eq!((patched.status, patched.json()), (200, json!({ "name": "Asha" })));
    let stale = world.admin_with("PUT", "/records/patient/p1", &[("if-match", &tag)], json!({ "name": "B" })).await;
    assert_eq!(stale.status, 412);
    let absent = world.admin_with("PUT", "/records/patient/p1", &[("if-none-match", "*")], json!({})).await;
    assert_eq!(absent.status, 412);

    let meta = world.admin("GET", "/records/patient/p1?meta=true", Json::Null).await.json();
    assert_eq!((meta["scope"].as_str(), meta["fields"]["name"]["author"].as_str()), (Some("mw/zomba"), Some("admin")));
    assert_eq!(meta["fields"]["name"]["from"], "hub");

    assert_eq!(world.admin("DELETE", "/records/patient/p1", Json::Null).await.status, 204);
    assert_eq!(world.admin("DELETE", "/records/patient/p1", Json::Null).await.status, 404);
    assert_eq!(world.admin("GET", "/records/patient/p1", Json::Null).await.status, 404);
    assert_eq!(world.admin("PATCH", "/records/patient/p1", json!({})).await.status, 404);
    world.sync(&mut a).await;
    let past = world.admin("GET", "/records/patient/p1/history", Json::Null).await.json();
    assert_eq!(past["history"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn lists_have_pages_filters_and_an_order() {
    let world = World::start().await;
    for n in 0..5 {
        let body = json!({ "village": if n % 2 == 0 { "A" } else { "B" }, "n": n });
        world.admin("PUT", &format!("/records/patient/p{n}"), body).await;
    }
    let first = world.admin("GET", "/records/patient?limit=2", Json::Null).await.json();
    assert_eq!((first["records"][1]["id"].as_str(), first["next"].as_str()), (Some("p1"), Some("p1")));
    let last = world.admin("GET", "/records/patient?limit=3&after=p1", Json::Null).await.json();
    assert_eq!(last["records"].as_array().unwrap().len(), 3);
    let odd = world.admin("GET", "/records/patient?village=B", Json::Null).await.json();
    let ids: Vec<_> = odd["records"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!((ids, odd.get("next")), (vec!["p1", "p3"], None));
    assert_eq!(world.admin("GET", "/records/patient?n=4", Json::Null).await.json()["records"][0]["id"], "p4");
    assert_eq!(world.admin("GET", "/records/patient?limit=x", Json::Null).await.status, 400);
    assert_eq!(world.admin("GET", "/records/9", Json::Null).await.status, 400);
    let lines = String::from_utf8(world.admin("GET", "/export/patient", Json::Null).await.body).unwrap();
    assert_eq!(lines.lines().next(), Some(r#"{"body":{"n":0,"village":"A"},"id":"p0"}"#));
    assert_eq!(lines.lines().count(), 5);
    let digest = world.admin("GET", "/digest", Json::Null).await.json();
    assert_eq!(digest["digest"].as_str().unwrap(), format!("{:016x}", world.hub.digest().await.unwrap()));
}

#[tokio::test]
async fn a_write_that_breaks_the_rules_names_the_fields_and_no_value() {
    let world = World::start().await;
    let rules = "version = 1\n[types.p.fields]\nname = { rule = \"lww\", required = true }\nage = { rule = \"lww\", kind = \"integer\" }\n";
    let published = world.admin_with("PUT", "/rules", &[("content-type", "application/toml")], Json::Null).await;
    assert_eq!(published.status, 422, "an empty document");
    world.hub.publish_rules(rules).await.unwrap();
    let refused = world.admin("PUT", "/records/p/1", json!({ "age": "secret-value" })).await;
    assert_eq!(refused.status, 422);
    let problem = refused.json();
    assert_eq!(problem["fields"].as_array().unwrap().len(), 2, "{problem}");
    assert!(!problem.to_string().contains("secret-value"));
    let broken = world
        .ask(
            "PUT",
            "/admin/v1/records/p/1",
            &[("authorization", &format!("Bearer {}", world.hub.admin_token()))],
            b"{\"secret\": }",
        )
        .await;
    assert_eq!(broken.status, 400);
    assert!(!String::from_utf8_lossy(&broken.body).contains("secret"));
}

#[tokio::test]
async fn the_page_shows_the_fleet_and_what_is_absent() {
    let world = World::start().await;
    let mut a = world.clinic("clinic-a", "mw/zomba").await;
    world.hub.add_gateway("clinic-b", &["mw/mzuzu"], "clinic").await.unwrap();
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    let token = format!("Bearer {}", world.hub.admin_token());
    let shown = world.ask("GET", "/", &[("authorization", &token)], b"").await;
    assert_eq!(shown.status, 200);
    assert!(shown.head.contains("content-security-policy: default-src 'none'") && shown.head.contains("no-store"));
    let html = String::from_utf8(shown.body).unwrap();
    assert!(html.contains("clinic-a") && html.contains("less than a minute ago"), "{html}");
    assert!(html.contains("waiting to be enrolled") && html.contains("never"), "{html}");
    assert!(html.contains("1 records") && !html.contains("Asha"), "{html}");
    assert!(!html.contains("<script"));
    let listed = world.admin("GET", "/gateways", Json::Null).await.json();
    assert_eq!((listed[0]["unsent"].as_u64(), listed[0]["state"].as_str()), (Some(0), Some("enrolled")));
}

#[tokio::test]
async fn what_is_wrong_with_a_box_is_on_the_page_until_it_says_otherwise() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    let device = a.store.state().unwrap().device;
    let bad =
        Condition { is_power_weak: true, worn_percent: Some(110), reserve: Reserve::Ending, ..Condition::default() };
    let shown = |told: Condition| {
        let world = &world;
        async move {
            world.hub.write(move |tx| tx.note_condition(device, &told)).await.unwrap();
            let token = format!("Bearer {}", world.hub.admin_token());
            String::from_utf8(world.ask("GET", "/", &[("authorization", &token)], b"").await.body).unwrap()
        }
    };
    let before = shown(bad).await;
    assert!(before.contains("the power supply is too weak") && before.contains("replace it now"), "{before}");
    // Most boards have no clock of their own: that is nothing to send somebody for.
    let after = shown(Condition { is_clockless: true, ..Condition::default() }).await;
    assert!(!after.contains("too weak") && !after.contains("replace it"), "{after}");
}
