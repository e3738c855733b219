//! Texts that are commands to somebody else (SQL, HTML, a shell, a path), in every place that takes a text. Where a text may stand it is
//! kept as it is; where only a name may stand it is refused, and the refusal is named here. So none passes because the door was closed
//! to it for another reason.

use std::path::Path;

use outpost_tests::canary;
use outpost_tests::process::{Gateway, Hub, ask, command};
use serde_json::{Value, json};
use sync_protocol::id::Scope;

use crate::pairing::{curl, status};

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
/// Forms that are saved with each text: with a value, a field, and an author.
const FORMS: usize = 3;
/// A password that nobody else has.
const PASSWORD: &str = "mpunga ndi nyemba";

/// A text in the forms that it takes on its way.
struct Text {
    n: usize,
    text: &'static str,
    /// Without what no header and no name can have.
    line: String,
    /// All bytes by their numbers, as a path or a query takes them.
    path: String,
    /// As the name of a field is written where it is a path.
    field: String,
}

impl Text {
    fn new(n: usize, text: &'static str) -> Text {
        let line = text.chars().filter(|c| !c.is_control()).collect();
        Text { n, text, line, path: escaped(text), field: text.replace('.', "\\.") }
    }

    /// Some of them are names of scopes as well.
    fn is_scope(&self) -> bool {
        Scope::new(self.text).is_ok()
    }

    fn is_line(&self) -> bool {
        self.line == self.text
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn as_html(text: &str) -> String {
    let safe = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    safe.replace('"', "&quot;").replace('\'', "&#39;")
}

fn tables(database: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(database).unwrap();
    let mut select =
        db.prepare("SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_schema ORDER BY 1").unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The answer, which has this status and no other.
fn answered(what: &str, wanted: u16, (status, told): (u16, String)) -> Value {
    assert_eq!(status, wanted, "{what}: {told}");
    serde_json::from_str(&told).unwrap_or_default()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The row of a list in which a key has this value.
fn row<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    let found = list.as_array().and_then(|rows| rows.iter().find(|row| row[key] == value));
    found.unwrap_or_else(|| panic!("{key} {value} is not listed: {list}"))
}

/// Rules with a field of this name; under them `both` has conflicts, and `strict` quarantine.
fn rules(version: usize, field: &str) -> String {
    let field = json!(field);
    format!(
        "version = {version}\n[types.strict.fields]\nname = {{ rule = \"lww\", required = true }}\n\
         [types.both]\ndefault = \"keep-both\"\n[types.both.fields]\n{field} = \"keep-both\"\n"
    )
}

/// A gateway that apps can be paired with.
fn gateway_with_a_door(card: &Path, hub: &Hub) -> Gateway {
    std::fs::create_dir_all(card).unwrap();
    std::fs::write(card.join("outpost.toml"), "[network]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    Gateway::enrolled(card, hub, "a", "mw")
}

/// An admin who is logged in.
struct Person {
    api: String,
    cookie: String,
}

impl Person {
    /// Makes the account, sets its password, and logs in as a page of the hub does.
    fn log_in(hub: &Hub) -> Person {
        let added = hub.command(&["admin", "add", "asha", "--role", "admin", "--everything", "--json"]);
        let typed = json!({"name": "asha", "present": parsed(&added)["code"], "new": PASSWORD});
        answered("a password", 204, hub.ask("POST", "/admin/v1/password", Some(&typed)));
        let api = format!("{}/admin/v1", hub.url());
        let typed = json!({"name": "asha", "password": PASSWORD}).to_string();
        let answer =
            ureq::post(&format!("{api}/session")).header("content-type", "application/json").send(typed.as_str());
        let set = answer.unwrap().headers()["set-cookie"].to_str().unwrap().to_owned();
        let cookie = set.split(';').next().unwrap().to_owned();
        canary::note_secret(cookie.split_once('=').unwrap().1);
        Person { api, cookie }
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> (u16, String) {
        let headers = [("cookie", self.cookie.as_str()), ("sec-fetch-site", "same-origin"), ("content-type", kind)];
        ask(method, &format!("{}{path}", self.api), &headers, body)
    }
}

#[test]
fn commands_to_somebody_else_are_texts_in_every_field() {
    let folder = tempfile::tempdir().unwrap();
    // Without TLS, so that the test can enrol by hand, without a key.
    let hub = Hub::start_plain(&folder.path().join("hub"));
    let card = folder.path().join("card");
    let gateway = gateway_with_a_door(&card, &hub);
    let asha = Person::log_in(&hub);
    let files = [card.join("outpost.db"), folder.path().join("hub/hub.db")];
    let before = files.each_ref().map(|file| tables(file));
    let texts: Vec<Text> = TEXTS.iter().enumerate().map(|(n, text)| Text::new(n, text)).collect();

    what_waits_for_people(&gateway, &hub, &texts);
    for text in &texts {
        records_at_the_gateway(&gateway, text);
        requests_at_the_gateway(&gateway, text);
        an_app_at_the_gateway(&gateway, text);
        records_at_the_hub(&hub, text);
        queries_at_the_hub(&hub, text);
        the_fleet_at_the_hub(&hub, text);
        people_at_the_hub(&hub, &asha, text);
        rules_at_the_hub(&asha, text);
        a_box_of_that_version(&hub, text);
    }
    strangers_at_the_hub(&hub, &texts);
    gateway.sync();
    let central = hub.export("form");
    assert_eq!(central.lines().count(), texts.len() * FORMS);
    assert_eq!(gateway.export("form"), central);
    assert_eq!(files.each_ref().map(|file| tables(file)), before);
    pages(&gateway, &hub, &texts);
}

/// Of each text a conflict and a change in quarantine, and what people decide about them: of the conflicts half at the gateway.
fn what_waits_for_people(gateway: &Gateway, hub: &Hub, texts: &[Text]) {
    hub.proxy.set_down(true);
    for Text { n, text, .. } in texts {
        gateway.put(&format!("both/k{n}"), &json!({*text: format!("{text} of the clinic")}));
        gateway.put(&format!("strict/q{n}"), &json!({*text: format!("{text} without a name")}));
    }
    // From now on, and unknown to the gateway.
    hub.publish(&rules(1, "plain"));
    for Text { n, text, .. } in texts {
        let wish = json!({*text: format!("{text} of the centre")});
        let path = format!("/admin/v1/records/both/k{n}?scope=mw");
        answered("the other value", 201, hub.ask("PUT", &path, Some(&wish)));
    }
    hub.proxy.set_down(false);
    gateway.sync();
    let at_hub = answered("conflicts", 200, hub.ask("GET", "/admin/v1/conflicts", None));
    let here = answered("conflicts here", 200, gateway.ask("GET", "/v1/conflicts", &[], None));
    let held = answered("quarantine", 200, hub.ask("GET", "/admin/v1/quarantine", None));
    for text in texts {
        let conflict = row(&at_hub["conflicts"], "id", &format!("k{}", text.n));
        assert_eq!(conflict["fields"][0]["field"], json!(text.field));
        assert_eq!(row(&here["conflicts"], "id", &format!("k{}", text.n))["fields"][0]["field"], json!(text.field));
        settle(gateway, hub, text);
        discard(hub, row(&held["quarantine"], "id", &format!("q{}", text.n)), text);
    }
    gateway.sync();
    for text in texts {
        decided(gateway, hub, text);
    }
}

fn settle(gateway: &Gateway, hub: &Hub, Text { n, text, line, field, .. }: &Text) {
    let wish = json!({
        "type": "both", "id": format!("k{n}"), "field": field, "value": format!("{text} is the value"),
        "why": format!("{text} is why"), "author": format!("{line} decides"),
    });
    match n % 2 {
        0 => answered("settled", 200, hub.ask("POST", "/admin/v1/conflicts/settle", Some(&wish))),
        _ => answered("settled here", 200, gateway.ask("POST", "/v1/conflicts/settle", &[], Some(&wish))),
    };
}

fn discard(hub: &Hub, held: &Value, Text { text, field, .. }: &Text) {
    assert_eq!(held["changes"][field.as_str()]["value"], json!(format!("{text} without a name")));
    let wish = json!({"change": held["change"], "why": format!("{text} is why")});
    answered("dropped", 204, hub.ask("POST", "/admin/v1/quarantine/discard", Some(&wish)));
}

/// What was decided holds at both, and the reason is kept.
fn decided(gateway: &Gateway, hub: &Hub, Text { n, text, line, .. }: &Text) {
    let stands = json!({*text: format!("{text} is the value")});
    let path = format!("/admin/v1/records/both/k{n}");
    assert_eq!(answered("what stands", 200, hub.ask("GET", &path, None)), stands);
    assert_eq!(gateway.get(&format!("both/k{n}")), Some(stands));
    let past = answered("its history", 200, hub.ask("GET", &format!("{path}/history"), None));
    let verdict = row(&past["history"], "settled_because", &format!("{text} is why"));
    assert_eq!(verdict["author"], json!(format!("{line} decides")));
    let past = hub.ask("GET", &format!("/admin/v1/records/strict/q{n}/history"), None);
    assert_eq!(answered("what was dropped", 200, past)["history"][0]["state"], "dropped");
}

fn records_at_the_gateway(gateway: &Gateway, Text { n, text, line, path, .. }: &Text) {
    let put = |what: &str, status: u16, record: &str, headers: &[(&str, &str)], body: &Value| {
        answered(what, status, gateway.ask("PUT", &format!("/v1/records/{record}"), headers, Some(body)))
    };
    let values = json!({"n": n, "text": format!("{text} as a value"), "list": [format!("{text} in a list")]});
    put("a value", 201, &format!("form/v{n}"), &[], &values);
    assert_eq!(gateway.get(&format!("form/v{n}")), Some(values));
    let named = json!({"n": n, *text: "under that name"});
    put("a field", 201, &format!("form/f{n}"), &[], &named);
    assert_eq!(gateway.get(&format!("form/f{n}")), Some(named));

    let (body, who) = (json!({"n": n}), format!("{line} the author"));
    put("an author", 201, &format!("form/a{n}"), &[("outpost-author", who.as_str())], &body);
    let meta = gateway.ask("GET", &format!("/v1/records/form/a{n}?meta=true"), &[], None);
    assert_eq!(answered("its author", 200, meta)["fields"]["n"]["author"], json!(who));
    put("an id", 400, &format!("form/{path}"), &[], &body);
    put("a type", 400, &format!("{path}/x{n}"), &[], &body);

    let listed = |query: String| gateway.ask("GET", &format!("/v1/records/form?{query}"), &[], None);
    let wanted = escaped(&format!("{text} as a value"));
    let found = answered("a filter", 200, listed(format!("text={wanted}")));
    assert_eq!(
        (found["records"].as_array().map(Vec::len), &found["records"][0]["id"]),
        (Some(1), &json!(format!("v{n}")))
    );
    let found = answered("a filter by no field", 200, listed(format!("{path}={path}")));
    assert_eq!(found["records"], json!([]));
    answered("a limit", 400, listed(format!("limit={path}")));
    answered("a place in the list", 400, listed(format!("after={path}")));
}

fn requests_at_the_gateway(gateway: &Gateway, Text { n, text, path, .. }: &Text) {
    let get = |path: String| gateway.ask("GET", &path, &[], None);
    answered("a place in the feed", 400, get(format!("/v1/changes?since={path}")));
    answered("the history of an id", 400, get(format!("/v1/records/form/{path}/history")));
    let post = |path: &str, body: Value| gateway.ask("POST", path, &[], Some(&body));
    let asked = json!({"type": text, "id": format!("v{n}"), "etag": text});
    answered("a receipt of a type", 400, post("/v1/receipts", json!({"records": [asked]})));
    answered("a parked change", 404, post("/v1/parked", json!({"change": text, "discard": true})));
    let verdict =
        |kind: &str, field: &str| json!({"type": kind, "id": format!("k{n}"), "field": field, "value": 1, "why": text});
    answered("a verdict on a type", 400, post("/v1/conflicts/settle", verdict(text, "x")));
    answered("a verdict on no conflict", 409, post("/v1/conflicts/settle", verdict("both", "x")));
    answered("an app", 404, gateway.ask("DELETE", &format!("/v1/apps/{path}"), &[], None));
}

/// An app of that name comes in, as a person types it.
fn an_app_at_the_gateway(gateway: &Gateway, Text { text, line, .. }: &Text) {
    let invited = parsed(&gateway.command(&["pair", line, "--json"]));
    canary::note_secrets(&invited);
    assert_eq!(invited["name"], json!(line));
    let told = |key: &str| invited[key].as_str().unwrap();
    let (url, code) = (format!("https://{}/v1/pair", told("address")), json!({"code": told("code")}).to_string());
    let answer = curl(told("pin"), &[&url, "-H", "content-type: application/json", "-d", &code]);
    assert_eq!(status(&answer), 201, "{answer:?}");
    let apps = answered("the apps", 200, gateway.ask("GET", "/v1/apps", &[], None));
    row(&apps["apps"], "name", line);
    if line != text {
        let told = command("outpost", &["pair", *text, "--data-dir", &gateway.data_dir()]);
        assert_eq!(told.status.code(), Some(4), "{told:?}");
    }
}

fn records_at_the_hub(hub: &Hub, text: &Text) {
    let Text { n, text: said, path, .. } = text;
    let wish = json!({"n": n, "text": format!("{said} of the centre")});
    let put = |what: &str, status: u16, record: String| {
        answered(what, status, hub.ask("PUT", &format!("/admin/v1/records/{record}"), Some(&wish)))
    };
    let get = |record: String| hub.ask("GET", &format!("/admin/v1/records/{record}"), None);
    put("a value", 201, format!("patient/c{n}?scope=mw"));
    assert_eq!(answered("what is kept", 200, get(format!("patient/c{n}"))), wish);

    let author = format!("{said} at the centre");
    let by = format!("patient/d{n}?scope=mw&author={}", escaped(&author));
    put("an author", if text.is_line() { 201 } else { 400 }, by);
    if text.is_line() {
        let meta = answered("its author", 200, get(format!("patient/d{n}?meta=true")));
        assert_eq!(meta["fields"]["text"]["author"], json!(author));
    }
    put("a scope", if text.is_scope() { 201 } else { 400 }, format!("patient/e{n}?scope={path}"));
    put("a type", 400, format!("{path}/c{n}"));
    put("an id", 400, format!("patient/{path}"));
    answered("an id to read", 400, get(format!("patient/{path}")));
    answered("the history of an id", 400, get(format!("patient/{path}/history")));
}

fn queries_at_the_hub(hub: &Hub, Text { n, text, path, .. }: &Text) {
    let get = |path: String| hub.ask("GET", &format!("/admin/v1{path}"), None);
    let filter = escaped(&format!("{text} of the centre"));
    let found = answered("a filter", 200, get(format!("/records/patient?text={filter}&n={n}")));
    row(&found["records"], "id", &format!("c{n}"));
    let found = answered("a filter by no field", 200, get(format!("/records/patient?{path}={path}")));
    assert_eq!(found["records"], json!([]));
    answered("a place in a list", 200, get(format!("/records/patient?after={path}")));
    answered("a limit", 400, get(format!("/records/patient?limit={path}")));
    answered("a type", 400, get(format!("/records/{path}")));
    answered("an export", 400, get(format!("/export/{path}")));
    for list in ["/conflicts", "/quarantine", "/audit", "/records/patient/c0/history"] {
        answered(list, 400, get(format!("{list}?after={path}")));
        answered(list, 400, get(format!("{list}?limit={path}")));
    }
    let post = |path: &str, body: Value| hub.ask("POST", &format!("/admin/v1{path}"), Some(&body));
    for decision in ["/quarantine/discard", "/quarantine/release"] {
        answered(decision, 400, post(decision, json!({"change": text, "why": text})));
    }
    let verdict =
        |kind: &str, field: &str| json!({"type": kind, "id": format!("k{n}"), "field": field, "value": 1, "why": text});
    answered("a verdict on a type", 400, post("/conflicts/settle", verdict(text, "x")));
    answered("a verdict on no conflict", 409, post("/conflicts/settle", verdict("both", "x")));
}

fn the_fleet_at_the_hub(hub: &Hub, text: &Text) {
    let Text { n, text: said, path, .. } = text;
    let ask = |what: &str, status: u16, method: &str, path: &str, body: Option<Value>| {
        answered(what, status, hub.ask(method, &format!("/admin/v1/gateways{path}"), body.as_ref()))
    };
    ask("no gateway", 404, "GET", &format!("/{path}"), None);
    for deed in ["code", "revoke", "allow"] {
        ask(deed, 404, "POST", &format!("/{path}/{deed}"), None);
    }
    ask("scopes of none", 404, "PUT", &format!("/{path}/scopes"), Some(json!({"scopes": ["mw"]})));
    ask("a name", 400, "POST", "", Some(json!({"name": said, "scopes": ["mw"]})));
    // What has a space in it is taken for a person's words, and the refusal names the source.
    let source = said.replace(' ', "");
    ask("a source", 400, "POST", "", Some(json!({"name": format!("g{n}"), "scopes": ["mw"], "source": source})));
    let (made, changed) = if text.is_scope() { (201, 200) } else { (400, 400) };
    ask("a scope", made, "POST", "", Some(json!({"name": format!("s{n}"), "scopes": [said]})));
    ask("a scope more", changed, "PUT", "/a/scopes", Some(json!({"scopes": ["mw", said]})));
    ask("as before", 200, "PUT", "/a/scopes", Some(json!({"scopes": ["mw"]})));
    let told = command("outpost-hub", &["gateway", "show", *said, "--data-dir", &hub.data_dir()]);
    assert_eq!(told.status.code(), Some(4), "{told:?}");
}

fn people_at_the_hub(hub: &Hub, asha: &Person, text: &Text) {
    let Text { n, text: said, path, .. } = text;
    let add = |what: &str, status: u16, account: Value| {
        answered(what, status, hub.ask("POST", "/admin/v1/accounts", Some(&account)))
    };
    add("a name", 400, json!({"name": said, "role": "viewer", "scopes": ["mw"]}));
    add("a role", 400, json!({"name": format!("r{n}"), "role": said, "scopes": ["mw"]}));
    let made = if text.is_scope() { 201 } else { 400 };
    add("a scope", made, json!({"name": format!("p{n}"), "role": "viewer", "scopes": [said]}));
    let delete = |path: String| hub.ask("DELETE", &format!("/admin/v1/accounts/{path}"), None);
    answered("the token of nobody", 400, delete(format!("{path}/tokens/x")));
    answered("no token of somebody", 404, delete(format!("asha/tokens/{path}")));
    let kind = "application/json";
    let label = json!({"label": said, "role": "viewer", "scopes": ["mw"], "password": PASSWORD});
    answered("a label", 400, asha.ask("POST", "/tokens", kind, Some(&label)));
    answered("no label", 404, asha.ask("DELETE", &format!("/tokens/{path}"), kind, None));
    let fine = json!({"label": format!("t{n}"), "role": "viewer", "scopes": ["mw"], "password": PASSWORD});
    answered("a token", 201, asha.ask("POST", "/tokens", kind, Some(&fine)));
}

fn rules_at_the_hub(asha: &Person, Text { n, text, field, .. }: &Text) {
    let put = |document: &str| asha.ask("PUT", "/rules", "application/toml", Some(&json!(document)));
    answered("no rules", 422, put(&format!("{text}\nis no document")));
    let document = rules(n + 2, field);
    answered("rules with a field", 200, put(&document));
    let (status, kept) = asha.ask("GET", "/rules", "application/json", None);
    assert_eq!((status, kept), (200, document));
}

/// What a gateway says of itself with a code that is good is kept and shown, but for control characters of its version.
fn a_box_of_that_version(hub: &Hub, Text { n, text, line, .. }: &Text) {
    let name = format!("box{n}");
    let hardware = json!({"board": text, *text: text});
    let code = hub.code(&name, "mw");
    let said = json!({"code": code, "version": text, "hardware": hardware, "public_key": text, "proof": text});
    answered("a code", 200, hub.ask("POST", "/enroll/v1", Some(&said)));

    let path = format!("/admin/v1/gateways/{name}");
    let shown = answered("the gateway", 200, hub.ask("GET", &path, None));
    let fleet = answered("the fleet", 200, hub.ask("GET", "/admin/v1/gateways", None));
    let printed = parsed(&hub.command(&["gateway", "show", &name, "--json"]));
    for view in [&shown, row(&fleet, "name", &name), &printed] {
        assert_eq!(
            (&view["version"], &view["hardware"], &view["state"]),
            (&json!(line), &hardware, &json!("enrolled"))
        );
    }
    let printed = hub.command(&["gateway", "show", &name]);
    assert!(printed.lines().any(|told| told == format!("version: {line}")), "{printed}");
    assert!(hub.command(&["gateway", "list"]).contains(&name));
}

/// The last, because wrong tries shut the door for a while, also to who is right: so many of them are looked at in a minute.
fn strangers_at_the_hub(hub: &Hub, texts: &[Text]) {
    for Text { text, .. } in texts.iter().take(5) {
        let typed = json!({"name": text, "password": format!("{text} as a password")});
        answered("a login", 403, hub.ask("POST", "/admin/v1/session", Some(&typed)));
        let said = json!({"code": format!("{text} as a code"), "version": text});
        answered("no code", 403, hub.ask("POST", "/enroll/v1", Some(&said)));
    }
}

fn pages(gateway: &Gateway, hub: &Hub, texts: &[Text]) {
    for (what, (status, page)) in [
        ("the gateway's page, with the apps", gateway.ask("GET", "/", &[("accept", "text/html")], None)),
        ("the hub's page, with the versions", hub.ask("GET", "/", None)),
    ] {
        assert_eq!(status, 200, "{what}: {page}");
        assert!(page.contains("<html"), "{what}: {page}");
        for markup in MARKUP {
            assert!(!page.contains(markup), "{what} has {markup}");
        }
        for Text { line, .. } in texts {
            assert!(page.contains(&as_html(line)), "{what} does not show {line}: {page}");
        }
    }
}
