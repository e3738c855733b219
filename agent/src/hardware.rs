//! What tells this box from another: for the hub, when two boxes turn up under one identity. Any of it may be missing.

use std::collections::BTreeMap;

use sync_protocol::digest::content_hash;
use sync_protocol::message::Short;

const PLACES: [(&str, &str); 3] = [
    ("board", "/proc/device-tree/serial-number"),
    ("card", "/sys/block/mmcblk0/device/cid"),
    ("machine", "/etc/machine-id"),
];

/// The environment variable that makes a box another one, for tests.
const PRETENDED: &str = "OUTPOST_TEST_BOX";

/// The facts by name.
pub(crate) fn facts() -> BTreeMap<&'static str, String> {
    let read = |(name, path): (&'static str, &str)| {
        let text = std::fs::read_to_string(path).ok()?;
        Some((name, text.trim_matches(|c: char| c.is_whitespace() || c == '\0').chars().take(128).collect()))
    };
    // For tests, which have one machine for many boxes.
    let pretended = std::env::var(PRETENDED).ok().map(|name| ("box", name));
    PLACES.into_iter().filter_map(read).chain(pretended).collect()
}

/// A hash of the facts; zeros if there are none.
pub(crate) fn print() -> Short {
    print_of(&facts())
}

fn print_of(facts: &BTreeMap<&'static str, String>) -> Short {
    let mut short = Short::default();
    if !facts.is_empty() {
        let told: Vec<String> = facts.iter().map(|(name, fact)| format!("{name}={fact}\n")).collect();
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
}
