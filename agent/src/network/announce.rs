//! Making the gateway known on the local link (mDNS, RFC 6762, as a DNS-SD service, RFC 6763), so that an app finds it again
//! when its address has changed. Nobody has to believe it: an app looks for its pin.

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

use super::Entrance;

const SERVICE: &str = "_outpost._tcp.local.";
/// How often the addresses of the box are looked at, seconds: each look wakes it, and an address seldom changes.
const ADDRESSES_EVERY_SECONDS: u32 = 60;
/// The version of what stands in the text record.
const VERSION: &str = "1";

/// The gateway is known for as long as this lives.
pub struct Announcement(ServiceDaemon);

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announcement")
    }
}

impl Announcement {
    /// Makes an entrance known. `None` if that cannot be done: apps use the address that they have, then.
    pub fn make(entrance: &Entrance) -> Option<Announcement> {
        let made = announce(entrance);
        let warn = |error: &mdns_sd::Error| tracing::warn!("the gateway cannot make itself known by mDNS: {error}");
        made.inspect_err(warn).ok()
    }
}

fn announce(entrance: &Entrance) -> mdns_sd::Result<Announcement> {
    let daemon = ServiceDaemon::new()?;
    let announcement = Announcement(daemon.clone());
    daemon.set_ip_check_interval(ADDRESSES_EVERY_SECONDS)?;
    // Whoever looks from this very box would be told an address that is no other's.
    daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    daemon.register(service(entrance)?)?;
    Ok(announcement)
}

fn service(entrance: &Entrance) -> mdns_sd::Result<ServiceInfo> {
    let pin = entrance.pin.base64url();
    let text = [("v", VERSION), ("pin", pin.as_str())];
    let instance = entrance.host.trim_end_matches(".local");
    let (host, port) = (format!("{}.", entrance.host), entrance.bound.port());
    match entrance.bound.ip() {
        // Those of the box, also when they change.
        all if all.is_unspecified() => {
            Ok(ServiceInfo::new(SERVICE, instance, &host, (), port, &text[..])?.enable_addr_auto())
        }
        one => ServiceInfo::new(SERVICE, instance, &host, one, port, &text[..]),
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Says goodbye and ends its thread, which nobody waits for.
        let _ = self.0.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::Fingerprint;

    #[test]
    fn the_gateway_is_known_by_its_pin_under_a_name_of_its_own() {
        let entrance = |bound: &str| Entrance {
            bound: bound.parse().unwrap(),
            pin: Fingerprint([0xfb; 32]),
            host: "outpost-fbfbfbfb.local".to_owned(),
            config: Default::default(),
        };
        let one = service(&entrance("192.168.4.1:8471")).unwrap();
        assert_eq!(one.get_fullname(), "outpost-fbfbfbfb._outpost._tcp.local.");
        assert_eq!((one.get_hostname(), one.get_port()), ("outpost-fbfbfbfb.local.", 8471));
        assert_eq!(one.get_property_val_str("pin"), Some(Fingerprint([0xfb; 32]).base64url().as_str()));
        assert!(!one.is_addr_auto() && service(&entrance("0.0.0.0:8471")).unwrap().is_addr_auto());
    }
}
