//! What a role may do, and what a district sees: every path of the API by every role, and every list by who sees a part.

use serde_json::{Value as Json, json};

use super::people::{Browser, boss};
use super::{Reply, World};
use crate::account::Role::{self, Admin, Operator, Resolver, Viewer};
use crate::error::HubError;
use crate::view;

/// The least role for each path, written down a second time: whoever adds or changes one has to say so here and in
/// docs/operations.md.
const NEEDS: [(&str, &str, Role); 39] = [
    ("GET", "/session", Viewer),
    ("DELETE", "/session", Viewer),
    ("GET", "/second-factor", Viewer),
    ("PUT", "/second-factor", Viewer),
    ("DELETE", "/second-factor", Viewer),
    ("GET", "/tokens", Viewer),
    ("POST", "/tokens", Viewer),
    ("DELETE", "/tokens/{label}", Viewer),
    ("GET", "/gateways", Viewer),
    ("GET", "/gateways/{name}", Viewer),
    ("POST", "/gateways", Operator),
    ("POST", "/gateways/{name}/code", Operator),
    ("PUT", "/gateways/{name}/scopes", Operator),
    ("POST", "/gateways/{name}/revoke", Operator),
    ("POST", "/gateways/{name}/allow", Operator),
    ("GET", "/records/{type}", Viewer),
    ("GET", "/records/{type}/{id}", Viewer),
    ("GET", "/records/{type}/{id}/history", Viewer),
    ("PUT", "/records/{type}/{id}", Resolver),
    ("PATCH", "/records/{type}/{id}", Resolver),
    ("DELETE", "/records/{type}/{id}", Resolver),
    ("GET", "/export/{type}", Operator),
    ("GET", "/digest", Viewer),
    ("GET", "/certificate", Viewer),
    ("GET", "/disk", Viewer),
    ("GET", "/rules", Viewer),
    ("PUT", "/rules", Admin),
    ("GET", "/conflicts", Viewer),
    ("POST", "/conflicts/settle", Resolver),
    ("GET", "/quarantine", Viewer),
    ("POST", "/quarantine/release", Resolver),
    ("POST", "/quarantine/discard", Resolver),
    ("GET", "/accounts", Admin),
    ("POST", "/accounts", Admin),
    ("PUT", "/accounts/{name}", Admin),
    ("POST", "/accounts/{name}/code", Admin),
    ("DELETE", "/accounts/{name}/second-factor", Admin),
    ("DELETE", "/accounts/{name}/tokens/{label}", Admin),
    ("GET", "/audit", Admin),
];

#[tokio::test]
async fn every_path_is_closed_to_who_is_below_its_role_and_open_to_the_others() {
    assert_eq!(crate::api::table(), NEEDS);
    let world = World::start().await;
    for role in Role::ALL {
        let token = {
            world.account(role.name(), role, &[]).await;
            world.token(role.name(), "all", None, &[]).await
        };
        for (method, path, least) in NEEDS {
            let filled = path.replace("{type}", "patient").replace("{", "").replace("}", "");
            let reply = world.by_token(&token, method, &filled, Json::Null).await;
            let told = String::from_utf8_lossy(&reply.body).into_owned();
            let is_role = reply.status == 403 && told.contains("needs the role");
            assert_eq!(is_role, role < least, "{role} {method} {path}: {} {told}", reply.status);
        }
        let reply = world.by_token(&token, "POST", "/digest", Json::Null).await;
        assert_eq!(reply.status, 405, "{role}: a method that is not there");
    }
}

#[test]
fn the_documented_table_is_the_one_that_is_held_to() {
    let text = include_str!("../../../docs/operations.md");
    for (method, path, least) in NEEDS {
        let line = format!("| `{method} {path}` | {least} |");
        assert!(text.contains(&line), "{line}");
    }
}

/// A hub with the same in two districts: a record, one in conflict, one that was deleted, one in quarantine, and a gateway each.
async fn two_districts(world: &World) {
    let mut clinics = Vec::new();
    for district in ["mzuzu", "zomba"] {
        let scope = format!("mw/{district}");
        let a = world.clinic(&format!("{district}-a"), &scope).await;
        clinics.push((a, world.clinic(&format!("{district}-b"), &scope).await));
    }
    // After that, so that the gateways do not hold it against their own records.
    let rules = "version = 1\n[types.patient]\ndefault = \"keep-both\"\n[types.p.fields]\nname = { rule = \"lww\", required = true }\n";
    world.hub.publish_rules(rules).await.unwrap();
    for ((n, district), (mut a, mut b)) in [(1, "mzuzu"), (2, "zomba")].into_iter().zip(clinics) {
        a.put(&format!("patient/{n}-plain"), json!({ "name": "Asha", "at": district }));
        a.put(&format!("patient/{n}-both"), json!({ "name": "Bina" }));
        b.put(&format!("patient/{n}-both"), json!({ "name": "Beatrice" }));
        a.put(&format!("patient/{n}-gone"), json!({ "name": "Chisomo" }));
        a.put(&format!("p/{n}-held"), json!({ "x": 1 }));
        world.sync(&mut b).await;
        world.exchange(&mut a).await;
        let gone = format!("/records/patient/{n}-gone");
        assert_eq!(world.admin("DELETE", &gone, Json::Null).await.status, 204);
    }
}

fn ids(reply: &Reply, list: &str) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let rows = reply.json()[list].as_array().unwrap().clone();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lists_show_the_own_district_and_a_page_is_full_of_it() {
    let world = World::start().await;
    two_districts(&world).await;
    let zomba = world.person("zomba", Viewer, &["mw/zomba"]).await;
    let ask = async |path: &str| zomba.ask("GET", &format!("/admin/v1{path}"), Json::Null).await;
    // Those of the other district come first: a limit that counted them would leave nothing.
    assert_eq!(ids(&ask("/records/patient?limit=1").await, "records"), ["2-both"]);
    assert_eq!(ids(&ask("/records/patient").await, "records"), ["2-both", "2-plain"]);
    assert_eq!(ids(&ask("/records/patient?name=Asha").await, "records"), ["2-plain"]);
    assert_eq!(ids(&ask("/conflicts?limit=1").await, "conflicts"), ["2-both"]);
    assert_eq!(ids(&ask("/conflicts").await, "conflicts"), ["2-both"]);
    assert_eq!(ids(&ask("/quarantine?limit=1").await, "quarantine"), ["2-held"]);
    assert_eq!(ids(&ask("/quarantine").await, "quarantine"), ["2-held"]);
    let fleet = ask("/gateways").await.json();
    let names: Vec<&str> = fleet.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["zomba-a", "zomba-b"]);
    let digest = ask("/digest").await.json();
    assert_eq!(digest["scopes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["mw/zomba"]);
    let page = String::from_utf8(zomba.ask("GET", "/", Json::Null).await.body).unwrap();
    assert!(page.contains("3 records, 1 with a conflict to settle, 1 changes in quarantine"), "{page}");
    assert!(page.contains("zomba-a") && !page.contains("mzuzu"), "{page}");
    assert!(!page.contains("backup"), "how much there is in all is for who sees all: {page}");
    let all = world.person("all", Operator, &[]).await;
    let page_of_all = async || String::from_utf8(all.ask("GET", "/", Json::Null).await.body).unwrap();
    assert!(page_of_all().await.contains(" changes of gateways are in no backup yet"), "{}", page_of_all().await);
    let told = world.run(&["backup", world.dir.path().join("copy.db").to_str().unwrap()]).unwrap();
    assert!(told.contains("on the disk of the hub itself"), "{told}");
    assert!(page_of_all().await.contains("All changes of gateways are in a backup"), "{}", page_of_all().await);
    assert_eq!(ids(&all.ask("GET", "/admin/v1/conflicts", Json::Null).await, "conflicts"), ["1-both", "2-both"]);
    assert_eq!(ids(&all.ask("GET", "/admin/v1/quarantine", Json::Null).await, "quarantine"), ["1-held", "2-held"]);

    let operator = world.person("operator", Operator, &["mw/zomba"]).await;
    let lines = String::from_utf8(operator.ask("GET", "/admin/v1/export/patient", Json::Null).await.body).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

/// What is asked of a record, and what the answer is for who sees it.
async fn is_not_there(browser: &Browser<'_>, method: &str, path: &str, body: Json) {
    let there = browser.ask(method, &format!("/admin/v1{path}"), body.clone()).await;
    let nowhere = path.replace("/1-", "/9-").replace("mzuzu-a", "nowhere");
    let absent = browser.ask(method, &format!("/admin/v1{nowhere}"), body).await;
    assert_eq!((there.status, absent.status), (404, 404), "{method} {path}");
    let told = |reply: &Reply| {
        String::from_utf8(reply.body.clone()).unwrap().replace("1-", "9-").replace("mzuzu-a", "nowhere")
    };
    assert_eq!(told(&there), told(&absent), "{method} {path}: as if it were not there");
}

#[tokio::test]
async fn what_is_in_another_district_is_not_there() {
    let world = World::start().await;
    two_districts(&world).await;
    let zomba = world.person("zomba", Operator, &["mw/zomba"]).await;
    for path in [
        "/records/patient/1-plain",
        "/records/patient/1-gone?meta=true",
        "/records/patient/1-both/history",
        "/gateways/mzuzu-a",
    ] {
        is_not_there(&zomba, "GET", path, Json::Null).await;
    }
    is_not_there(&zomba, "PATCH", "/records/patient/1-plain", json!({ "name": "x" })).await;
    is_not_there(&zomba, "DELETE", "/records/patient/1-plain", Json::Null).await;
    for deed in ["code", "revoke", "allow"] {
        is_not_there(&zomba, "POST", &format!("/gateways/mzuzu-a/{deed}"), Json::Null).await;
    }
    is_not_there(&zomba, "PUT", "/gateways/mzuzu-a/scopes", json!({ "scopes": ["mw/zomba"] })).await;
    assert_eq!(zomba.api("PUT", "/records/patient/1-plain", json!({ "name": "x" })).await, 404);
    let settle = json!({ "type": "patient", "id": "1-both", "field": "name", "value": "x", "why": "y" });
    assert_eq!(zomba.api("POST", "/conflicts/settle", settle).await, 404);
    let everything = crate::account::Sight::everything();
    let look = move |tx: &mut crate::store::Tx<'_>| tx.held_page(&everything, sync_protocol::id::HubSeq::NONE, 9);
    let held = world.hub.read(look).await.unwrap();
    let change = view::change_name(held[0].held.op.stamp.dot);
    let decision = json!({ "change": change, "why": "y" });
    assert_eq!(zomba.api("POST", "/quarantine/release", decision.clone()).await, 404);
    assert_eq!(zomba.api("POST", "/quarantine/discard", decision).await, 404);
    let untouched = world.admin("GET", "/records/patient/1-plain", Json::Null).await.json();
    assert_eq!(untouched["name"], "Asha");

    // In the own district all of it is done.
    assert_eq!(zomba.api("PATCH", "/records/patient/2-plain", json!({ "name": "x" })).await, 200);
    assert_eq!(zomba.api("POST", "/gateways/zomba-a/code", Json::Null).await, 200);
    let settle = json!({ "type": "patient", "id": "2-both", "field": "name", "value": "x", "why": "y" });
    assert_eq!(zomba.api("POST", "/conflicts/settle", settle).await, 200);
    let change = view::change_name(held[1].held.op.stamp.dot);
    assert_eq!(zomba.api("POST", "/quarantine/release", json!({ "change": change })).await, 204);
    let meta = zomba.ask("GET", "/admin/v1/records/patient/2-plain?meta=true", Json::Null).await.json();
    assert_eq!(meta["fields"]["name"]["author"], "zomba", "under the name of who is logged in");
    let named = zomba.api("PATCH", "/records/patient/2-plain?author=asha", json!({ "name": "z" })).await;
    assert_eq!(named, 400, "and under no other");
}

#[tokio::test]
async fn nothing_is_put_or_moved_or_given_where_it_is_not_seen() {
    let world = World::start().await;
    let rules = "version = 1\n[types.patient]\nscope = \"district\"\n[types.p.fields]\nname = { rule = \"lww\", required = true }\n";
    world.hub.publish_rules(rules).await.unwrap();
    let zomba = world.person("zomba", Operator, &["mw/zomba"]).await;
    assert_eq!(zomba.api("PUT", "/records/visit/v1", json!({ "x": 1 })).await, 201, "in the own district");
    let meta = world.admin("GET", "/records/visit/v1?meta=true", Json::Null).await.json();
    assert_eq!(meta["scope"], "mw/zomba");
    for scope in ["mw/mzuzu", "mw", ""] {
        assert_eq!(
            zomba.api("PUT", &format!("/records/visit/v2?scope={scope}"), json!({ "x": 1 })).await,
            403,
            "{scope}"
        );
    }
    assert_eq!(zomba.api("PUT", "/records/patient/p1", json!({ "district": "mw/zomba/a" })).await, 201);
    assert_eq!(zomba.api("PATCH", "/records/patient/p1", json!({ "district": "mw/mzuzu" })).await, 403, "moved away");
    assert_eq!(zomba.api("PUT", "/records/p/1", json!({ "name": "x" })).await, 201);
    assert_eq!(world.admin("GET", "/records/visit/v2", Json::Null).await.status, 404, "nothing stayed of it");
    let gateway = |scopes: Json| json!({ "name": "g", "scopes": scopes });
    assert_eq!(zomba.api("POST", "/gateways", gateway(json!(["mw/zomba", "mw/mzuzu"]))).await, 403);
    assert_eq!(zomba.api("POST", "/gateways", gateway(json!([""]))).await, 403);
    assert_eq!(zomba.api("POST", "/gateways", gateway(json!(["mw/zomba/a"]))).await, 201);
    assert_eq!(zomba.api("PUT", "/gateways/g/scopes", json!({ "scopes": ["mw/zomba/a", "mw"] })).await, 403);
    // One that holds more than the district is seen, and not decided about.
    world.hub.add_gateway("both", &["mw/zomba", "mw/mzuzu"], "clinic").await.unwrap();
    assert_eq!(zomba.api("GET", "/gateways/both", Json::Null).await, 200);
    assert_eq!(zomba.api("POST", "/gateways/both/revoke", Json::Null).await, 403);

    let admin = world.person("chief", Admin, &["mw/zomba"]).await;
    world.account("wide", Viewer, &[]).await;
    let new = |scopes: Json| json!({ "name": "new", "role": "viewer", "scopes": scopes });
    assert_eq!(admin.api_proven("POST", "/accounts", new(json!(["mw"]))).await, 403);
    assert_eq!(
        admin.api_proven("POST", "/accounts", json!({ "name": "new", "role": "viewer", "everything": true })).await,
        403
    );
    assert_eq!(admin.api_proven("POST", "/accounts", new(json!([]))).await, 400, "everything is not given by a slip");
    assert_eq!(admin.api_proven("POST", "/accounts", new(json!(["mw/zomba/a"]))).await, 201);
    assert_eq!(admin.api_proven("PUT", "/accounts/new", json!({ "everything": true })).await, 403);
    for (method, path, body) in [
        ("PUT", "/accounts/wide", json!({ "disabled": true })),
        ("POST", "/accounts/wide/code", Json::Null),
        ("DELETE", "/accounts/wide/second-factor", Json::Null),
    ] {
        assert_eq!(admin.api_proven(method, path, body).await, 404, "{path}: who sees more is not there");
    }
    let listed = admin.ask("GET", "/admin/v1/accounts", Json::Null).await.json().to_string();
    assert!(listed.contains("zomba") && !listed.contains("wide"), "{listed}");
    let toml =
        [("content-type", "application/toml"), ("sec-fetch-site", "same-origin"), ("cookie", admin.cookie.as_str())];
    let published =
        world.ask("PUT", "/admin/v1/rules", &toml, rules.replace("version = 1", "version = 2").as_bytes()).await;
    assert_eq!(published.status, 403, "rules are for all districts");
    assert_eq!(admin.api("GET", "/audit", Json::Null).await, 403, "and so is the audit");
}

#[tokio::test]
async fn a_token_sees_and_does_what_its_account_may_now() {
    let world = World::start().await;
    two_districts(&world).await;
    world.account("asha", Admin, &["mw"]).await;
    let token = world.token("asha", "all", Some(Viewer), &[]).await;
    let seen = async || ids(&world.by_token(&token, "GET", "/records/patient", Json::Null).await, "records").len();
    assert_eq!(seen().await, 4);
    let change = |sight: &str| {
        let sight = Some(crate::account::Sight::wanted(&[sight], false).unwrap());
        let change = crate::staff::Change { sight, ..Default::default() };
        move |tx: &mut crate::store::Tx<'_>| crate::staff::change(tx, &boss(), &"asha".parse()?, change).map(drop)
    };
    world.hub.write::<_, HubError, _>(change("mw/zomba")).await.unwrap();
    assert_eq!(seen().await, 2, "less, although the token was made for more");
    world.hub.write::<_, HubError, _>(change("tz")).await.unwrap();
    assert_eq!(seen().await, 0);
    let strong = world.token("asha", "strong", None, &[]).await;
    assert_eq!(world.by_token(&strong, "GET", "/accounts", Json::Null).await.status, 200);
    let change = crate::staff::Change { role: Some(Viewer), ..Default::default() };
    let act =
        move |tx: &mut crate::store::Tx<'_>| crate::staff::change(tx, &boss(), &"asha".parse()?, change).map(drop);
    world.hub.write::<_, HubError, _>(act).await.unwrap();
    assert_eq!(world.by_token(&strong, "GET", "/accounts", Json::Null).await.status, 403);
}
