//! What is told of a panic. The hook is the whole process's, so these tests run themselves once more.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "tests panic, and these on purpose")]

use std::process::{Command, Stdio};

use sync_protocol::error::without_data;

const VARIABLE: &str = "OUTPOST_PANICS_WITH";

/// The name of a patient, with a letter of two bytes where it is cut.
fn name() -> String {
    ["Chisomo", "Ph", "\u{00ed}", "ri"].concat()
}

#[test]
fn panics_when_it_is_asked_to() {
    let Ok(how) = std::env::var(VARIABLE) else { return };
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", without_data(panic))));
    match how.as_str() {
        "slice" => drop(name()[..10].to_owned()),
        "unwrap" => name().parse::<std::net::IpAddr>().map(drop).map_err(|_| name()).unwrap(),
        "format" => panic!("cannot go on with {}", name()),
        _ => panic!("only words of the program"),
    }
}

fn told(how: &str) -> String {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "panics_when_it_is_asked_to", "--nocapture"]).env(VARIABLE, how).stdout(Stdio::null());
    let output = again.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_panic_tells_its_place_and_nothing_of_what_it_was_working_on() {
    for how in ["slice", "unwrap", "format"] {
        let told = told(how);
        assert!(told.contains("broken at ") && told.contains(".rs:"), "{told}");
        assert!(!told.contains("Chisomo"), "{told}");
    }
    assert!(told("words").contains(": only words of the program"));
}
