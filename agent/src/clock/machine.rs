//! What the machine says of the time: the wall clock, how long it has been running, and which boot this is.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The kernel's name for the present boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Pretends another boot and another wall clock, for tests: `<name of the boot> <milliseconds since 1970>`. The boot then
/// begins when the program does.
const PRETENDED: &str = "OUTPOST_TEST_CLOCK";

/// The machine that the program runs on.
#[derive(Debug)]
pub struct Machine {
    boot_id: String,
    pretended: Option<Pretended>,
}

#[derive(Debug)]
struct Pretended {
    wall_ms: i64,
    began_ms: i64,
}

impl Machine {
    /// This one.
    pub fn this() -> &'static Machine {
        static THIS: OnceLock<Machine> = OnceLock::new();
        THIS.get_or_init(|| {
            let pretended = std::env::var(PRETENDED).unwrap_or_default();
            match pretended.split_once(' ').and_then(|(id, ms)| Some((id, ms.parse().ok()?))) {
                Some((boot_id, wall_ms)) => Machine::pretending(boot_id, wall_ms),
                None => Machine { boot_id: boot_id(), pretended: None },
            }
        })
    }

    /// One whose boot begins now, at any time.
    pub(crate) fn pretending(boot_id: &str, wall_ms: i64) -> Machine {
        let pretended = Some(Pretended { wall_ms, began_ms: boottime_ms() });
        Machine { boot_id: boot_id.to_owned(), pretended }
    }

    /// What this boot is called.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Milliseconds since 1970 by the wall clock; negative before.
    pub fn wall_ms(&self) -> i64 {
        match &self.pretended {
            Some(pretended) => pretended.wall_ms.saturating_add(self.mono_ms()),
            None => system_ms(),
        }
    }

    /// How long this boot has lasted, sleep included, milliseconds.
    pub fn mono_ms(&self) -> i64 {
        boottime_ms() - self.pretended.as_ref().map_or(0, |pretended| pretended.began_ms)
    }
}

fn boottime_ms() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
}

fn system_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// Where the kernel does not say it, each start of the program counts as a boot: then times are bounded where they could have
/// been repaired.
fn boot_id() -> String {
    let said = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
    if said.is_empty() {
        let mut random = [0; 16];
        // Without randomness the time tells starts apart well enough.
        let _ = getrandom::fill(&mut random);
        return format!("start-{:032x}-{}", u128::from_le_bytes(random), boottime_ms());
    }
    said
}

#[cfg(test)]
mod tests {
    use sync_protocol::released::RELEASED_MS;

    use super::*;

    #[test]
    fn the_date_of_the_program_has_passed() {
        assert!(RELEASED_MS <= system_ms(), "the clock of this machine, or the date, is wrong");
    }

    #[test]
    fn a_boot_has_a_name_and_goes_on() {
        let machine = Machine::this();
        assert!(!machine.boot_id().is_empty() && machine.mono_ms() >= 0);
        let pretending = Machine::pretending("1970", 5);
        assert!(pretending.mono_ms() < 60_000 && pretending.wall_ms() - pretending.mono_ms() <= 6);
    }
}
