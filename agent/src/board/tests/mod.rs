//! Boards as their kernels describe them, in folders.

use std::fs;
use std::path::Path;

use sync_protocol::message::{Condition, Reserve};
use tempfile::TempDir;

use super::*;

/// A system with these files.
fn system(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

const MEMORY: &str =
    "MemTotal:         945364 kB\nMemFree:           48212 kB\nMemAvailable:     612340 kB\nBuffers: 1 kB\n";

fn pi_3(throttled: &str, alarm: &str) -> TempDir {
    system(&[
        ("proc/device-tree/model", "Raspberry Pi 3 Model B Plus Rev 1.3\0"),
        ("proc/meminfo", MEMORY),
        ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
        ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
        ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", throttled),
        ("sys/devices/platform/soc/3f202000.mmc/uevent", "x\n"),
        ("sys/class/thermal/thermal_zone0/temp", "52616\n"),
        ("sys/block/mmcblk0/device/name", "SC16G\n"),
        ("sys/block/mmcblk0/device/date", "08/2019\n"),
        ("sys/block/mmcblk0/device/cid", "035344534331364780\n"),
        ("run/systemd/timesync/synchronized", ""),
    ])
}

fn pi_5(battery: &str, life_time: &str, pre_eol: &str) -> TempDir {
    system(&[
        ("proc/device-tree/model", "Raspberry Pi Compute Module 5 Rev 1.0\0"),
        ("proc/meminfo", "MemTotal: 4146176 kB\nMemAvailable: 20480 kB\n"),
        ("sys/class/hwmon/hwmon2/name", "rpi_volt\n"),
        ("sys/class/hwmon/hwmon2/in0_lcrit_alarm", "0\n"),
        ("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/uevent", "x\n"),
        ("sys/class/thermal/thermal_zone0/temp", "83100\n"),
        ("sys/class/thermal/thermal_zone1/temp", "garbage\n"),
        ("sys/class/rtc/rtc0/name", "rpi-rtc soc@107c000000:rpi_rtc\n"),
        ("sys/class/rtc/rtc0/battery_voltage", battery),
        ("sys/block/mmcblk0/device/name", "BJTD4R\n"),
        ("sys/block/mmcblk0/device/life_time", life_time),
        ("sys/block/mmcblk0/device/pre_eol_info", pre_eol),
        ("sys/block/mmcblk0boot0/device/life_time", "0x0b 0x0b\n"),
        ("run/systemd/timesync/.keep", ""),
    ])
}

fn words(root: &Path) -> Vec<&'static str> {
    advice(&of(root)).iter().map(|advice| advice.what).collect()
}

#[test]
fn a_pi_3_with_a_good_supply_says_what_it_is_and_nothing_is_wrong() {
    let root = pi_3("0\n", "0\n");
    let board = of(root.path());
    assert_eq!(board.model.as_deref(), Some("Raspberry Pi 3 Model B Plus Rev 1.3"));
    assert_eq!(board.power, Some(Power::default()));
    assert_eq!(board.temperature_celsius, Some(52));
    assert_eq!((board.memory_bytes, board.memory_free_bytes), (Some(945_364 * 1_024), Some(612_340 * 1_024)));
    assert_eq!(board.clock, BoardClock { has_own: false, has_battery: None, from_network: Some(true) });
    let card = board.cards.first().unwrap();
    assert_eq!((card.name.as_deref(), card.made.as_deref()), (Some("SC16G"), Some("08/2019")));
    assert_eq!((card.worn_percent, card.reserve, board.cards.len()), (None, None, 1));
    assert_eq!(advice(&board), []);
    assert_eq!(board.condition(), Condition { is_clockless: true, ..Condition::default() });
}

#[test]
fn a_weak_supply_is_told_by_the_firmware_or_by_the_driver_alone() {
    let now = Power { weak_now: true, weak: true, slowed_now: true, slowed: true };
    assert_eq!(of(pi_3("50005\n", "0\n").path()).power, Some(now));
    assert_eq!(of(pi_3("0x50005\n", "0\n").path()).power, Some(now));
    let since = Power { weak: true, slowed: true, ..Power::default() };
    assert_eq!(of(pi_3("50000\n", "0\n").path()).power, Some(since));
    let by_driver = Power { weak_now: true, weak: true, ..Power::default() };
    let root = pi_3("0\n", "1\n");
    assert_eq!(of(root.path()).power, Some(by_driver));
    assert_eq!(words(root.path()), ["power supply"]);
    assert!(advice(&of(root.path()))[0].to_do.contains("official power supply"));
    assert!(of(root.path()).condition().is_power_weak);
    // Heat alone is no matter of the supply.
    assert_eq!(words(pi_3("80008\n", "0\n").path()), ["heat"]);
    // A driver that says nothing sensible says nothing.
    assert_eq!(of(pi_3("what\n", "\n").path()).power, None);
}

#[test]
fn a_pi_5_with_a_worn_card_a_hot_processor_and_no_battery_says_so() {
    let root = pi_5("18000\n", "0x02 0x09\n", "0x02\n");
    let board = of(root.path());
    assert_eq!(board.temperature_celsius, Some(83));
    assert_eq!(board.clock, BoardClock { has_own: true, has_battery: Some(false), from_network: Some(false) });
    assert_eq!(board.cards.len(), 1, "parts of a card are no cards");
    assert_eq!((board.cards[0].worn_percent, board.cards[0].reserve), (Some(90), Some("low")));
    assert_eq!(words(root.path()), ["card", "heat", "memory", "clock"]);
    let condition =
        Condition { worn_percent: Some(90), reserve: Reserve::Low, is_clockless: true, ..Condition::default() };
    assert_eq!(board.condition(), condition);
    assert_eq!(of(pi_5("3143586\n", "0x01 0x01\n", "0x01\n").path()).clock.has_battery, Some(true));
    let over = advice(&of(pi_5("3143586\n", "0x0b 0x01\n", "0x03\n").path()));
    assert!(over[0].to_do.contains("now") && over[0].told.contains("its life is over"), "{over:?}");
    assert_eq!(of(pi_5("3143586\n", "0x00 0x00\n", "0x00\n").path()).cards[0].worn_percent, None);
}

#[test]
fn a_pc_and_a_box_that_says_nothing_make_no_fuss() {
    let pc = system(&[
        ("proc/meminfo", MEMORY),
        ("sys/class/rtc/rtc0/name", "rtc_cmos\n"),
        ("sys/class/hwmon/hwmon0/name", "nvme\n"),
        ("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n"),
        ("sys/devices/platform/serial8250/uevent", "x\n"),
        ("sys/block/sda/device/life_time", "0x0b 0x0b\n"),
    ]);
    let board = of(pc.path());
    assert_eq!((board.power, board.cards.len(), board.clock.has_own), (None, 0, true));
    assert_eq!(advice(&board), []);
    assert_eq!(board.condition(), Condition::default());
    let nothing = of(&pc.path().join("none"));
    assert_eq!(nothing, Board::default());
    assert_eq!(advice(&nothing), []);
}

const JOURNAL: &str = "var/log/journal/3d7e/system.journal";
const SYSLOG: &str = "var/log/syslog";

/// A log that was last written to so many hours ago.
fn write_to(root: &TempDir, log: &str, hours_ago: u64) {
    let path = root.path().join(log);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    // In a box that woke up in 1970, too.
    let began = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000 * 3_600);
    file.set_modified(began - std::time::Duration::from_secs(hours_ago * 3_600)).unwrap();
}

#[test]
fn a_log_that_is_written_to_the_card_twice_is_told_and_no_other() {
    let box_of = |logs: &[(&str, u64)]| {
        let root = pi_3("0\n", "0\n");
        logs.iter().for_each(|(log, hours_ago)| write_to(&root, log, *hours_ago));
        root
    };
    let twice = box_of(&[(JOURNAL, 5), (SYSLOG, 3)]);
    assert!(of(twice.path()).logs_twice);
    assert_eq!(words(twice.path()), ["logs"]);
    assert!(advice(&of(twice.path()))[0].to_do.contains("purge --autoremove rsyslog"));
    // One of both only, one that nobody writes to any more, and a journal that is in memory.
    for logs in [
        &[(JOURNAL, 5)][..],
        &[(SYSLOG, 3)],
        &[(JOURNAL, 3), (SYSLOG, 30)],
        &[(JOURNAL, 30), (SYSLOG, 3)],
        &[(JOURNAL, 3), (SYSLOG, 3), ("run/log/journal/3d7e/system.journal", 3)],
    ] {
        assert_eq!(words(box_of(logs).path()), [""; 0], "{logs:?}");
    }
    let no_card = system(&[("proc/meminfo", MEMORY)]);
    [JOURNAL, SYSLOG].iter().for_each(|log| write_to(&no_card, log, 3));
    assert!(!of(no_card.path()).logs_twice);
}

#[test]
fn absurd_texts_are_bounded_and_say_nothing() {
    let long = "\u{1b}[31m".repeat(9_000);
    let files: [(&str, &str); 6] = [
        ("proc/device-tree/model", &long),
        ("proc/meminfo", "MemTotal: 99999999999999999999 kB\nMemAvailable: x kB\n"),
        ("sys/class/thermal/thermal_zone0/temp", "99999999999999"),
        ("sys/class/rtc/rtc0/battery_voltage", "-"),
        ("sys/block/mmcblk0/device/life_time", "0xff 17 0x"),
        ("sys/block/mmcblk0/device/pre_eol_info", "0x7f"),
    ];
    let board = of(system(&files).path());
    let model = board.model.clone().unwrap();
    assert!(model.chars().count() <= 64 && !model.contains('\u{1b}'), "{model}");
    assert_eq!((board.memory_bytes, board.memory_free_bytes, board.temperature_celsius), (None, None, None));
    assert_eq!((board.clock.has_battery, board.cards[0].worn_percent, board.cards[0].reserve), (None, None, None));
}
