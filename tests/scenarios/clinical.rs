//! Clinical records into two gateways, half each, then edits of the same ones: hub and both gateways end up equal.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use outpost_tests::generator::Generator;
use outpost_tests::process::{Gateway, Hub};
use serde_json::{Value, json};

/// Records by type, each a body with an `id`.
type Records = BTreeMap<String, Vec<Value>>;

/// A folder of FHIR NDJSON files beside the repository, for those who have one: real-shaped input that is not ours to ship.
fn real_records() -> Option<Records> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/fhir");
    let mut records = Records::new();
    for file in fs::read_dir(folder).ok()?.flatten() {
        let path = file.path();
        if path.extension().is_none_or(|e| e != "ndjson") {
            continue;
        }
        let record_type = path.file_stem()?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).ok()?;
        let parsed = text.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
        records.insert(record_type, parsed);
    }
    (!records.is_empty()).then_some(records)
}

fn generated_records() -> Records {
    let mut records = Records::new();
    for made in Generator::new(11).clinic_day(150) {
        let mut body = Value::Object(made.body);
        body["id"] = json!(made.id);
        records.entry(made.record_type.to_owned()).or_default().push(body);
    }
    records
}

fn write_lines(folder: &Path, name: &str, records: &[Value]) -> PathBuf {
    let path = folder.join(name);
    let text: String = records.iter().map(|r| format!("{r}\n")).collect();
    fs::write(&path, text).unwrap();
    path
}

/// Imports disjoint halves, then edits of some of everything at both, and checks that all three hold the same.
fn halves_then_overlapping_edits(records: &Records, rules: &str) {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    hub.publish(rules);
    let a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    let b = Gateway::enrolled(&folder.path().join("b"), &hub, "b", "mw");
    let import = |gateway: &Gateway, name: &str, record_type: &str, records: &[Value]| {
        let file = write_lines(folder.path(), name, records);
        let told = gateway.command(&["import", record_type, &file.to_string_lossy()]);
        assert!(told.contains(" 0 refused"), "{told}");
    };
    for (record_type, all) in records {
        let (left, right) = all.split_at(all.len() / 2);
        import(&a, "a.ndjson", record_type, left);
        import(&b, "b.ndjson", record_type, right);
    }
    sync_until_settled(&[&a, &b]);
    assert_all_equal(&hub, &[&a, &b], records);

    hub.proxy.set_down(true);
    for (record_type, all) in records {
        let edited = |suffix: &str, step: usize| -> Vec<Value> {
            let mut some: Vec<Value> = all.iter().step_by(step).take(100).cloned().collect();
            for record in &mut some {
                record[format!("note_{suffix}")] = json!("seen");
                record["reviewed_by"] = json!(suffix);
            }
            some
        };
        import(&a, "a.ndjson", record_type, &edited("a", 2));
        import(&b, "b.ndjson", record_type, &edited("b", 3));
    }
    hub.proxy.set_down(false);
    sync_until_settled(&[&a, &b]);
    assert_all_equal(&hub, &[&a, &b], records);
    for gateway in [&a, &b] {
        assert_eq!(gateway.count("parked"), 0);
        assert_eq!(gateway.count("repairs"), 0, "the digests had to be repaired");
        assert!(gateway.count("conflicts") > 0, "both changed one field of some records");
    }
}

fn sync_until_settled(gateways: &[&Gateway]) {
    for _ in 0..2 {
        for gateway in gateways {
            let report = gateway.sync();
            assert_eq!(report["agrees"], json!(true), "{report}");
        }
    }
}

fn assert_all_equal(hub: &Hub, gateways: &[&Gateway], records: &Records) {
    for (record_type, all) in records {
        let central = hub.export(record_type);
        assert_eq!(central.lines().count(), all.len(), "{record_type} at the hub");
        for gateway in gateways {
            assert_eq!(gateway.export(record_type), central, "{record_type} of a gateway and of the hub");
        }
    }
}

#[test]
fn generated_records_end_up_equal_everywhere() {
    halves_then_overlapping_edits(&generated_records(), "version = 1\n");
}

#[test]
fn real_shaped_fhir_records_end_up_equal_everywhere() {
    match real_records() {
        Some(records) => halves_then_overlapping_edits(&records, include_str!("../../docs/rules-fhir.toml")),
        None => eprintln!("skipped: no folder of FHIR records beside the repository"),
    }
}
