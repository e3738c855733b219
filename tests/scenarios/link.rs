//! What the local link hears of a gateway that is open to it: an app that looks for it finds it, and hears when it goes.
//!
//! The gateway and who looks for it are alone on a link: a network of their own, which takes root. Without it the test says that it was
//! skipped.

use std::process::Command;
use std::time::{Duration, Instant};

use mdns_sd::{Receiver, ResolvedService, ServiceDaemon, ServiceEvent};
use outpost_tests::process::{Gateway, ask};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::pairing::{curl, status};

const SERVICE: &str = "_outpost._tcp.local.";
const ADDRESS: &str = "10.77.0.1";
/// Makes a link that nobody else is on, and goes on with what follows. A bridge without ports carries what is said to the machine itself.
const LINK: &str = "ip link set lo up && ip link add clinic0 type bridge && ip addr add 10.77.0.1/24 dev clinic0 && \
                    ip link set clinic0 up && exec \"$0\" \"$@\"";
const ON_LINK: &str = "OUTPOST_TEST_ON_LINK";
/// Much less than the two minutes after which a gateway that said nothing is forgotten.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for an event that means something.
fn heard<T>(link: &Receiver<ServiceEvent>, what: &str, is_it: impl Fn(ServiceEvent) -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        let event = link.recv_deadline(until).unwrap_or_else(|_| panic!("nobody said {what}"));
        if let Some(found) = is_it(event) {
            return found;
        }
    }
}

fn on_the_link(found: &ResolvedService) -> bool {
    let addresses: Vec<_> = found.addresses.iter().map(|address| address.to_ip_addr()).collect();
    assert!(addresses.iter().all(|address| !address.is_loopback()), "{addresses:?}");
    addresses.iter().any(|address| address.to_string() == ADDRESS)
}

fn on_link(program: &str, args: &[&str]) -> std::io::Result<std::process::Output> {
    Command::new("unshare").args(["--net", "sh", "-c", LINK, program]).args(args).env(ON_LINK, "1").output()
}

#[test]
fn an_app_finds_the_gateway_on_the_link_by_its_pin_and_hears_it_go() {
    if std::env::var_os(ON_LINK).is_some() {
        return look_for_it();
    }
    if !on_link("true", &[]).is_ok_and(|made| made.status.success()) {
        println!("skipped: making a network of its own takes root, and unshare and ip");
        return;
    }
    let tests = std::env::current_exe().unwrap();
    let name = "link::an_app_finds_the_gateway_on_the_link_by_its_pin_and_hears_it_go";
    let told = on_link(&tests.to_string_lossy(), &["--exact", name, "--nocapture"]).unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&told.stderr));
}

fn look_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let card = folder.path().join("a");
    std::fs::create_dir(&card).unwrap();
    std::fs::write(card.join("outpost.toml"), "[network]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    let browser = ServiceDaemon::new().unwrap();
    let link = browser.browse(SERVICE).unwrap();
    // Again and again, because a program that ends in time for its goodbye once may not do so always.
    for _ in 0..3 {
        let gateway = Gateway::start(&card);
        let apps: Value =
            serde_json::from_str(&ask("GET", &format!("{}/v1/apps", gateway.url()), &[], None).1).unwrap();
        let own = |key: &str| apps["network"][key].as_str().unwrap().to_owned();
        let port = own("address").rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let found = heard(&link, "where the gateway is", |event| match event {
            // Its address by IPv6 may come before.
            ServiceEvent::ServiceResolved(found) if found.port == port && on_the_link(&found) => Some(found),
            _ => None,
        });
        let name = own("host");
        assert_eq!(found.host, format!("{name}."));
        assert_eq!(found.fullname, format!("{}.{SERVICE}", name.trim_end_matches(".local")));
        let said = |key: &str| found.txt_properties.get_property_val_str(key).map(str::to_owned);
        assert_eq!((said("pin"), said("v")), (Some(own("pin")), Some("1".to_owned())));
        // It is that of whoever answers there, and an app gets as far as its token.
        let there = format!("https://{ADDRESS}:{port}/v1/records/patient/p1");
        assert_eq!(status(&curl(&own("pin"), &[&there])), 401);
        assert_eq!(curl(&"A".repeat(43), &[&there]).status.code(), Some(90));
        let id = Pid::from_raw(i32::try_from(gateway.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
        heard(&link, "that the gateway goes", |event| match event {
            ServiceEvent::ServiceRemoved(_, gone) if gone == found.fullname => Some(()),
            _ => None,
        });
    }
    browser.shutdown().unwrap();
}
