//! A disk that is nearly full: what gateways bring waits with them, and all else goes on.

use serde_json::{Value as Json, json};
use sync_protocol::gateway::Store as _;
use sync_protocol::message::{Status, body};

use super::people::OWN_PAGE;
use super::{Clinic, Reply, SYNC, World, logged};
use crate::account::Role;

/// One exchange that may be refused. As a gateway does it, it asks the next time what arrived.
async fn push(world: &World, clinic: &mut Clinic) -> Reply {
    let outgoing = clinic.request();
    let mut state = clinic.store.state().unwrap();
    state.unsure = outgoing.ops > 0;
    clinic.store.set_state(&state).unwrap();
    world.ask("POST", "/sync/v1", &[SYNC], &body(&outgoing.head.encode(), outgoing.frames)).await
}

async fn at_hub(world: &World, path: &str) -> u16 {
    world.admin("GET", path, Json::Null).await.status
}

#[tokio::test]
async fn without_room_nothing_new_is_taken_from_gateways_and_nothing_of_it_is_lost() {
    let world = World::with_admins().await;
    let (mut clinic, mut other) = (world.clinic("a", "mw").await, world.clinic("b", "mw").await);
    clinic.put("patient/p0", json!({ "name": "before" }));
    world.sync(&mut clinic).await;
    world.sync(&mut other).await;
    clinic.put("patient/p1", json!({ "name": "kept" }));
    let reserve = world.hub.room().reserve_bytes;
    world.hub.room().pretend(Some(reserve - 1));

    let refused = push(&world, &mut clinic).await;
    assert_eq!((refused.status, refused.json()["type"].as_str()), (507, Some("disk-nearly-full")), "{refused:?}");
    assert!(refused.head.contains("retry-after: 60"), "{refused:?}");
    assert_eq!(at_hub(&world, "/records/patient/p1").await, 404);
    assert_eq!(clinic.body("patient/p1")["name"], "kept");

    // What is read, what goes down and what people decide goes on.
    assert_eq!(at_hub(&world, "/records/patient/p0").await, 200);
    let written = world.admin("PUT", "/records/patient/p2?scope=mw", json!({ "name": "of the centre" })).await;
    assert_eq!(written.status, 201);
    world.exchange(&mut clinic).await;
    world.sync(&mut other).await;
    for gateway in [&clinic, &other] {
        assert_eq!(gateway.body("patient/p2")["name"], "of the centre");
    }
    assert_eq!(push(&world, &mut clinic).await.status, 507, "it asked, and brings it again");
    world.erase("patient/p0");
    world.exchange(&mut clinic).await;
    assert!(clinic.record("patient/p0").is_none_or(|record| !format!("{record:?}").contains("before")), "it is erased");
    assert_eq!(world.admin("POST", "/gateways/b/revoke", Json::Null).await.status, 200);
    assert_eq!(world.exchange(&mut other).await.status, Status::Revoked);

    world.hub.room().pretend(Some(reserve));
    world.exchange(&mut clinic).await;
    world.sync(&mut clinic).await;
    assert_eq!(at_hub(&world, "/records/patient/p1").await, 200, "it goes on by itself");
}

#[tokio::test]
async fn that_the_disk_is_nearly_full_is_on_the_page_in_the_api_and_once_in_the_log() {
    let world = World::start().await;
    let browser = world.person("asha", Role::Viewer, &["mw/zomba"]).await;
    let folder = world.dir.path().display().to_string();
    let said = |what: &str| logged().lines().filter(|line| line.contains(&folder) && line.contains(what)).count();
    let told = async || {
        let page = browser.ask("GET", "/", Json::Null).await;
        let api = browser.ask("GET", "/admin/v1/disk", Json::Null).await.json();
        let alive = world.ask("GET", "/healthz", &[OWN_PAGE], b"").await;
        assert_eq!(alive.status, 200, "it serves");
        let is_short = String::from_utf8(page.body).unwrap().contains("The disk is nearly full");
        assert_eq!(is_short, String::from_utf8(alive.body).unwrap().contains("nearly full"));
        assert_eq!(is_short, api["takes_changes"] == false, "{api}");
        assert_eq!(api["reserve_bytes"], 512_000_000);
        assert!(api["free_bytes"].is_u64(), "{api}");
        is_short
    };
    assert!(!told().await);
    assert_eq!((said("the disk is nearly full"), said("room on the disk again")), (0, 0));
    world.hub.room().pretend(Some(0));
    assert!(told().await && told().await);
    assert_eq!((said("the disk is nearly full"), said("room on the disk again")), (1, 0));
    world.hub.room().pretend(None);
    assert!(!told().await && !told().await);
    assert_eq!((said("the disk is nearly full"), said("room on the disk again")), (1, 1));
}
