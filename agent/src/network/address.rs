//! The addresses of this box, those first by which a clinic's tablets most likely reach it.

use std::net::IpAddr;

/// What is looked at first: radios, on which a box is often the access point itself, then cables. A modem comes last.
const LIKELY: [&str; 6] = ["wl", "ap", "uap", "br", "en", "eth"];

/// Addresses by which other machines may reach a listener on this one.
pub(super) fn of_this_box(bound: IpAddr) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let Ok(interfaces) = if_addrs::get_if_addrs() else { return Vec::new() };
    let interfaces = interfaces.into_iter().filter(|interface| {
        let is_listened_on = bound.is_ipv6() || interface.ip().is_ipv4();
        is_listened_on && !interface.is_loopback() && !interface.is_link_local()
    });
    in_order(interfaces.map(|interface| (interface.name.clone(), interface.ip())).collect())
}

/// Whether an interface has this address; if nobody can tell, it may.
pub(super) fn is_here(address: IpAddr) -> bool {
    let has = |interfaces: Vec<if_addrs::Interface>| interfaces.iter().any(|interface| interface.ip() == address);
    address.is_unspecified() || if_addrs::get_if_addrs().map_or(true, has)
}

fn in_order(mut found: Vec<(String, IpAddr)>) -> Vec<IpAddr> {
    let rank = |name: &str| LIKELY.iter().position(|begin| name.starts_with(begin)).unwrap_or(LIKELY.len());
    let is_private = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    found.sort_by_key(|(name, ip)| (ip.is_ipv6(), !is_private(ip), rank(name), name.clone(), *ip));
    found.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clinics_own_radio_comes_before_cable_and_modem() {
        let found = [("ppp0", "10.64.3.2"), ("eth0", "192.168.1.5"), ("wlan0", "fd00::1"), ("wlan0", "192.168.4.1")];
        let found = found.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
        let order: Vec<String> = in_order(found.into()).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["192.168.4.1", "192.168.1.5", "10.64.3.2", "fd00::1"]);
    }

    #[test]
    fn nobody_is_sent_to_an_address_that_is_not_listened_on() {
        let all = IpAddr::from([0, 0, 0, 0]);
        assert!(of_this_box(all).iter().all(IpAddr::is_ipv4));
        let one = IpAddr::from([192, 168, 4, 1]);
        assert_eq!(of_this_box(one), [one]);
    }
}
