//! Texts that are commands to somebody else (SQL, HTML, a shell, a path), in every place that takes a text: each is kept as it is,
//! or refused.

use std::path::Path;

use outpost_tests::process::{Gateway, Hub, command};
use serde_json::{Value, json};

const TEXTS: [&str; 9] = [
    "'; DROP TABLE records; --",
    "\" OR \"\"=\"",
    "1); DELETE FROM ops; --",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</title><svg onload=alert(1)>",
    "$(reboot)`reboot`",
    "../../../../etc/passwd",
    "{{7*7}}%s%n\r\nset-cookie: a=b",
];
/// What no page may have in it as it is.
const MARKUP: [&str; 3] = ["<script>alert", "<img src=x", "<svg onload"];

/// All bytes by their numbers, as a path or a query takes them.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn tables(database: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(database).unwrap();
    let mut select =
        db.prepare("SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_schema ORDER BY 1").unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn is_answered(what: &str, (status, told): (u16, String)) -> bool {
    assert!((200..500).contains(&status), "{what}: {status} {told}");
    status < 300
}

#[test]
fn commands_to_somebody_else_are_texts_in_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("card");
    let gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    let files = [card.join("outpost.db"), folder.path().join("hub/hub.db")];
    let before = files.each_ref().map(|file| tables(file));
    let mut forms = 0;
    for (n, text) in TEXTS.iter().enumerate() {
        let values = json!({"n": n, "text": format!("{text} as a value"), "list": [format!("{text} in a list")]});
        gateway.put(&format!("form/v{n}"), &values);
        assert_eq!(gateway.get(&format!("form/v{n}")), Some(values));
        forms += 1;
        at_the_gateway(&gateway, n, text, &mut forms);
        at_the_hub(&hub, n, text);
    }
    gateway.sync();
    let central = hub.export("form");
    assert_eq!(central.lines().count(), forms);
    assert_eq!(gateway.export("form"), central);
    assert_eq!(files.each_ref().map(|file| tables(file)), before);
    for (what, (status, page)) in [
        ("the gateway's page", gateway.ask("GET", "/", &[("accept", "text/html")], None)),
        ("the hub's page", hub.ask("GET", "/", None)),
    ] {
        assert_eq!(status, 200, "{what}: {page}");
        assert!(page.contains("<html"), "{what}: {page}");
        for markup in MARKUP {
            assert!(!page.contains(markup), "{what} has {markup}");
        }
    }
}

fn at_the_gateway(gateway: &Gateway, n: usize, text: &str, forms: &mut usize) {
    let path = escaped(text);
    let named = json!({"n": n, text: "under that name"});
    if is_answered("a field", gateway.ask("PUT", &format!("/v1/records/form/f{n}"), &[], Some(&named))) {
        assert_eq!(gateway.get(&format!("form/f{n}")), Some(named));
        *forms += 1;
    }
    let body = json!({"n": n});
    if is_answered("an id", gateway.ask("PUT", &format!("/v1/records/form/{path}"), &[], Some(&body))) {
        let (status, told) = gateway.ask("GET", &format!("/v1/records/form/{path}"), &[], None);
        assert_eq!(
            (status, serde_json::from_str::<Value>(&told).unwrap()["body"]["n"].clone()),
            (200, json!(n)),
            "{told}"
        );
        *forms += 1;
    }
    is_answered("a type", gateway.ask("PUT", &format!("/v1/records/{path}/x{n}"), &[], Some(&body)));
    let line: String = text.chars().filter(|c| !c.is_control()).collect();
    let who = format!("{line} the author");
    let author = [("outpost-author", who.as_str())];
    if is_answered("an author", gateway.ask("PUT", &format!("/v1/records/form/a{n}"), &author, Some(&body))) {
        *forms += 1;
    }
    for query in ["limit", "after", "type", "filter", "n", "at"] {
        is_answered(query, gateway.ask("GET", &format!("/v1/records/form?{query}={path}"), &[], None));
    }
    for field in ["type", "id", "field", "note", "choose", "hub_url"] {
        let told = gateway.ask("POST", "/v1/settle", &[], Some(&json!({field: line})));
        is_answered(field, told);
    }
    // As a person types them.
    let told = command("outpost", &["pair", &line, "--data-dir", &gateway.data_dir()]);
    assert!(matches!(told.status.code(), Some(0 | 2 | 4)), "{told:?}");
    let (status, told) = gateway.ask("GET", "/v1/apps", &[], None);
    assert_eq!(status, 200, "{told}");
}

fn at_the_hub(hub: &Hub, n: usize, text: &str) {
    let path = escaped(text);
    let admin = |method: &str, path: String, body: Option<&Value>| {
        is_answered(&format!("{method} {path}"), hub.ask(method, &format!("/admin/v1{path}"), body))
    };
    let why = format!("{text} is why");
    let wish = json!({"n": n, "text": format!("{text} of the centre")});
    assert!(admin("PUT", format!("/records/patient/c{n}?scope=mw"), Some(&wish)), "a value is taken");
    let (status, told) = hub.ask("GET", &format!("/admin/v1/records/patient/c{n}"), None);
    let kept: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &kept), (200, &wish), "{told}");
    let author = escaped(&format!("{text} at the centre"));
    admin("PUT", format!("/records/patient/d{n}?scope=mw&author={author}"), Some(&wish));
    admin("PUT", format!("/records/patient/e{n}?scope={path}"), Some(&wish));
    admin("PUT", format!("/records/{path}/c{n}"), Some(&wish));
    admin("GET", format!("/records/patient/{path}"), None);
    admin("GET", format!("/records/{path}?after={path}&limit={path}&scope={path}"), None);
    admin("GET", format!("/conflicts?type={path}&scope={path}&after={path}"), None);
    admin("GET", format!("/quarantine?type={path}&after={path}"), None);
    admin("GET", format!("/audit?after={path}&who={path}&what={path}"), None);
    admin("GET", format!("/gateways/{path}"), None);
    admin("POST", format!("/gateways/{path}/code"), None);
    admin("POST", "/gateways".to_owned(), Some(&json!({"name": text, "scopes": ["mw"]})));
    admin("POST", "/gateways".to_owned(), Some(&json!({"name": format!("g{n}"), "scopes": [text], "source": text})));
    admin("PUT", "/gateways/a/scopes".to_owned(), Some(&json!({"scopes": [format!("mw/{text}")]})));
    admin("PUT", "/gateways/a/scopes".to_owned(), Some(&json!({"scopes": ["mw"]})));
    admin("POST", "/accounts".to_owned(), Some(&json!({"name": text, "role": "viewer", "scopes": ["mw"]})));
    admin("POST", "/accounts".to_owned(), Some(&json!({"name": format!("p{n}"), "role": text, "scopes": [text]})));
    admin("POST", "/tokens".to_owned(), Some(&json!({"label": text, "role": "viewer", "scopes": ["mw"]})));
    admin("DELETE", format!("/accounts/{path}/tokens/{path}"), None);
    admin("POST", "/conflicts/settle".to_owned(), Some(&json!({"type": text, "id": text, "field": text, "note": why})));
    admin("POST", "/quarantine/discard".to_owned(), Some(&json!({"dot": text, "why": why})));
    admin("PUT", "/rules".to_owned(), Some(&Value::from(why.as_str())));
    // What a gateway says of itself before it is known.
    let said = json!({"code": format!("{text} as a code"), "version": text, "hardware": {"board": text, text: text}, "public_key": text, "proof": text});
    is_answered("/enroll/v1", hub.ask("POST", "/enroll/v1", Some(&said)));
    let told = command("outpost-hub", &["gateway", "show", text, "--data-dir", &hub.data_dir()]);
    assert!(!told.status.success());
}
