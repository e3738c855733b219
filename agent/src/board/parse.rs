//! What the texts of the kernel mean. No files here, and nothing that fails: what makes no sense says nothing.

use sync_protocol::message::Reserve;

use super::Power;

const NAME_CHARS_MAX: usize = 64;
/// Below this there is no battery at a clock that says its voltage; millionths of a volt. An empty cell has still more.
const BATTERY_MICROVOLTS_MIN: i64 = 1_000_000;
/// No board works outside of this.
const CELSIUS: std::ops::RangeInclusive<i32> = -60..=150;

/// The firmware's word, hexadecimal: bits 0 to 3 are now, 16 to 19 the same since the start. 0 is the supply; of the others, the
/// clock was capped, throttled, or held back by heat.
pub(super) fn throttled(text: &str) -> Option<Power> {
    let text = text.trim();
    let bits = u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()?;
    let power = Power {
        weak_now: bits & 1 != 0,
        weak: bits & 0x1_0001 != 0,
        slowed_now: bits & 0xe != 0,
        slowed: bits & 0xe_000e != 0,
    };
    Some(power)
}

/// A decimal number.
pub(super) fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// Thousandths of a degree, as degrees.
pub(super) fn celsius(text: &str) -> Option<i32> {
    i32::try_from(number(text)? / 1_000).ok().filter(|celsius| CELSIUS.contains(celsius))
}

/// Memory in all, and what programs could still get, from `/proc/meminfo`.
pub(super) fn memory(text: &str) -> (Option<u64>, Option<u64>) {
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
    };
    (of("MemTotal"), of("MemAvailable"))
}

/// Whether a clock has a battery, by its voltage.
pub(super) fn battery(text: &str) -> Option<bool> {
    number(text).map(|microvolts| microvolts >= BATTERY_MICROVOLTS_MIN)
}

/// How much of an eMMC's life is used. It says two numbers, for two kinds of memory, in steps of ten percent; 0 is not known.
pub(super) fn worn(text: &str) -> Option<u8> {
    let steps = text.split_whitespace().filter_map(hexadecimal).filter(|step| (1..=11).contains(step));
    steps.max().map(|step| step.saturating_mul(10))
}

/// What an eMMC says of its reserve.
pub(super) fn reserve(text: &str) -> Reserve {
    hexadecimal(text.trim()).map_or(Reserve::Unknown, |number| Reserve::from_number(u64::from(number)))
}

fn hexadecimal(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A word for people: what could not be shown is left out.
pub(super) fn name(text: &str) -> Option<String> {
    let name: String = text.trim().chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
