//! Whether the machine has got a way out that it had not: a look at the kernel's routes, nothing sent.

use std::collections::BTreeSet;
use std::fs;

/// The routes to anywhere beyond the own networks, as the kernel lists them.
pub(crate) fn routes() -> BTreeSet<String> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let v4 = v4.lines().skip(1).filter_map(default_v4);
    let v6 = v6.lines().filter_map(default_v6);
    v4.chain(v6).collect()
}

/// Interface and router of a default route.
fn default_v4(line: &str) -> Option<String> {
    let mut columns = line.split_whitespace();
    let (interface, destination, router) = (columns.next()?, columns.next()?, columns.next()?);
    (destination == "00000000").then(|| format!("{interface} {router}"))
}

fn default_v6(line: &str) -> Option<String> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, _, _, router, _, _, _, _, interface] = columns.as_slice() else { return None };
    let is_default = *length == "00" && destination.bytes().all(|b| b == b'0') && *interface != "lo";
    is_default.then(|| format!("{interface} {router}"))
}

/// Whether a route is there that was not.
pub(crate) fn has_new(before: &BTreeSet<String>, now: &BTreeSet<String>) -> bool {
    !now.is_subset(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        let line = "wwan0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0";
        assert_eq!(default_v4(line).as_deref(), Some("wwan0 0102A8C0"));
        assert_eq!(default_v4("eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0"), None);
    }

    #[test]
    fn only_a_route_that_was_not_there_wakes() {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert!(has_new(&set(&[]), &set(&["wwan0 1"])));
        assert!(has_new(&set(&["wwan0 1"]), &set(&["eth0 2"])));
        assert!(!has_new(&set(&["wwan0 1"]), &set(&[])));
    }
}
