//! The link is cut, is a sign-in page, is idle.

use outpost_tests::generator::Generator;
use outpost_tests::process::{Gateway, Hub};
use serde_json::json;

/// Records of the pull that is cut.
const RECORDS: usize = 10_000;

fn filled(folder: &std::path::Path, records: usize) -> (Hub, Gateway) {
    let hub = Hub::start_plain(&folder.join("hub"));
    let a = Gateway::enrolled(&folder.join("a"), &hub, "a", "mw");
    let mut generator = Generator::new(5);
    let file = folder.join("coded.ndjson");
    let lines = (0..records).map(|_| {
        let made = generator.reference_coded();
        let mut body = serde_json::Value::Object(made.body);
        body["id"] = json!(made.id);
        format!("{body}\n")
    });
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    a.command(&["import", "coded", &file.to_string_lossy()]);
    a.sync();
    (hub, a)
}

#[test]
fn a_cut_in_a_pull_of_ten_thousand_records_costs_at_most_one_frame() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, _a) = filled(folder.path(), RECORDS);
    let whole = Gateway::enrolled(&folder.path().join("whole"), &hub, "whole", "mw");
    let before = hub.proxy.down_bytes();
    whole.sync();
    let uncut = hub.proxy.down_bytes() - before;
    assert_eq!(whole.status()["records"], json!([{"type": "coded", "count": RECORDS}]));

    let cut = Gateway::enrolled(&folder.path().join("cut"), &hub, "cut", "mw");
    let before = hub.proxy.down_bytes();
    let mut cuts = 0;
    for part in 1..=5 {
        hub.proxy.cut_after(uncut * part / 20);
        let (status, _) = cut.ask("POST", "/v1/sync", &[], None);
        cuts += u64::from(status == 502);
        hub.proxy.set_down(false);
    }
    hub.proxy.cut_after(0);
    cut.sync();
    let with_cuts = hub.proxy.down_bytes() - before;
    assert!(cuts >= 3, "the link was cut {cuts} times");
    assert_eq!(cut.status()["records"], json!([{"type": "coded", "count": RECORDS}]));
    // A frame is at most 4 KB; a connection made anew says its headers and a head again, and what the proxy had read.
    let lost = with_cuts.saturating_sub(uncut) / cuts;
    println!("pull of {RECORDS}: {uncut} B; with {cuts} cuts {with_cuts} B: {lost} B a cut");
    assert!(lost <= 4 * 1024 + 1024, "{lost} bytes were sent again after each cut");
}

#[test]
fn an_idle_sync_is_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, a) = filled(folder.path(), 10);
    a.sync();
    let before = hub.proxy.requests();
    let report = a.sync();
    assert_eq!(hub.proxy.requests() - before, 1);
    let bytes = report["bytes_up"].as_u64().unwrap() + report["bytes_down"].as_u64().unwrap();
    println!("idle sync: {} B up, {} B down", report["bytes_up"], report["bytes_down"]);
    assert!(bytes <= 110, "{bytes} bytes of bodies");
}

#[test]
fn a_sign_in_page_is_no_link() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let (hub, a) = filled(folder.path(), 10);
    let portal = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    hub.proxy.lead_to(&portal.local_addr().unwrap().to_string());
    let page = std::thread::spawn(move || {
        let (mut stream, _) = portal.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let body = "<html>Please sign in</html>";
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    });
    a.put("patient/p1", &json!({"name": "Asha"}));
    let (status, told) = a.ask("POST", "/v1/sync", &[], None);
    page.join().unwrap();
    assert_eq!(status, 502);
    assert!(told.contains("\"offline\"") && told.contains("sign-in page"), "{told}");
    assert_eq!(a.count("unsent"), 1);
}
