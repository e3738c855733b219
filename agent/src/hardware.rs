//! What tells this box from another: for the hub, when two boxes turn up under one identity. Any of it may be missing.

use std::collections::BTreeMap;
use std::path::Path;

use sync_protocol::digest::content_hash;
use sync_protocol::message::Short;

const PLACES: [(&str, &str); 3] = [
    ("board", "/proc/device-tree/serial-number"),
    ("card", "/sys/block/mmcblk0/device/cid"),
    ("machine", "/etc/machine-id"),
];

/// Where the system lists its network interfaces.
const INTERFACES: &str = "/sys/class/net";

/// The environment variable that makes a box another one, for tests.
const PRETENDED: &str = "OUTPOST_TEST_BOX";

/// The facts by name.
pub(crate) fn facts() -> BTreeMap<&'static str, String> {
    let read = |(name, path): (&'static str, &str)| {
        let text = std::fs::read_to_string(path).ok()?;
        let fact: String = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').chars().take(128).collect();
        Some((name, fact)).filter(|(_, fact)| tells_something(fact))
    };
    // For tests, which have one machine for many boxes.
    let pretended = std::env::var(PRETENDED).ok().map(|name| ("box", name));
    let mut facts: BTreeMap<_, _> = PLACES.into_iter().filter_map(read).chain(pretended).collect();
    if !facts.contains_key("board") {
        // A card that is copied takes its own facts along, so one is needed that it does not.
        facts.extend(mac(Path::new(INTERFACES)).map(|mac| ("mac", mac)));
    }
    facts
}

/// The address of the first network interface that is hardware, by name.
fn mac(interfaces: &Path) -> Option<String> {
    let mut folders: Vec<_> =
        std::fs::read_dir(interfaces).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let hardware = folders.iter().filter(|folder| folder.join("device").exists());
    let mut addresses = hardware.filter_map(|folder| std::fs::read_to_string(folder.join("address")).ok());
    addresses.find_map(|text| Some(text.trim().to_owned()).filter(|mac| tells_something(mac)))
}

/// Whether it is a number that somebody gave: makers leave a field empty, or fill it with zeros or ones, and then all their boxes have the same.
fn tells_something(fact: &str) -> bool {
    fact.bytes().any(|byte| !b"0fF:-. ".contains(&byte))
}

/// A hash of the facts; zeros if there are none.
pub(crate) fn print() -> Short {
    print_of(&facts())
}

/// The same for people, so that the box an alarm names can be found; `None` if nothing tells it from others.
pub(crate) fn told() -> Option<String> {
    let print = print();
    (print != Short::default()).then(|| print.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Of what stays with the box. What goes with the card counts only where nothing else is known: a copy on another card of the same
/// box is not a second box.
fn print_of(facts: &BTreeMap<&'static str, String>) -> Short {
    let of_box = |name: &str| matches!(name, "board" | "mac" | "box");
    let is_known = facts.keys().any(|name| of_box(name));
    let told: Vec<String> = facts
        .iter()
        .filter(|(name, _)| !is_known || of_box(name))
        .map(|(name, fact)| format!("{name}={fact}\n"))
        .collect();
    let mut short = Short::default();
    if !told.is_empty() {
        for (to, from) in short.iter_mut().zip(content_hash(told.concat().as_bytes())) {
            *to = from;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_board_is_another_print_and_no_facts_are_none() {
        let of = |board: &str| print_of(&BTreeMap::from([("board", board.to_owned())]));
        assert_eq!(of("1"), of("1"));
        assert_ne!(of("1"), of("2"));
        assert_eq!(print_of(&BTreeMap::new()), Short::default());
    }

    #[test]
    fn another_card_in_the_same_board_is_the_same_box_and_without_a_board_it_is_all_that_is_known() {
        let of = |facts: &[(&'static str, &str)]| {
            print_of(&facts.iter().map(|(name, fact)| (*name, (*fact).to_owned())).collect())
        };
        assert_eq!(of(&[("board", "1"), ("card", "a"), ("machine", "x")]), of(&[("board", "1"), ("card", "b")]));
        assert_eq!(of(&[("mac", "1"), ("card", "a")]), of(&[("mac", "1"), ("card", "b")]));
        assert_ne!(of(&[("board", "1"), ("card", "a")]), of(&[("board", "2"), ("card", "a")]));
        assert_ne!(of(&[("card", "a")]), of(&[("card", "b")]));
    }

    #[test]
    fn what_a_maker_left_empty_tells_no_box_from_another() {
        for (fact, tells) in
            [("", false), ("00000000", false), ("ff:ff:ff:ff:ff:ff", false), ("0000000f00000001", true)]
        {
            assert_eq!(tells_something(fact), tells, "{fact}");
        }
    }

    #[test]
    fn the_first_interface_that_is_hardware_tells_boxes_apart() {
        let dir = tempfile::tempdir().unwrap();
        let add = |name: &str, address: &str, is_hardware: bool| {
            let folder = dir.path().join(name);
            std::fs::create_dir_all(folder.join(if is_hardware { "device" } else { "statistics" })).unwrap();
            std::fs::write(folder.join("address"), format!("{address}\n")).unwrap();
        };
        assert_eq!(mac(dir.path()), None);
        add("lo", "00:00:00:00:00:00", false);
        add("docker0", "02:42:11:22:33:44", false);
        add("can0", "00:00:00:00:00:00", true);
        assert_eq!(mac(dir.path()), None);
        add("wlan0", "b8:27:eb:00:00:02", true);
        add("eth0", "b8:27:eb:00:00:01", true);
        assert_eq!(mac(dir.path()).as_deref(), Some("b8:27:eb:00:00:01"));
        assert_eq!(mac(&dir.path().join("none")), None);
    }
}
