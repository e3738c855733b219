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

/// The ways out that there were when it was looked last.
pub(crate) struct Routes(BTreeSet<String>);

impl Routes {
    pub(crate) fn new(now: BTreeSet<String>) -> Routes {
        Routes(now)
    }

    /// Whether a way out is there that was not at the last look. One that went and came back in between is not seen.
    pub(crate) fn has_new(&mut self, now: BTreeSet<String>) -> bool {
        let is_new = !now.is_subset(&self.0);
        self.0 = now;
        is_new
    }
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
        let mut routes = Routes::new(set(&[]));
        assert!(routes.has_new(set(&["wwan0 1"])));
        assert!(!routes.has_new(set(&["wwan0 1"])));
        assert!(routes.has_new(set(&["wwan0 1", "eth0 2"])));
        assert!(!routes.has_new(set(&[])));
        assert!(routes.has_new(set(&["wwan0 1"])), "a modem that came back");
    }
}
