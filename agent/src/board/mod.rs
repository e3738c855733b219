//! What the box says of itself: power, heat, memory, clock, card. Read from files of the kernel, never from other programs.
//!
//! Whatever a box does not have is absent, and nobody is told of it. A Raspberry Pi has most of it; a PC little. What is read is small
//! and costs no write; what it means is decided in [`advice`], and the texts are read by [`parse`], which knows of no files.
//!
//! # Where it comes from
//! - A weak power supply: the driver `raspberrypi-hwmon` (chip `rpi_volt`), which says how it is now; and the firmware's own word,
//!   where the kernel has that file (not on a Pi 5). Its bits 16 to 19 say what has been since the start, but the driver clears bit 16
//!   every other second, so this program remembers what it has once seen, and the gateway waits for what the driver finds ([`supply`]).
//! - Wear: eMMC says it (JEDEC 5.0: `life_time`, `pre_eol_info`). Nearly all SD cards do not: of those only name and age are known.
//! - Whether the time comes from the network: `systemd-timesyncd` leaves a file at its first success.
//! - Whether every line of the log is written to the card twice: by the times at which the journal and a syslog were last written to.

mod advice;
mod parse;
mod supply;

#[cfg(test)]
mod tests;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sync_protocol::message::{Condition, Reserve};
use utoipa::ToSchema;

pub(crate) use self::advice::advice;
pub(crate) use self::supply::watch_supply;

/// The environment variable that makes another box of this one, for tests: a folder with its `sys`, `proc` and `run`.
const PRETENDED: &str = "OUTPOST_TEST_ROOT";
/// Entries that are looked at in one folder of the system.
const ENTRIES_MAX: usize = 64;
/// Bytes that are taken of one file.
const TEXT_BYTES_MAX: u64 = 4_096;
/// Of two logs that get the same lines, none is older than the other by more, seconds.
const LOGS_APART_MAX: u64 = 24 * 3_600;

/// The power supply was too weak, or the processor slowed down, at some time since this program was started.
static WAS_WEAK: AtomicBool = AtomicBool::new(false);
static WAS_SLOWED: AtomicBool = AtomicBool::new(false);
/// The card took no writes when this program was started.
static IS_READ_ONLY: AtomicBool = AtomicBool::new(false);

/// What is known of the box. What is absent is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Board {
    /// What it is, such as `Raspberry Pi 4 Model B Rev 1.4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its power supply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// How hot the hottest part that is measured is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<i32>,
    /// Memory that programs could still get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    /// All of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Its clock.
    pub clock: BoardClock,
    /// The cards in it: SD and eMMC.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<Card>,
    /// The card of the records takes no writes any more: nothing new is taken, and it has to be replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub card_read_only: bool,
    /// The journal is kept on the card, and a syslog writes every line there once more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logs_twice: bool,
}

/// What is known of the power supply, and of what slows the processor down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Power {
    /// It is too weak now.
    pub weak_now: bool,
    /// It has been since the start.
    pub weak: bool,
    /// The processor is being slowed down now, by heat or by a weak supply.
    pub slowed_now: bool,
    /// It has been since the start.
    pub slowed: bool,
}

/// What keeps the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct BoardClock {
    /// There is a clock that goes on without power.
    pub has_own: bool,
    /// Its battery is there; only some boards say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_battery: Option<bool>,
    /// The time has come from the network since the start; absent if nothing here would know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_network: Option<bool>,
}

/// A card.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Card {
    /// Its device, such as `mmcblk0`.
    pub device: String,
    /// What its maker calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Month and year in which it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
    /// How much of its life is used, percent in steps of ten; above 100 it is past its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worn_percent: Option<u8>,
    /// How much of its reserve is left: `enough`, `low` or `ending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<&'static str>,
    #[serde(skip)]
    eol: Reserve,
}

/// The box that this is.
pub(crate) fn here() -> Board {
    let mut board = of(&root());
    board.card_read_only = IS_READ_ONLY.load(Ordering::Relaxed);
    if let Some(power) = &mut board.power {
        power.weak |= WAS_WEAK.fetch_or(power.weak, Ordering::Relaxed);
        power.slowed |= WAS_SLOWED.fetch_or(power.slowed, Ordering::Relaxed);
    }
    board
}

fn root() -> PathBuf {
    std::env::var_os(PRETENDED).map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// Remembers that the card takes no writes.
pub(crate) fn note_read_only_card() {
    IS_READ_ONLY.store(true, Ordering::Relaxed);
}

/// The box whose system has these files.
pub(crate) fn of(root: &Path) -> Board {
    let (memory_bytes, memory_free_bytes) =
        text(&root.join("proc/meminfo")).map_or((None, None), |text| parse::memory(&text));
    let cards = cards(root);
    Board {
        model: text(&root.join("proc/device-tree/model")).and_then(|text| parse::name(&text)),
        power: power(root),
        temperature_celsius: temperature(root),
        memory_free_bytes,
        memory_bytes,
        clock: clock(root),
        logs_twice: !cards.is_empty() && logs_twice(root),
        cards,
        card_read_only: false,
    }
}

impl Board {
    /// What the hub is told.
    pub(crate) fn condition(&self) -> Condition {
        let power = self.power.unwrap_or_default();
        let worst = self.cards.iter().map(|card| card.eol).max_by_key(|eol| eol.number());
        Condition {
            is_power_weak: power.weak,
            is_slowed: power.slowed,
            // Without its battery it stands still whenever the power is out.
            is_clockless: !self.clock.has_own || self.clock.has_battery == Some(false),
            worn_percent: self.cards.iter().filter_map(|card| card.worn_percent).max(),
            // It is as much at its end as one that says so.
            reserve: if self.card_read_only { Reserve::Ending } else { worst.unwrap_or_default() },
        }
    }
}

/// The file in which the driver says whether the supply is too weak.
fn alarm(root: &Path) -> Option<PathBuf> {
    let chips = entries(&root.join("sys/class/hwmon"), "hwmon");
    let is_volt = |chip: &PathBuf| text(&chip.join("name")).is_some_and(|name| name.trim() == "rpi_volt");
    chips.into_iter().find(is_volt).map(|chip| chip.join("in0_lcrit_alarm"))
}

fn power(root: &Path) -> Option<Power> {
    let alarm = alarm(root).and_then(|file| parse::number(&text(&file)?)).map(|number| number != 0);
    // `soc` on older kernels, `soc@107c000000` and the like on newer ones.
    let socs = entries(&root.join("sys/devices/platform"), "soc");
    let firmware = socs.iter().flat_map(|soc| entries(soc, "soc")).map(|part| part.join("get_throttled"));
    let throttled = firmware.filter_map(|file| text(&file)).find_map(|text| parse::throttled(&text));
    if alarm.is_none() && throttled.is_none() {
        return None;
    }
    let mut power = throttled.unwrap_or_default();
    let is_alarmed = alarm.unwrap_or(false);
    (power.weak_now, power.weak) = (power.weak_now | is_alarmed, power.weak | is_alarmed);
    Some(power)
}

fn temperature(root: &Path) -> Option<i32> {
    let zones = entries(&root.join("sys/class/thermal"), "thermal_zone");
    let celsius = zones.iter().filter_map(|zone| parse::celsius(&text(&zone.join("temp"))?));
    celsius.max()
}

fn clock(root: &Path) -> BoardClock {
    let clocks = entries(&root.join("sys/class/rtc"), "rtc");
    let volts = clocks.first().and_then(|rtc| text(&rtc.join("battery_voltage")));
    let timesync = root.join("run/systemd/timesync");
    BoardClock {
        has_own: !clocks.is_empty(),
        has_battery: volts.and_then(|text| parse::battery(&text)),
        from_network: timesync.is_dir().then(|| timesync.join("synchronized").exists()),
    }
}

fn cards(root: &Path) -> Vec<Card> {
    let devices = entries(&root.join("sys/block"), "mmcblk");
    let device = |folder: PathBuf| {
        let name = folder.file_name()?.to_str()?.to_owned();
        // `mmcblk0boot0` and its like are parts of a card.
        name.strip_prefix("mmcblk").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))?;
        let fact = |fact: &str| text(&folder.join("device").join(fact));
        let eol = fact("pre_eol_info").map_or(Reserve::Unknown, |text| parse::reserve(&text));
        Some(Card {
            name: fact("name").and_then(|text| parse::name(&text)),
            made: fact("date").and_then(|text| parse::name(&text)),
            worn_percent: fact("life_time").and_then(|text| parse::worn(&text)),
            reserve: match eol {
                Reserve::Unknown => None,
                Reserve::Enough => Some("enough"),
                Reserve::Low => Some("low"),
                Reserve::Ending => Some("ending"),
            },
            device: name,
            eol,
        })
    };
    devices.into_iter().filter_map(device).collect()
}

/// By what was done, and not by settings, of which there may be several that overrule each other. A log that is elsewhere than the
/// system itself is in memory, most likely, where it wears nothing.
fn logs_twice(root: &Path) -> bool {
    let journals = |place: &str| {
        let machines = entries(&root.join(place), "");
        machines.into_iter().filter_map(|machine| fs::metadata(machine.join("system.journal")).ok()).collect::<Vec<_>>()
    };
    let (Ok(system), Ok(syslog)) = (fs::metadata(root), fs::metadata(root.join("var/log/syslog"))) else {
        return false;
    };
    let is_on_card = |file: &fs::Metadata| file.dev() == system.dev();
    let is_like_syslog = |journal: &fs::Metadata| journal.mtime().abs_diff(syslog.mtime()) <= LOGS_APART_MAX;
    // A journal in memory is the one that is written to, whatever one before has left on the card.
    is_on_card(&syslog)
        && journals("run/log/journal").is_empty()
        && journals("var/log/journal").iter().any(|journal| is_on_card(journal) && is_like_syslog(journal))
}

/// What is in a folder and begins so, by name.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(listed) = fs::read_dir(folder) else { return Vec::new() };
    let is_meant = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(prefix));
    let mut found: Vec<PathBuf> =
        listed.flatten().map(|entry| entry.path()).filter(is_meant).take(ENTRIES_MAX).collect();
    found.sort();
    found
}

/// What a file says; `None` if it is not there or cannot be read, as drivers are that have nothing to say.
fn text(file: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(file).ok()?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
