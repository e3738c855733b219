//! What programs say of what they hold, in a form that stays the same over versions.

use serde_json::{Map, Value, json};

use crate::process::{Gateway, Hub};

/// What of a gateway's status must be the same after an upgrade.
const OF_STATUS: [&str; 9] =
    ["gateway", "scopes", "records", "unsent", "streams", "parked", "conflicts", "rules_version", "repairs"];
/// What of a hub's word on each gateway must be.
const OF_FLEET: [&str; 8] = ["name", "device", "origin", "state", "scopes", "unsent", "quarantined", "repairs"];

/// What a running gateway says of itself and of each record.
pub fn of_gateway(gateway: &Gateway) -> Value {
    let status = gateway.status();
    let (mut bodies, mut histories) = (Map::new(), Map::new());
    for record_type in types(&status) {
        let lines: Vec<Value> = gateway.export(&record_type).lines().map(json_of).collect();
        for line in &lines {
            let key = format!("{record_type}/{}", text(line, "id"));
            let history = asked(gateway, &format!("/v1/records/{key}/history"));
            let entries = history.get("history").and_then(Value::as_array).map_or(0, Vec::len);
            histories.insert(key, entries.into());
        }
        bodies.insert(record_type, lines.into());
    }
    json!({
        "status": chosen(&status, &OF_STATUS),
        "bodies": bodies,
        "histories": histories,
        "parked": sorted(&asked(gateway, "/v1/parked"), "parked", |parked| chosen(parked, &["type", "id", "reason"])),
        "conflicts": sorted(&asked(gateway, "/v1/conflicts"), "conflicts", conflict),
        "apps": sorted(&asked(gateway, "/v1/apps"), "apps", |app| chosen(app, &["name", "read", "write"])),
    })
}

/// What a running hub says of its gateways, and of each record of these types.
pub fn of_hub(hub: &Hub, types: &[&str]) -> Value {
    let gateways = json!({ "gateways": json_of(&hub.command(&["gateway", "list", "--json"])) });
    let bodies: Map<String, Value> = types
        .iter()
        .map(|name| ((*name).to_owned(), hub.export(name).lines().map(json_of).collect::<Vec<_>>().into()))
        .collect();
    json!({
        "gateways": sorted(&gateways, "gateways", |gateway| chosen(gateway, &OF_FLEET)),
        "bodies": bodies,
        "conflicts": hub.command(&["conflicts", "list"]).lines().count(),
    })
}

/// The types of which a gateway holds records.
pub fn types(status: &Value) -> Vec<String> {
    let of_types = status.get("records").and_then(Value::as_array).into_iter().flatten();
    of_types.map(|of_type| text(of_type, "type")).collect()
}

fn asked(gateway: &Gateway, path: &str) -> Value {
    let (status, answer) = gateway.ask("GET", path, &[], None);
    assert_eq!(status, 200, "{path}: {answer}");
    json_of(&answer)
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn text(of: &Value, key: &str) -> String {
    of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn chosen(of: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|key| ((*key).to_owned(), of.get(key).cloned().unwrap_or_default())).collect::<Map<_, _>>().into()
}

/// A list, each of whose items is made by `view`, in an order that does not depend on the program.
fn sorted(of: &Value, key: &str, view: impl Fn(&Value) -> Value) -> Vec<Value> {
    let mut items: Vec<Value> = of.get(key).and_then(Value::as_array).into_iter().flatten().map(view).collect();
    items.sort_by_key(Value::to_string);
    items
}

/// A record in conflict, with all values that stand in it.
fn conflict(of: &Value) -> Value {
    let fields = sorted(
        of,
        "fields",
        |field| json!({"field": field.get("field"), "values": sorted(field, "values", |value| chosen(value, &["value"]))}),
    );
    let mut view = chosen(of, &["type", "id", "state"]);
    if let Some(view) = view.as_object_mut() {
        view.insert("fields".to_owned(), fields.into());
    }
    view
}
